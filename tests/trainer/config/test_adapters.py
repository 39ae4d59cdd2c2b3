"""The table of adapter methods: what peft is told, and the scale by which an adapter is merged."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import torch
from peft import LoraConfig
from peft.tuners.lora.layer import Linear
from torch import nn

from llmtrain_trainer.config import Peft
from llmtrain_trainer.config.tables.adapters import ADAPTERS, AdapterMethod, is_adapter, peft_options
from llmtrain_trainer.config.tables.engines import ENGINE_FACTS, engines_with

METHODS: tuple[AdapterMethod, ...] = get_args(AdapterMethod)


def test_every_method_of_the_manifest_has_its_row_and_an_engine() -> None:
    assert tuple(ADAPTERS) == METHODS
    assert all(engines_with(method) for method in METHODS)
    assert all(set(facts.adapters) <= set(METHODS) for facts in ENGINE_FACTS.values())


@pytest.mark.parametrize("method", METHODS)
def test_the_scale_is_the_one_that_peft_trains_with(method: AdapterMethod) -> None:
    config = LoraConfig(r=4, lora_alpha=12, **peft_options(method))
    layer: Any = Linear(nn.Linear(8, 8), "default", config=config, r=4, lora_alpha=12, **peft_options(method))
    assert layer.scaling["default"] == pytest.approx(Peft(method=method, rank=4, alpha=12).scale)


def test_no_two_methods_tell_peft_the_same() -> None:
    told = [tuple(peft_options(method).items()) for method in METHODS]
    assert len(set(told)) == len(METHODS)


def test_the_names_of_adapters_are_peft_s() -> None:
    layer = Linear(nn.Linear(8, 8), "default", config=LoraConfig(r=2), r=2)
    network = nn.ModuleDict({"q_proj": layer})
    trained = {name for name, weight in network.named_parameters() if weight.requires_grad and weight.shape != torch.Size([8])}
    assert {name for name in trained if is_adapter(name)} == {name for name in trained if "base_layer" not in name}
    assert len({name for name in trained if is_adapter(name)}) == 2
