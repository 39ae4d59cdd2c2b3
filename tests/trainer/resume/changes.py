"""What each row of the table in docs/operations/resume.md is tried with."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from resuming import LORA, SHAPE, Runs, pretrained

Changes = list[tuple[dict[str, Any], dict[str, Any]]]
"""Settings of the run that saved, and what the run that resumes has instead."""


class Table(Runs):
    """What each row is tried with: (settings of the run that saved, settings of the run that goes on, the step it saved at)."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.root = root
        self.more = {"source": self.job.text_file("more.jsonl", 50, 500), "weight": 3}
        self.tokenizer = self.kept_tokenizer()

    def tried(self, row: str) -> Iterator[tuple[dict[str, Any], dict[str, Any], int]]:
        for before, now in self.changes(row):
            yield self.tokenizer | before, self.tokenizer | before | now, 10 if "all steps" in row else 3

    def changes(self, row: str) -> Changes:
        """Raises AssertionError for a row that nothing is known for."""
        found = self._of_the_run(row) or self._of_the_data(row) or self._of_the_training(row) or self._of_the_model(row)
        assert found, f"no change is known for the row: {row}"
        return found

    def _of_the_run(self, row: str) -> Changes:
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
        return []

    def _of_the_data(self, row: str) -> Changes:
        two = {"dataset": [*self.text, self.more]}
        other = {"dataset": [self.more]}
        match row:
            case "`training.globalBatchSize`":
                return [({}, {"training": {"globalBatchSize": 4}})]
            case "`dataset`: one added, one removed, other weights":
                return [({}, two), (two, {"dataset": self.text}), (two, {"dataset": [*self.text, self.more | {"weight": 1}]})]
            case "`mixing`":
                return [(two, {"mixing": "concat"}), (two | {"mixing": "concat"}, {"mixing": None})]
            case "`curriculum`":
                stages = [{"fromStep": 2, "weights": [1, 2]}], [{"fromStep": 9, "weights": [1, 2]}]
                return [(two, {"curriculum": stages[1]}), (two | {"curriculum": stages[0]}, {"curriculum": stages[1]})]
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
            case "anything that changes what is trained, when the checkpoint has done all steps":
                changes = {"globalBatchSize": 4}, {"seed": 7}, {"gradientClipping": 2}, {"schedule": {"minRatio": 0.5}}
                return [*(({}, {"training": each}) for each in changes), ({}, other), ({}, {"evaluation": {"split": 0.4}})]
        return []

    def _of_the_training(self, row: str) -> Changes:
        constant = {"training": {"schedule": {"name": "constant"}}}
        match row:
            case "`training.maxSteps` with a constant learning rate, its warm-up in steps":
                return [(constant, {"training": constant["training"] | {"maxSteps": 20}})]
            case "`training.optimizer`, `training.gradientClipping`, `training.precision`, `peft.dropout`, `peft.learningRateRatio`":
                of_adam = {"learningRate": 0.01}, {"betas": [0.8, 0.9]}, {"epsilon": 1e-7}, {"weightDecay": 0.5}
                rest = {"gradientClipping": 2}, {"precision": "fp32"}, *({"optimizer": each} for each in of_adam)
                return [
                    *(({}, {"training": each}) for each in rest),
                    *(({"peft": LORA}, {"peft": LORA | new}) for new in ({"dropout": 0.1}, {"learningRateRatio": 4})),
                ]
            case "`training.schedule`, `training.maxSteps`, `training.epochs`":
                epochs = {"maxSteps": None, "epochs": 2}
                longer = ({"training": epochs}, {"training": epochs | {"epochs": 3}})
                share = {"schedule": {"name": "constant", "warmupRatio": 0.5}}
                warmed = ({"training": share}, {"training": share | {"maxSteps": 20}})
                return [({}, {"training": {"schedule": {"warmupSteps": 5}}}), ({}, {"training": {"maxSteps": 20}}), longer, warmed]
            case "`training.maxSteps` or `training.epochs`, so that training ends at the step of the checkpoint":
                epochs = {"training": {"maxSteps": None, "epochs": 2}}
                return [({}, {"training": {"maxSteps": 3}}), (epochs, {"training": {"maxSteps": None, "epochs": 0.01}})]
            case "`training.maxSteps` below the checkpoint's step":
                return [({}, {"training": {"maxSteps": 2}})]
        return []

    def _of_the_model(self, row: str) -> Changes:
        match row:
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
        return []
