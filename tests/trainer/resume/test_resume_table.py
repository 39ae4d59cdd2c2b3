"""docs/operations/resume.md against the code: each row of its table, tried, has the consequence that the row promises."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from resuming import LORA, SHAPE, Runs, pretrained

from llmtrain_trainer.resume.rules import RULES

PAGE = Path(__file__).parents[3] / "docs" / "operations" / "resume.md"


def _rows() -> dict[str, str]:
    """First cell -> second cell."""
    table = PAGE.read_text().split("| what changed | what follows |")[1].split("\n\n")[0]
    return dict(re.findall(r"^\| (.+?) \| (.+?) \|$", table, re.MULTILINE))


class Table(Runs):
    """What each row is tried with: (settings of the run that saved, settings of the run that goes on, the step it saved at)."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.root = root
        self.more = {"source": self.job.text_file("more.jsonl", 50, 500), "weight": 3}
        self.tokenizer = self.kept_tokenizer()

    def tried(self, row: str) -> Iterator[tuple[dict[str, Any], dict[str, Any], int]]:
        for before, now in self._changes(row):
            yield self.tokenizer | before, self.tokenizer | before | now, 10 if "all steps" in row else 3

    def _changes(self, row: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        constant = {"training": {"schedule": {"name": "constant"}}}
        two = {"dataset": [*self.text, self.more]}
        other = {"dataset": [self.more]}
        match row:
            case "`parallelism`, `resources`, `training.microBatchSize`, `training.activationCheckpointing`, `training.compile`":
                mesh = {"mesh": {"dp": 1, "tp": 2, "stages": [[0, 2]]}}
                memory = {"microBatchSize": 4, "activationCheckpointing": "full", "compile": True}
                return [({}, mesh), ({}, {"engine": "deepspeed"}), ({}, {"training": memory})]
            case "`evaluation.dataset`, `evaluation.everySteps`, `evaluation.maxSamples`":
                own = {"evaluation": {"dataset": [self.more]}}
                rarer = {"evaluation": own["evaluation"] | {"everySteps": 7, "maxSamples": 9}}
                return [({"evaluation": None}, own), (own, {"evaluation": None}), (own, rarer)]
            case "`training.logEverySteps`, `checkpoint.every`, `output`":
                saves = {"checkpoint": {"destination": "file:///nowhere", "every": {"steps": 3}}}
                return [({}, {"training": {"logEverySteps": 7}}), ({}, saves), ({}, {"output": {"export": []}})]
            case "the location of the same model or data":
                copy = self.root / "files" / "copy.jsonl"
                copy.write_bytes((self.root / "files" / "text.jsonl").read_bytes())
                models = [{"model": pretrained(self.root / name, 1)} for name in ("here", "there")]
                return [({}, {"dataset": [{"source": f"file://{copy}"}]}), (models[0], models[1])]
            case "`training.maxSteps` with a constant learning rate":
                return [(constant, {"training": constant["training"] | {"maxSteps": 20}})]
            case "`training.globalBatchSize`":
                return [({}, {"training": {"globalBatchSize": 4}})]
            case "`dataset`: one added, one removed, other weights":
                return [({}, two), (two, {"dataset": self.text}), (two, {"dataset": [*self.text, self.more | {"weight": 1}]})]
            case "`dataset`: other content":
                return [({}, other), ({}, {"dataset": [self.text[0] | {"maxSamples": 30}]})]
            case "`training.sequenceLength`, `training.seed`":
                return [({}, {"training": {"sequenceLength": 8}}), ({}, {"training": {"seed": 7}})]
            case "`evaluation.split`":
                splits = [None, {"split": 0.2}, {"split": 0.4}, {"dataset": [self.more]}]
                return [({"evaluation": was}, {"evaluation": now}) for was in splits[1:3] for now in splits if was != now]
            case "`training.packing`":
                pairs = self.job.rows_file("pairs.jsonl", [{"prompt": f"a {i}", "completion": "b"} for i in range(60)])
                answers = {"task": "sft", "dataset": [{"source": pairs, "format": "promptCompletion"}]}
                return [(answers, {"training": {"packing": False}})]
            case "`training.optimizer`, `training.gradientClipping`, `training.precision`, `peft.dropout`":
                of_adam = {"learningRate": 0.01}, {"betas": [0.8, 0.9]}, {"epsilon": 1e-7}, {"weightDecay": 0.5}
                rest = {"gradientClipping": 2}, {"precision": "fp32"}, *({"optimizer": each} for each in of_adam)
                return [*(({}, {"training": each}) for each in rest), ({"peft": LORA}, {"peft": LORA | {"dropout": 0.1}})]
            case "`training.schedule`, `training.maxSteps`, `training.epochs`":
                epochs = {"maxSteps": None, "epochs": 2}
                longer = ({"training": epochs}, {"training": epochs | {"epochs": 3}})
                return [({}, {"training": {"schedule": {"warmupSteps": 5}}}), ({}, {"training": {"maxSteps": 20}}), longer]
            case "`training.maxSteps` or `training.epochs`, so that training ends at the step of the checkpoint":
                epochs = {"training": {"maxSteps": None, "epochs": 2}}
                return [({}, {"training": {"maxSteps": 3}}), (epochs, {"training": {"maxSteps": None, "epochs": 0.01}})]
            case "the weights at the same `model.source`, of a run without adapters":
                return [({"model": {"source": f"file://{self.root / 'changing'}"}}, {})]
            case "the model's shape (layers, heads, tied head, rope, norms, vocabulary), `tokenizer`, `task`":
                keys = {"num_hidden_layers": 2, "num_attention_heads": 8, "tie_word_embeddings": False}
                keys |= {"rope_theta": 5e5, "rms_norm_eps": 1e-3, "vocab_size": 600}
                shapes = [({}, {"model": {"config": SHAPE | {key: value}}}) for key, value in keys.items()]
                return [*shapes, ({}, {"tokenizer": {"train": {"algorithm": "bpe", "vocabSize": 280}}}), ({}, {"task": "sft"})]
            case "`labels` or their order, also where the data has others":
                rows = [{"text": f"text {number}", "label": "ab"[number % 2]} for number in range(60)]
                other = self.job.rows_file("other.jsonl", [*rows, {"text": "text", "label": "c"}])
                one, more = ({"source": uri, "format": "textLabel"} for uri in (self.job.rows_file("labels.jsonl", rows), other))
                found = {"task": "classify", "dataset": [one]}
                return [(found, {"labels": ["b", "a"]}), (found, {"dataset": [more]})]
            case "`peft`: added, removed, `peft.method`, `peft.rank`, `peft.alpha`, `peft.targetModules`":
                others = {"method": "rslora"}, {"rank": 4}, {"alpha": 32}, {"targetModules": ["q_proj"]}
                changed = [({"peft": LORA}, {"peft": LORA | other}) for other in others]
                return [({}, {"peft": LORA}), ({"peft": LORA}, {"peft": None}), *changed]
            case "the base weights below adapters, by their digest":
                there = {"model": pretrained(self.root / "other", 2), "peft": LORA}
                drawn = ({"peft": LORA}, {"training": {"seed": 3}})
                return [({"model": {"source": f"file://{self.root / 'changing'}"}, "peft": LORA}, {}), ({"peft": LORA}, there), drawn]
            case "another `model.source` with other weights":
                one, other = ({"model": pretrained(self.root / name, seed)} for name, seed in (("a", 1), ("b", 2)))
                return [(one, other), ({}, one), (one, {"model": {"config": SHAPE}})]
            case "`training.maxSteps` below the checkpoint's step":
                return [({}, {"training": {"maxSteps": 2}})]
            case "anything that changes what is trained, when the checkpoint has done all steps":
                changes = {"globalBatchSize": 4}, {"seed": 7}, {"gradientClipping": 2}, {"schedule": {"minRatio": 0.5}}
                return [*(({}, {"training": each}) for each in changes), ({}, other), ({}, {"evaluation": {"split": 0.4}})]
        raise AssertionError(f"no change is known for the row: {row}")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    return Table(tmp_path_factory.mktemp("table"))


@pytest.mark.parametrize("row", _rows(), ids=lambda row: row.replace("`", "")[:40])
def test_each_row_of_the_page_does_what_it_says(table: Table, row: str) -> None:
    promised = _rows()[row].replace(",", ";").split(";")[0].split()[0]
    for before, now, step in table.tried(row):
        if "changing" in str(before):
            pretrained(table.root / "changing", 1)
        manifest = table.save(table.config(**before), step=step)
        if "changing" in str(before):
            pretrained(table.root / "changing", 2)
        config = table.config(**now)
        found = table.go_on(manifest, config)
        said = "refused" if found.refused else "notice" if found.told else "resumes"
        assert said == promised, f"{now}: {found.refused or found.told}"
        assert len(set(found.told)) == len(found.told) and " no sequence is skipped" not in " ".join(found.told[1:])


def test_each_field_with_a_rule_stands_in_a_row_of_its_kind() -> None:
    promised = {"exactly": "resumes exactly", "told": "notice", "data": "notice", "refused": "refused"}
    for rule in RULES:
        section = rule.field if not rule.field.startswith("training.optimizer") else "training.optimizer"
        rows = [follows for row, follows in _rows().items() if f"`{section}`" in row]
        if rule.kind != "exactly" or (rule.field.startswith("training.") and rule.field not in ("training.maxSteps", "training.epochs")):
            assert any(follows.startswith(promised[rule.kind]) or rule.field == "training.schedule" for follows in rows), rule.field
