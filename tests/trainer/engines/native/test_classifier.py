"""The head for labels: on the last stage, drawn from the seed, trained in full beside adapters, and the same outputs as transformers'."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

from llmtrain_trainer.model.adapters.attach import adapter_config
from llmtrain_trainer.model.heads import head_name, outputs_of
from llmtrain_trainer.model.materialize import materialize
from llmtrain_trainer.model.new_head import write_new_head
from llmtrain_trainer.model.pretrained import Pretrained
from llmtrain_trainer.model.skeleton import skeleton
from llmtrain_trainer.model.stage import cut
from llmtrain_trainer.objectives import OBJECTIVES


def network_of(parity: Any, root: Path, variant: str, **more: Any) -> tuple[Any, Any]:
    (case,) = (case for case in parity.VARIANTS if case.variant == variant)
    config = parity.config_of(case, 1).model_copy(update=more)
    (root / "config.json").write_text(json.dumps(config.model.config))
    return config, skeleton(config, root)


@pytest.mark.parametrize("variant", ["classify", "classify-gpt2"])
def test_only_the_last_stage_holds_the_head(parity: Any, tmp_path: Path, variant: str) -> None:
    ranges = ((0, 2), (2, 4))
    held = []
    for index in range(2):
        _, network = network_of(parity, tmp_path, variant)
        held.append({name for name, _ in cut(network, index, ranges, OBJECTIVES["classify"]).names()})
    assert "score.weight" in held[1] - held[0]
    assert not held[0] & held[1]


def test_beside_adapters_the_head_is_trained_in_full_and_gets_none(parity: Any, tmp_path: Path) -> None:
    config, network = network_of(parity, tmp_path, "classify-lora")
    trained = {name for name, weight in network.named_parameters() if weight.requires_grad}
    assert "score.weight" in trained
    assert all(".lora_" in name for name in trained - {"score.weight"})
    told = adapter_config(network, config.peft)
    assert (told.task_type, told.modules_to_save) == ("SEQ_CLS", ["score"])
    assert "score" not in told.target_modules


def test_a_head_that_the_files_lack_is_drawn_and_the_rest_is_read(parity: Any, tmp_path: Path) -> None:
    shape = AutoConfig.for_model(**parity.LLAMA)
    AutoModelForCausalLM.from_config(shape).save_pretrained(tmp_path)
    stored = Pretrained(tmp_path, "model", {}).read("model.norm.weight")
    write_new_head(tmp_path, "score")
    _, network = network_of(parity, tmp_path, "classify")
    materialize(network, "", Pretrained(tmp_path, network.base_model_prefix, {}), 1, torch.device("cpu"))
    assert torch.equal(network.get_parameter("model.norm.weight").detach(), stored)
    drawn = network.get_parameter("score.weight").detach().clone()
    assert drawn.std() == pytest.approx(shape.initializer_range, rel=0.2)
    materialize(network, "score", Pretrained(tmp_path, network.base_model_prefix, {}), 1, torch.device("cpu"))
    assert torch.equal(network.get_parameter("score.weight").detach(), drawn)


@pytest.mark.parametrize("kind", ["LLAMA", "GPT2"])
def test_the_outputs_at_the_label_are_those_that_transformers_pools(parity: Any, kind: str) -> None:
    shape = AutoConfig.for_model(**parity.LLAMA | getattr(parity, kind), num_labels=3, pad_token_id=parity.PAD)
    model = AutoModelForSequenceClassification.from_config(shape).eval()
    batch = parity.labelled_batch_of(1, 0, 1)
    ids, at = batch["input_ids"], batch["labels"] != -100
    assert head_name(model) == "score"
    with torch.no_grad():
        ours = outputs_of(model, "score", model.forward, {"input_ids": ids})[at]
        assert torch.allclose(ours, model(ids).logits, atol=1e-6)
