"""Frozen weights below adapters are kept in the type that layers compute in; what is trained stays in fp32."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from llmtrain_trainer.config.tables.adapters import is_adapter
from llmtrain_trainer.engines.native.assemble import as_computed
from llmtrain_trainer.model.materialize import materialize
from llmtrain_trainer.model.skeleton import skeleton

LORA = {"method": "lora", "rank": 4, "alpha": 8.0}


def built(parity: ModuleType, root: Path, precision: str, **more: Any) -> tuple[Any, Any]:
    config = parity.config_of(parity.Case(training={"precision": precision}, **more), 1)
    (root / "config.json").write_text(json.dumps(config.model.config))
    network = skeleton(config, root)
    materialize(network, "", None, 1, torch.device("cpu"))
    return config, network


@pytest.mark.parametrize("method", ["lora", "dora"])
def test_the_frozen_base_of_adapters_is_in_bf16_and_they_are_in_fp32(parity: ModuleType, tmp_path: Path, method: str) -> None:
    config, network = built(parity, tmp_path, "bf16", peft=LORA | {"method": method})
    drawn = {name: weight.detach().clone() for name, weight in network.named_parameters()}
    as_computed(config, network)
    for name, weight in network.named_parameters():
        kept = torch.float32 if is_adapter(name) else torch.bfloat16
        assert weight.dtype == kept and torch.equal(weight, drawn[name].to(kept)), name
    trained = [weight.numel() for weight in network.parameters() if weight.requires_grad]
    held = sum(weight.numel() * weight.element_size() for weight in network.parameters())
    assert held == 2 * sum(weight.numel() for weight in drawn.values()) + 2 * sum(trained)


@pytest.mark.parametrize(("precision", "peft"), [("fp32", LORA), ("bf16", None)])
def test_nothing_else_is_rounded(parity: ModuleType, tmp_path: Path, precision: str, peft: dict[str, Any] | None) -> None:
    config, network = built(parity, tmp_path, precision, peft=peft)
    as_computed(config, network)
    assert {weight.dtype for weight in network.parameters()} == {torch.float32}


def test_a_classifiers_head_is_trained_in_fp32(parity: ModuleType, tmp_path: Path) -> None:
    config, network = built(parity, tmp_path, "bf16", peft=LORA, task="classify", shape=parity.CLASSIFY)
    as_computed(config, network)
    assert network.get_parameter("score.weight").dtype == torch.float32
