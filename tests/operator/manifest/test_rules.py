"""The rules over several fields: the CEL text and the Python beside it say the same, on sections that keep and that break each rule."""

from __future__ import annotations

import re
from typing import Any

import pytest
from tests.operator.manifest.cel import evaluate

from llmtrain_operator.manifest import crd
from llmtrain_operator.manifest.parse import manifest_schema
from llmtrain_operator.manifest.rules.registry import RULES
from llmtrain_operator.manifest.rules.rule import Rule
from llmtrain_operator.manifest.schema import below, defaulted

Section = dict[str, Any]
SPEC: Section = {
    "model": {"source": "hf://acme/tiny"},
    "dataset": [{"source": "file:///data"}],
    "training": {"globalBatchSize": 8, "sequenceLength": 128, "maxSteps": 100},
}
RANDOM: Section = {**SPEC, "model": {"config": {"model_type": "llama"}}}
STREAM: Section = {**SPEC, "dataset": [{"source": "file:///a"}, {"source": "file:///b", "streaming": True}]}
CHAT: Section = {**SPEC, "task": "sft", "dataset": [{"source": "file:///a", "format": "messages"}]}
LABELLED: Section = {**SPEC, "task": "classify", "dataset": [{"source": "file:///a", "format": "textLabel"}]}
EPOCHS: Section = {"globalBatchSize": 8, "sequenceLength": 128, "epochs": 1.5}
STEPS: Section = SPEC["training"]
STORE: Section = {"destination": "s3://bucket/job"}

# (section, field): sections that keep the rule, sections that break it
EXAMPLES: dict[tuple[str, str], tuple[list[Section], list[Section]]] = {
    ("spec.model", "source"): (
        [{"source": "hf://a/b"}, {"config": {"model_type": "llama"}}, {"config": {}}],
        [{}, {"source": "hf://a/b", "config": {}}],
    ),
    ("spec.model", "revision"): (
        [{"source": "hf://a/b", "revision": "main"}, {"source": "s3://a/b"}],
        [{"source": "s3://a/b", "revision": "main"}, {"config": {}, "revision": "main"}],
    ),
    ("spec.tokenizer.train", "vocabSize"): (
        [{"vocabSize": 259}, {"vocabSize": 100, "algorithm": "unigram"}],
        [{"vocabSize": 258}, {"vocabSize": 2, "algorithm": "bpe"}],
    ),
    **{
        (f"spec.{datasets}[]", "split"): (
            [{"source": "file:///x", "split": "test[:5%]"}, {"source": "hf://a/b", "split": "train[10:100]", "streaming": True}],
            [{"source": "hf://a/b", "split": split, "streaming": True} for split in ("train[:5%]", "train[-5:]", "train[:-5]")],
        )
        for datasets in ("dataset", "evaluation.dataset")
    },
    **{
        (f"spec.{datasets}[]", "roles"): (
            [
                {"source": "file:///a"},
                {"source": "file:///a", "format": "sharegpt", "roles": {"bot": "assistant"}},
                {"source": "file:///a", "format": "messages", "roles": {"bot": "assistant"}},
            ],
            [
                {"source": "file:///a", "roles": {"bot": "assistant"}},
                {"source": "file:///a", "format": "promptCompletion", "roles": {"bot": "assistant"}},
            ],
        )
        for datasets in ("dataset", "evaluation.dataset")
    },
    ("spec.tokenizer", "train"): (
        [{}, {"source": "hf://a/b"}, {"train": {"vocabSize": 512}}],
        [{"source": "hf://a/b", "train": {"vocabSize": 512}}],
    ),
    ("spec", "tokenizer"): (
        [SPEC, {**RANDOM, "tokenizer": {"source": "hf://a/b"}}, {**RANDOM, "tokenizer": {"train": {"vocabSize": 512}}}],
        [RANDOM, {**RANDOM, "tokenizer": {}}, {**RANDOM, "tokenizer": {"chatTemplate": "x"}}],
    ),
    ("spec", "tokenizer.train"): (
        [
            SPEC,
            {**SPEC, "tokenizer": {"source": "hf://a/b"}},
            {**RANDOM, "tokenizer": {"train": {"vocabSize": 512}}},
            {**SPEC, "model": {"source": "hf://a/b", "init": "random"}, "tokenizer": {"train": {"vocabSize": 512}}},
        ],
        [{**SPEC, "tokenizer": {"train": {"vocabSize": 512}}}],
    ),
    ("spec", "dataset"): (
        [SPEC, CHAT, {**SPEC, "task": "sft"}, {**CHAT, "dataset": [{"source": "file:///a", "format": "promptCompletion"}]}],
        [{**CHAT, "task": "pretrain"}, {**SPEC, "dataset": [*SPEC["dataset"], *CHAT["dataset"]]}],
    ),
    ("spec", "evaluation.dataset"): (
        [SPEC, {**SPEC, "evaluation": {"split": 0.1}}, {**CHAT, "evaluation": {"dataset": CHAT["dataset"]}}],
        [{**SPEC, "evaluation": {"dataset": CHAT["dataset"]}}],
    ),
    ("spec", "task"): (
        [SPEC, CHAT, LABELLED, {**LABELLED, "evaluation": {"dataset": LABELLED["dataset"]}}, {**LABELLED, "evaluation": {"split": 0.1}}],
        [
            {**SPEC, "task": "classify"},
            {**LABELLED, "task": "sft"},
            {**LABELLED, "dataset": [*LABELLED["dataset"], *CHAT["dataset"]]},
            {**LABELLED, "evaluation": {"dataset": CHAT["dataset"]}},
            {**CHAT, "evaluation": {"dataset": LABELLED["dataset"]}},
        ],
    ),
    ("spec", "labels"): (
        [SPEC, LABELLED, {**LABELLED, "labels": ["a", "b"]}],
        [{**LABELLED, "labels": ["a"]}, {**CHAT, "labels": ["a", "b"]}],
    ),
    ("spec.evaluation.dataset[]", "streaming"): ([{"source": "file:///a"}], [{"source": "file:///a", "streaming": True}]),
    ("spec", "evaluation.split"): (
        [SPEC, STREAM, {**SPEC, "evaluation": {"split": 0.1}}, {**STREAM, "evaluation": {"dataset": [{"source": "file:///c"}]}}],
        [{**STREAM, "evaluation": {"split": 0.1}}],
    ),
    ("spec", "training.maxSteps"): ([SPEC, STREAM, {**SPEC, "training": EPOCHS}], [{**STREAM, "training": EPOCHS}]),
    ("spec.training", "maxSteps"): (
        [STEPS, EPOCHS],
        [{**STEPS, "epochs": 1}, {"globalBatchSize": 8, "sequenceLength": 128}],
    ),
    ("spec.training", "schedule.warmupSteps"): (
        [STEPS, {**STEPS, "schedule": {"warmupSteps": 100}}, {**EPOCHS, "schedule": {"warmupSteps": 10_000}}],
        [{**STEPS, "schedule": {"warmupSteps": 101}}],
    ),
    ("spec.training.schedule", "warmupRatio"): (
        [{}, {"warmupRatio": 0.1}, {"warmupSteps": 5}, {"warmupRatio": 0.1, "warmupSteps": 0}],
        [{"warmupRatio": 0.1, "warmupSteps": 5}],
    ),
    ("spec.parallelism", "schedule"): (
        [{}, {"schedule": "gpipe"}, {"virtualStages": 2}, {"virtualStages": 2, "schedule": "interleaved"}],
        [{"virtualStages": 2, "schedule": "1f1b"}, {"virtualStages": 4, "schedule": "gpipe"}],
    ),
    ("spec.parallelism", "virtualStages"): (
        [{}, {"schedule": "1f1b"}, {"virtualStages": 2, "schedule": "interleaved"}],
        [{"schedule": "interleaved"}, {"schedule": "interleaved", "virtualStages": 1}],
    ),
    ("spec.parallelism", "deepspeed"): (
        [{}, {"engine": "deepspeed", "deepspeed": {"a": 1}}, {"engine": "megatron"}, {"engine": "auto", "deepspeed": {"a": 1}}],
        [{"deepspeed": {}}, {"engine": "megatron", "deepspeed": {"a": 1}}],
    ),
    ("spec.parallelism", "offload"): (
        [{}, {"engine": "deepspeed", "offload": {"optimizer": "cpu"}}],
        [{"offload": {}}, {"engine": "megatron", "offload": {"optimizer": "cpu"}}],
    ),
    ("spec.parallelism.offload", "path"): (
        [{}, {"optimizer": "cpu"}, {"optimizer": "nvme", "path": "/local"}, {"parameters": "nvme", "path": "/local"}],
        [{"path": "/local"}, {"optimizer": "nvme"}, {"parameters": "nvme"}, {"optimizer": "cpu", "path": "/local"}],
    ),
    ("spec.evaluation", "split"): (
        [{"split": 0.1}, {"dataset": [{"source": "file:///held-out"}]}],
        [{}, {"split": 0.1, "dataset": [{"source": "file:///held-out"}]}],
    ),
    ("spec.checkpoint.every", "steps"): ([{"steps": 10}, {"interval": "15m"}, {"steps": 10, "interval": "15m"}], [{}]),
    ("spec.resources", "procsPerNode"): (
        [{}, {"procsPerNode": 4}, {"gpusPerNode": 8, "gpu": "L4"}],
        [{"procsPerNode": 4, "gpusPerNode": 8, "gpu": "L4"}],
    ),
    ("spec.resources", "gpu"): ([{}, {"gpusPerNode": 8, "gpu": "L4"}], [{"gpusPerNode": 8}]),
    ("spec.resources", "gpusPerNode"): ([{}, {"gpusPerNode": 8, "gpu": "L4"}], [{"gpu": "L4"}]),
    ("spec.resources", "rdma"): ([{}, {"rdma": {"rdma/hca": 8, "a.b/c": 1}}], [{"rdma": {"rdma/hca": 8, "hca": 1}}]),
    ("spec.resources", "hugepages"): (
        [{}, {"hugepages": {"2Mi": "1Gi"}, "memory": "1Gi"}, {"hugepages": {"2Mi": "1Gi"}, "cpu": "1"}],
        [{"hugepages": {"2Mi": "1Gi"}}],
    ),
    ("spec.resources", "cpuLimit"): ([{}, {"cpu": "1"}, {"cpu": "1", "cpuLimit": "1"}], [{"cpuLimit": "1"}]),
    ("spec.scheduling.tolerations[]", "tolerationSeconds"): (
        [{"key": "a"}, {"key": "a", "effect": "NoExecute", "tolerationSeconds": 0}],
        [{"key": "a", "tolerationSeconds": 1}, {"key": "a", "effect": "NoSchedule", "tolerationSeconds": 1}],
    ),
    ("spec.scheduling", "queue"): (
        [{}, {"gang": "none"}, {"queue": "a"}, {"queue": "a", "gang": "volcano"}],
        [{"queue": "a", "gang": "none"}, {"queue": "a", "gang": "coscheduling"}],
    ),
    ("spec.scheduling.topology", "required"): (
        [{"required": "rack"}, {"preferred": "rack"}],
        [{}, {"required": "rack", "preferred": "zone"}],
    ),
    ("spec.scheduling.tolerations[]", "value"): (
        [{"key": "a", "value": "b"}, {"operator": "Exists"}],
        [{"key": "a", "operator": "Exists", "value": "b"}],
    ),
    ("spec.scheduling.tolerations[]", "key"): ([{"key": "a"}, {"operator": "Exists"}], [{}, {"value": "b"}]),
    ("spec", "output.export"): (
        [SPEC, {**SPEC, "output": {"export": []}}, {**SPEC, "output": {"export": ["full", "merged"]}, "peft": {}}],
        [{**SPEC, "output": {"export": ["full", "merged"]}}, {**SPEC, "output": {"export": ["adapter"]}}],
    ),
    ("spec.output", "export"): ([{}, {"export": ["full", "adapter", "merged"]}, {"export": []}], [{"export": ["full", "full"]}]),
    ("spec", "startupDeadlineSeconds"): (
        [SPEC, {**SPEC, "startupDeadlineSeconds": 60}, {**SPEC, "startupDeadlineSeconds": 60, "activeDeadlineSeconds": 60}],
        [{**SPEC, "startupDeadlineSeconds": 61, "activeDeadlineSeconds": 60}],
    ),
    **{
        (f"spec.{datasets}[]", f"columns.{column}"): (
            [
                {"source": "file:///a", "format": read},
                {"source": "file:///a", "format": read, "columns": {column: "mine"}},
                {"source": "file:///a", "format": other, "columns": {column: "input_ids" if column == "ids" else column}},
            ],
            [{"source": "file:///a", "format": other, "columns": {column: "mine"}}],
        )
        for datasets in ("dataset", "evaluation.dataset")
        for column, read, other in (
            ("text", "text", "messages"),
            ("label", "textLabel", "text"),
            ("prompt", "promptCompletion", "text"),
            ("completion", "promptCompletion", "alpaca"),
            ("messages", "messages", "sharegpt"),
            ("conversations", "sharegpt", "messages"),
            ("instruction", "alpaca", "promptCompletion"),
            ("input", "alpaca", "text"),
            ("output", "alpaca", "text"),
            ("history", "alpaca", "sharegpt"),
            ("system", "sharegpt", "messages"),
            ("context", "squad", "text"),
            ("question", "squad", "alpaca"),
            ("answers", "squad", "lines"),
            ("ids", "tokens", "text"),
            ("labels", "tokens", "messages"),
            ("tools", "messages", "text"),
        )
    },
    **{
        (f"spec.{datasets}[]", field): (
            [{"source": "file:///a", "format": "alpaca", field: value}, {"source": "file:///a"}],
            [{"source": "file:///a", field: value}],
        )
        for datasets in ("dataset", "evaluation.dataset")
        for field, value in (("maxCut", 0.9), ("dropReasoning", True), ("system", "Be brief."))
    },
    **{
        (f"spec.{datasets}[]", "noAnswer"): (
            [{"source": "file:///a", "format": "squad", "noAnswer": "None."}, {"source": "file:///a"}],
            [{"source": "file:///a", "format": "alpaca", "noAnswer": "None."}, {"source": "file:///a", "noAnswer": "None."}],
        )
        for datasets in ("dataset", "evaluation.dataset")
    },
    **{
        (f"spec.{datasets}[]", f"truncate.{key}"): (
            [
                {"source": "file:///a", "format": "alpaca", "truncate": {key: value}},
                {"source": "file:///a", "truncate": {}},
                {"source": "file:///a"},
            ],
            [{"source": "file:///a", "format": "lines", "truncate": {key: value}}],
        )
        for datasets in ("dataset", "evaluation.dataset")
        for key, value in (("prompt", "drop"), ("reserve", 64))
    },
    **{
        (f"spec.{datasets}[]", f"clean.{key}"): (
            [
                {"source": "file:///a", "clean": {key: 5}},
                {"source": "file:///a", "format": "tokens", "clean": {"duplicates": "exact"}},
                {"source": "file:///a", "format": "tokens"},
            ],
            [{"source": "file:///a", "format": "tokens", "clean": {key: 5}}],
        )
        for datasets in ("dataset", "evaluation.dataset")
        for key in ("minCharacters", "maxCharacters")
    },
    **{
        (f"spec.{datasets}[]", f"template.{key}"): (
            [
                {"source": "file:///a", "format": read, "template": {key: "{{ x }}"}},
                {"source": "file:///a", "format": other, "template": {}},
                {"source": "file:///a", "format": other},
            ],
            [{"source": "file:///a", "format": other, "template": {key: "{{ x }}"}}],
        )
        for datasets in ("dataset", "evaluation.dataset")
        for key, read, other in (
            ("text", "lines", "messages"),
            ("prompt", "promptCompletion", "text"),
            ("completion", "promptCompletion", "text"),
            ("instruction", "alpaca", "promptCompletion"),
            ("input", "alpaca", "text"),
            ("output", "alpaca", "text"),
            ("system", "sharegpt", "messages"),
            ("context", "squad", "text"),
            ("question", "squad", "alpaca"),
        )
    },
    ("spec.evaluation.dataset[]", "weight"): (
        [{"source": "file:///a"}, {"source": "file:///a", "weight": 1.0}],
        [{"source": "file:///a", "weight": 0.5}],
    ),
    ("spec.tokenizer.train", "minFrequency"): (
        [{"vocabSize": 300, "minFrequency": 5}, {"vocabSize": 300, "algorithm": "unigram"}],
        [{"vocabSize": 300, "algorithm": "unigram", "minFrequency": 5}],
    ),
    ("spec.training.schedule", "minRatio"): (
        [{"minRatio": 0.2}, {"name": "constant"}],
        [{"name": "constant", "minRatio": 0.0}],
    ),
    ("spec.training.schedule", "decayRatio"): (
        [{"name": "wsd", "decayRatio": 0.5}, {"name": "linear"}],
        [{"name": "linear", "decayRatio": 0.5}, {"decayRatio": 0.5}],
    ),
    ("spec.training.schedule", "power"): (
        [{"name": "polynomial", "power": 2.0}, {"name": "linear"}, {"name": "linear", "power": 1.0}],
        [{"name": "linear", "power": 2.0}, {"power": 0.5}],
    ),
    ("spec.training.schedule", "cycles"): (
        [{"name": "cosineRestarts", "cycles": 3}, {"name": "cosine"}, {"name": "cosine", "cycles": 1}],
        [{"name": "cosine", "cycles": 3}, {"cycles": 2}],
    ),
    ("spec.resources", "gpuResource"): (
        [{}, {"gpusPerNode": 1, "gpuResource": "amd.com/gpu"}],
        [{"gpuResource": "amd.com/gpu"}],
    ),
    ("spec", "parallelism.schedule"): (
        [SPEC, *({**SPEC, "parallelism": {"schedule": "gpipe", **more}} for more in ({"auto": True}, {"pipeline": 2}))],
        [{**SPEC, "parallelism": {"schedule": "1f1b"}}, {**SPEC, "parallelism": {"schedule": "1f1b", "pipeline": 1}}],
    ),
    ("spec.output", "destination"): (
        [STORE, {**STORE, "export": []}, {**STORE, "report": False}, {"export": [], "report": False}],
        [{**STORE, "export": [], "report": False}],
    ),
}


def section_schema(rule: Rule) -> Section:
    steps: list[str | int] = []
    for step in rule.at.split("."):
        steps += [step.removesuffix("[]"), 0] if step.endswith("[]") else [step]
    found = below(manifest_schema(), tuple(steps))
    assert found is not None
    return found


def test_every_rule_has_examples_and_one_name() -> None:
    names = [(rule.at, rule.field) for rule in RULES]
    assert sorted(names) == sorted(EXAMPLES)
    assert all(kept and broken for kept, broken in EXAMPLES.values())


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.at}.{rule.field}")
def test_cel_and_python_agree(rule: Rule) -> None:
    kept, broken = EXAMPLES[rule.at, rule.field]
    for section, expected in [(section, True) for section in kept] + [(section, False) for section in broken]:
        filled = defaulted(section, section_schema(rule))
        assert rule.holds(filled) is expected, f"Python: {section}"
        assert evaluate(rule.cel, filled) is expected, f"CEL: {section}"


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.at}.{rule.field}")
def test_a_rule_reads_fields_that_exist_and_says_which(rule: Rule) -> None:
    schema = section_schema(rule)
    for path in (rule.field, *rule.reads):
        assert below(schema, tuple(path.split("."))) is not None, path
    used = {path.rstrip(".") for path in re.findall(r"self\.((?:\w+\.?)+)(?![\w(])", rule.cel)}
    for path in used:
        steps = tuple(step for step in path.split(".") if step not in {"exists", "all", "exists_one", "startsWith", "contains"})
        assert below(schema, steps) is not None, path
        assert any(steps[: len(read.split("."))] == tuple(read.split(".")) for read in rule.reads), f"{path} is not in reads"


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.at}.{rule.field}")
def test_a_rule_speaks_plainly(rule: Rule) -> None:
    assert rule.message.startswith(f"{rule.field}: ")
    assert "\n" not in rule.message and len(rule.message) < 250
    assert not rule.rule.endswith(".") and not rule.way_out.endswith(".")


def test_every_rule_stands_in_the_crd() -> None:
    text = crd.render()
    rules = [entry for schema in _all(crd.object_schema()) for entry in schema.get("x-kubernetes-validations", ())]
    for rule in RULES:
        assert {"rule": rule.cel, "message": rule.message} in rules
    assert text.count("rule: ") == len(rules) and len(rules) > len(RULES)


def _all(schema: Section) -> list[Section]:
    inner = [*schema.get("properties", {}).values(), *(schema[key] for key in ("items", "additionalProperties") if key in schema)]
    return [schema, *(found for each in inner for found in _all(each))]
