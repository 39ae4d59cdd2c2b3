"""A published model in a directory, and preparation's part that reads it, for the tests of model files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from llmtrain_trainer.config import Model
from llmtrain_trainer.data.bad_data import BadData
from llmtrain_trainer.model.pretrained import Pretrained
from llmtrain_trainer.model.stage import tied_names
from llmtrain_trainer.model.tokenizer_facts import TokenizerFacts
from llmtrain_trainer.prepare.model_files import place_model

Tensors = dict[str, torch.Tensor]
FACTS = TokenizerFacts(size=300, highest_id=299, highest_token="z", eos_token_id=0, bos_token_id=None, digest="")


class Place:
    """Preparation's part that places a model, and what it says."""

    def __init__(self, root: Path) -> None:
        self.source, self.model, self.cache = root / "source", root / "model", root / "cache"
        self.notes: list[str] = []

    def prepare(self, facts: TokenizerFacts = FACTS, fixed: str | None = None, **given: Any) -> int:
        self.notes.clear()
        for old in self.model.glob("*"):
            old.unlink()
        model = Model.model_validate({"source": f"file://{self.source}"} | given)
        return place_model(model, facts, self.model, self.cache, lambda _: None, self.notes.append, fixed)

    def refused(self, **given: Any) -> str:
        with pytest.raises(BadData) as caught:
            self.prepare(**given)
        return str(caught.value)

    @property
    def weights(self) -> Tensors:
        return dict(load_file(self.source / "model.safetensors"))

    def rewrite(self, weights: Tensors, name: str = "model.safetensors") -> None:
        save_file({key: weight.contiguous().clone() for key, weight in weights.items()}, self.source / name, metadata={"format": "pt"})

    def read(self) -> Tensors:
        """Every weight as a rank reads it."""
        with torch.device("meta"):
            network = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(self.model))
        source = Pretrained(self.model, network.base_model_prefix, tied_names(network))
        return {name: source.read(name) for name, _ in network.named_parameters()}

    def configure(self, **changes: Any) -> None:
        config = json.loads((self.source / "config.json").read_text())
        (self.source / "config.json").write_text(json.dumps(config | changes))


def same(found: Tensors, expected: Tensors) -> bool:
    return found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)
