"""Fields that must suit each other, each rule as CEL for the API server and as Python for parsing.

Both see a section with its defaults filled in. Rules on divisibility and on the model's shape are in plan/checks.
"""

from __future__ import annotations

from collections.abc import Callable

from llmtrain_operator.manifest.rules.rule import Rule, Section
from llmtrain_trainer.config.tables.data_rules import A_STREAM_HAS_NO_KNOWN_END, A_STREAM_HOLDS_NOTHING_OUT, VALIDATION_IS_READ_AGAIN
from llmtrain_trainer.config.tables.engines import OFFLOADING
from llmtrain_trainer.config.tables.tasks import TASKS


def _engine_is(*names: str) -> str:
    """A CEL expression on spec.parallelism."""
    return " || ".join(f"self.engine == '{name}'" for name in names)


def _names_nothing(section: Section) -> bool:
    return not section.get("source") and not section.get("train")


LABELLED = [name for name, traits in TASKS.items() if traits.labels]
"""Tasks that learn labels."""

LABEL_FORMATS = [name for task in LABELLED for name in TASKS[task].formats]
"""Formats whose rows have them."""

_SUITS = f"(d.format in {LABEL_FORMATS}) == (self.task in {LABELLED})"
"""A CEL expression on a dataset `d`."""


def _labels_suit(spec: Section) -> bool:
    datasets = [*spec["dataset"], *spec.get("evaluation", {}).get("dataset", [])]
    return spec["task"] == "pretrain" or all((dataset["format"] in LABEL_FORMATS) == (spec["task"] in LABELLED) for dataset in datasets)


def _formats_suit(field: str) -> Callable[[Section], bool]:
    """A check that pretraining can use the format of each dataset in a field of spec."""
    evaluated = field.startswith("evaluation.")

    def holds(spec: Section) -> bool:
        datasets = spec.get("evaluation", {}).get("dataset", []) if evaluated else spec["dataset"]
        return spec["task"] != "pretrain" or all(dataset["format"] in TASKS["pretrain"].formats for dataset in datasets)

    return holds


COMBINATIONS: tuple[Rule, ...] = (
    Rule(
        at="spec.model",
        field="source",
        reads=("source", "config"),
        cel="has(self.source) != has(self.config)",
        holds=lambda self: ("source" in self) != ("config" in self),
        rule="a model has either a source or a config",
        way_out="Give source for existing weights, or config for random weights in that shape",
    ),
    Rule(
        at="spec.model",
        field="revision",
        reads=("source", "revision"),
        cel="!has(self.revision) || (has(self.source) && self.source.startsWith('hf://'))",
        holds=lambda self: "revision" not in self or self.get("source", "").startswith("hf://"),
        rule="only an hf:// source has revisions",
        way_out="Leave revision out, or take the model from hf://owner/name",
    ),
    Rule(
        at="spec.tokenizer",
        field="train",
        reads=("source", "train"),
        cel="!(has(self.source) && has(self.train))",
        holds=lambda self: not ("source" in self and "train" in self),
        rule="a tokenizer is loaded or trained, not both",
        way_out="Keep either source or train",
    ),
    Rule(
        at="spec.tokenizer.train",
        field="vocabSize",
        reads=("algorithm", "vocabSize"),
        cel="self.algorithm != 'bpe' || self.vocabSize >= 259",
        holds=lambda self: self["algorithm"] != "bpe" or self["vocabSize"] >= 259,
        rule="byte-level bpe needs 256 bytes, 2 special tokens and at least one merge",
        way_out="Give at least 259, or another algorithm",
    ),
    *(
        Rule(
            at=f"spec.{datasets}[]",
            field="split",
            reads=("split", "streaming"),
            cel="!self.streaming || !(self.split.contains('%') || self.split.contains('[-') || self.split.contains(':-'))",
            holds=lambda self: not self["streaming"] or not any(mark in self["split"] for mark in ("%", "[-", ":-")),
            rule="how many rows a streaming dataset has is not known",
            way_out="Write a slice of row numbers such as train[0:1000], or set streaming to false",
        )
        for datasets in ("dataset", "evaluation.dataset")
    ),
    Rule(
        at="spec",
        field="tokenizer",
        reads=("model", "tokenizer"),
        cel="!has(self.model.config) || (has(self.tokenizer) && (has(self.tokenizer.source) || has(self.tokenizer.train)))",
        holds=lambda self: "config" not in self["model"] or not _names_nothing(self.get("tokenizer", {})),
        rule="a model from an inline config has no tokenizer",
        way_out="Give tokenizer.source, or tokenizer.train to train one from the datasets",
    ),
    Rule(
        at="spec",
        field="tokenizer.train",
        reads=("model", "tokenizer"),
        cel="!has(self.tokenizer) || !has(self.tokenizer.train) || has(self.model.config) || self.model.init == 'random'",
        holds=lambda self: "train" not in self.get("tokenizer", {}) or "config" in self["model"] or self["model"]["init"] == "random",
        rule="pretrained weights work only with their own tokenizer",
        way_out="Leave tokenizer.train out, or start from random weights with model.init: random",
    ),
    *(
        Rule(
            at="spec",
            field=datasets,
            reads=("task", datasets.partition(".")[0]),
            cel=f"{given}self.{datasets}.all(d, d.format in {list(TASKS['pretrain'].formats)} || self.task != 'pretrain')",
            holds=_formats_suit(datasets),
            rule="task pretrain takes formats text, lines and tokens only, and trains on every token",
            way_out="Write task: sft to train on conversations or answers, or format: text",
        )
        for datasets, given in (("dataset", ""), ("evaluation.dataset", "!has(self.evaluation) || "))
    ),
    Rule(
        at="spec",
        field="task",
        reads=("task", "dataset", "evaluation"),
        cel=f"self.task == 'pretrain' || (self.dataset.all(d, {_SUITS}) && "
        f"(!has(self.evaluation) || self.evaluation.dataset.all(d, {_SUITS})))",
        holds=_labels_suit,
        rule="rows of format textLabel have a label, which task classify learns, and it alone",
        way_out="Write task: classify and format: textLabel in every dataset, or neither of them",
    ),
    Rule(
        at="spec",
        field="labels",
        reads=("task", "labels"),
        cel=f"size(self.labels) == 0 || (size(self.labels) > 1 && self.task in {LABELLED})",
        holds=lambda self: not self["labels"] or (len(self["labels"]) > 1 and self["task"] in LABELLED),
        rule="labels are what task classify tells apart, so there are at least two of them",
        way_out="Leave labels out, or name all of them and write task: classify",
    ),
    *(
        Rule(
            at=f"spec.{datasets}[]",
            field="roles",
            reads=("format", "roles"),
            cel="size(self.roles) == 0 || self.format in ['messages', 'sharegpt']",
            holds=lambda self: not self["roles"] or self["format"] in ("messages", "sharegpt"),
            rule="only turns of conversations have roles",
            way_out="Write format: messages or format: sharegpt, or leave roles out",
        )
        for datasets in ("dataset", "evaluation.dataset")
    ),
    Rule(
        at="spec.evaluation.dataset[]",
        field="streaming",
        reads=("streaming",),
        cel="!self.streaming",
        holds=lambda self: not self["streaming"],
        rule=VALIDATION_IS_READ_AGAIN.rule,
        way_out=VALIDATION_IS_READ_AGAIN.way_out,
    ),
    Rule(
        at="spec",
        field=A_STREAM_HOLDS_NOTHING_OUT.field,
        reads=("dataset", "evaluation"),
        cel="!has(self.evaluation) || self.evaluation.split == 0.0 || !self.dataset.exists(d, d.streaming)",
        holds=A_STREAM_HOLDS_NOTHING_OUT.holds,
        rule=A_STREAM_HOLDS_NOTHING_OUT.rule,
        way_out=A_STREAM_HOLDS_NOTHING_OUT.way_out,
    ),
    Rule(
        at="spec",
        field=A_STREAM_HAS_NO_KNOWN_END.field,
        reads=("dataset", "training.maxSteps"),
        cel="has(self.training.maxSteps) || !self.dataset.exists(d, d.streaming)",
        holds=A_STREAM_HAS_NO_KNOWN_END.holds,
        rule=A_STREAM_HAS_NO_KNOWN_END.rule,
        way_out=A_STREAM_HAS_NO_KNOWN_END.way_out,
    ),
    Rule(
        at="spec.training",
        field="maxSteps",
        reads=("maxSteps", "epochs"),
        cel="has(self.maxSteps) != has(self.epochs)",
        holds=lambda self: ("maxSteps" in self) != ("epochs" in self),
        rule="training ends after maxSteps or after epochs, exactly one of the two",
        way_out="Give maxSteps or epochs",
    ),
    Rule(
        at="spec.training",
        field="schedule.warmupSteps",
        reads=("maxSteps", "schedule.warmupSteps"),
        cel="!has(self.maxSteps) || self.schedule.warmupSteps <= self.maxSteps",
        holds=lambda self: "maxSteps" not in self or self["schedule"]["warmupSteps"] <= self["maxSteps"],
        rule="the warm-up must end within maxSteps",
        way_out="Make warmupSteps smaller than maxSteps, usually 1 to 5 percent of it",
    ),
    Rule(
        at="spec.training.schedule",
        field="warmupRatio",
        reads=("warmupSteps", "warmupRatio"),
        cel="!has(self.warmupRatio) || self.warmupSteps == 0",
        holds=lambda self: "warmupRatio" not in self or self["warmupSteps"] == 0,
        rule="the warm-up is given in steps or as a share of them, not both",
        way_out="Leave warmupSteps or warmupRatio out",
    ),
    Rule(
        at="spec.parallelism",
        field="schedule",
        reads=("virtualStages", "schedule"),
        cel="self.virtualStages == 1 || !has(self.schedule) || self.schedule == 'interleaved'",
        holds=lambda self: self["virtualStages"] == 1 or self.get("schedule", "interleaved") == "interleaved",
        rule="only the interleaved schedule has more than one stage per device",
        way_out="Write schedule: interleaved, or leave virtualStages out",
    ),
    Rule(
        at="spec.parallelism",
        field="virtualStages",
        reads=("virtualStages", "schedule"),
        cel="!has(self.schedule) || self.schedule != 'interleaved' || self.virtualStages > 1",
        holds=lambda self: self.get("schedule") != "interleaved" or self["virtualStages"] > 1,
        rule="the interleaved schedule needs at least 2 stages per device",
        way_out="Write virtualStages: 2, or schedule: 1f1b",
    ),
    Rule(
        at="spec.parallelism",
        field="deepspeed",
        reads=("engine", "deepspeed"),
        cel=f"!has(self.deepspeed) || {_engine_is(*OFFLOADING, 'auto')}",
        holds=lambda self: "deepspeed" not in self or self["engine"] in (*OFFLOADING, "auto"),
        rule="only engine deepspeed reads these keys",
        way_out="Write engine: deepspeed, or leave deepspeed out",
    ),
    Rule(
        at="spec.parallelism",
        field="offload",
        reads=("engine", "offload"),
        cel=f"!has(self.offload) || {_engine_is(*OFFLOADING, 'auto')}",
        holds=lambda self: "offload" not in self or self["engine"] in (*OFFLOADING, "auto"),
        rule="only engine deepspeed offloads",
        way_out="Write engine: deepspeed, or leave offload out",
    ),
    Rule(
        at="spec.parallelism.offload",
        field="path",
        reads=("optimizer", "parameters", "path"),
        cel="has(self.path) == (self.optimizer == 'nvme' || self.parameters == 'nvme')",
        holds=lambda self: ("path" in self) == ("nvme" in (self["optimizer"], self["parameters"])),
        rule="a directory is needed for offload to nvme, and only for that",
        way_out="Give the directory of a local disk with nvme, or leave path out without nvme",
    ),
    Rule(
        at="spec.evaluation",
        field="split",
        reads=("dataset", "split"),
        cel="(size(self.dataset) > 0) != (self.split > 0.0)",
        holds=lambda self: (len(self["dataset"]) > 0) != (self["split"] > 0),
        rule="evaluation uses its own datasets or a split of the training data, exactly one of the two",
        way_out="Give evaluation.dataset, or a split such as 0.01",
    ),
    Rule(
        at="spec.checkpoint.every",
        field="steps",
        reads=("steps", "interval"),
        cel="has(self.steps) || has(self.interval)",
        holds=lambda self: "steps" in self or "interval" in self,
        rule="a cadence has steps, interval or both",
        way_out="Give steps or interval, such as interval: 15m, or leave every out",
    ),
    Rule(
        at="spec.resources",
        field="procsPerNode",
        reads=("gpusPerNode", "procsPerNode"),
        cel="!has(self.procsPerNode) || self.gpusPerNode == 0",
        holds=lambda self: "procsPerNode" not in self or self["gpusPerNode"] == 0,
        rule="with GPUs there is one process per GPU",
        way_out="Leave procsPerNode out, or set gpusPerNode to 0 to train on CPU processes",
    ),
    Rule(
        at="spec.resources",
        field="gpu",
        reads=("gpusPerNode", "gpu"),
        cel="self.gpusPerNode == 0 || has(self.gpu)",
        holds=lambda self: self["gpusPerNode"] == 0 or "gpu" in self,
        rule="the plan needs the GPU's memory and speed",
        way_out="Name the product, such as gpu: H100-80GB",
    ),
    Rule(
        at="spec.resources",
        field="gpusPerNode",
        reads=("gpusPerNode", "gpu"),
        cel="!has(self.gpu) || self.gpusPerNode > 0",
        holds=lambda self: "gpu" not in self or self["gpusPerNode"] > 0,
        rule="a gpu is named, but none is requested",
        way_out="Write gpusPerNode: 8 or what a node has, or leave gpu out to train on CPU processes",
    ),
    Rule(
        at="spec.resources",
        field="rdma",
        reads=("rdma",),
        cel="self.rdma.all(name, name.contains('/'))",
        holds=lambda self: all("/" in name for name in self["rdma"]),
        rule="a device resource is named as domain/resource",
        way_out="Write the name under which the device plugin offers it, such as rdma/hca: 8; huge pages have a field, hugepages",
    ),
    Rule(
        at="spec.resources",
        field="hugepages",
        reads=("hugepages", "memory", "cpu"),
        cel="size(self.hugepages) == 0 || has(self.memory) || has(self.cpu)",
        holds=lambda self: not self["hugepages"] or "memory" in self or "cpu" in self,
        rule="Kubernetes accepts huge pages only together with memory or cpu",
        way_out="Give resources.memory",
    ),
    Rule(
        at="spec.resources",
        field="cpuLimit",
        reads=("cpuLimit", "cpu"),
        cel="!has(self.cpuLimit) || has(self.cpu)",
        holds=lambda self: "cpuLimit" not in self or "cpu" in self,
        rule="a limit needs a request",
        way_out="Give cpu too, at most as large as cpuLimit",
    ),
    Rule(
        at="spec.scheduling.tolerations[]",
        field="tolerationSeconds",
        reads=("effect", "tolerationSeconds"),
        cel="!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
        holds=lambda self: "tolerationSeconds" not in self or self.get("effect") == "NoExecute",
        rule="only effect NoExecute evicts pods",
        way_out="Write effect: NoExecute, or leave tolerationSeconds out",
    ),
    Rule(
        at="spec.scheduling",
        field="queue",
        reads=("gang", "queue"),
        cel="!has(self.queue) || self.gang in ['auto', 'kueue', 'volcano']",
        holds=lambda self: "queue" not in self or self["gang"] in ("auto", "kueue", "volcano"),
        rule="only Kueue and Volcano have queues",
        way_out="Set gang to kueue, volcano or auto, or leave queue out",
    ),
    Rule(
        at="spec.scheduling.topology",
        field="required",
        reads=("required", "preferred"),
        cel="has(self.required) != has(self.preferred)",
        holds=lambda self: ("required" in self) != ("preferred" in self),
        rule="a topology is required or preferred, exactly one of the two",
        way_out="Give required or preferred, such as preferred: topology.kubernetes.io/zone",
    ),
    Rule(
        at="spec.scheduling.tolerations[]",
        field="value",
        reads=("operator", "value"),
        cel="self.operator != 'Exists' || !has(self.value)",
        holds=lambda self: self["operator"] != "Exists" or "value" not in self,
        rule="operator Exists compares no value",
        way_out="Leave value out, or write operator: Equal",
    ),
    Rule(
        at="spec.scheduling.tolerations[]",
        field="key",
        reads=("operator", "key"),
        cel="self.operator == 'Exists' || has(self.key)",
        holds=lambda self: self["operator"] == "Exists" or "key" in self,
        rule="operator Equal compares the value of a key",
        way_out="Give key, or write operator: Exists to accept every taint",
    ),
    Rule(
        at="spec",
        field="output.export",
        reads=("output.export", "peft"),
        cel="has(self.peft) || self.output.export.all(kind, kind == 'full')",
        holds=lambda self: "peft" in self or all(kind == "full" for kind in self["output"]["export"]),
        rule="without peft there is no adapter to export or to merge",
        way_out="Write export: [full], or add peft",
    ),
    Rule(
        at="spec.output",
        field="export",
        reads=("export",),
        cel="self.export.all(a, self.export.exists_one(b, a == b))",
        holds=lambda self: len(set(self["export"])) == len(self["export"]),
        rule="each kind of export may be named once",
        way_out="Name each of full, adapter and merged at most once",
    ),
    Rule(
        at="spec",
        field="startupDeadlineSeconds",
        reads=("startupDeadlineSeconds", "activeDeadlineSeconds"),
        cel="!has(self.startupDeadlineSeconds) || !has(self.activeDeadlineSeconds) || "
        "self.startupDeadlineSeconds <= self.activeDeadlineSeconds",
        holds=lambda self: self.get("startupDeadlineSeconds", 0) <= self.get("activeDeadlineSeconds", 10**9),
        rule="the deadline for the first step must not exceed the job's own deadline",
        way_out="Make it smaller than activeDeadlineSeconds",
    ),
)
