"""Exported adapters open in stock peft with the logits that training had, of every family, and peft has nothing to say against them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from peft import AutoPeftModelForCausalLM, PeftModel
from small_model import FAMILIES, write_model
from transformers import AutoModelForCausalLM, PreTrainedModel

from llmtrain_trainer.config import Model, Peft
from llmtrain_trainer.model.adapters.attach import add_adapters
from llmtrain_trainer.model.export import write_export

MORE = FAMILIES | {
    "qwen2_moe with dense layers": FAMILIES["qwen2_moe"] | {"mlp_only_layers": [0]},
    "qwen3_moe without dense layers": FAMILIES["qwen3_moe"] | {"decoder_sparse_step": 1},
}


class Named:
    """The weights of a whole model on one rank."""

    def __init__(self, network: PreTrainedModel) -> None:
        self._weights = {name: weight.detach() for name, weight in network.named_parameters()}
        self.shapes = {name: weight.shape for name, weight in self._weights.items()}

    def read(self, name: str) -> torch.Tensor:
        return self._weights[name].clone()


class Config:
    """Of a run, what an export reads."""

    task = "sft"

    def __init__(self, base: Path, peft: Peft) -> None:
        self.model, self.peft = Model.model_validate({"source": f"file://{base}"}), peft


@pytest.fixture(autouse=True)
def alone(tmp_path: Path) -> Iterator[None]:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize("family", MORE)
@pytest.mark.parametrize("method", ["lora", "rslora", "dora"])
def test_an_exported_adapter_opens_in_stock_peft(tmp_path: Path, family: str, method: str) -> None:
    base = tmp_path / "base"
    write_model(MORE[family], base)
    peft = Peft.model_validate({"method": method, "rank": 4, "alpha": 8})
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        warnings.filterwarnings("error", message=".*(fan_in_fan_out|pattern|target).*")
        network: Any = AutoModelForCausalLM.from_pretrained(base)
        add_adapters(network, peft)
        adapters = {name: weight for name, weight in network.named_parameters() if "lora_" in name}
        assert adapters and not any(".experts." in name for name in adapters)
        for name, weight in adapters.items():
            torch.nn.init.normal_(weight, mean=float("magnitude" in name), std=0.1)
        write_export(Config(base, peft), base, Named(network), tmp_path / "adapter", "adapter")  # type: ignore[arg-type]
        opened = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), str(tmp_path / "adapter"))
        by_name = AutoPeftModelForCausalLM.from_pretrained(str(tmp_path / "adapter"))
    ids = torch.arange(24).view(2, 12)
    logits = network.eval()(ids).logits
    assert not torch.allclose(logits, AutoModelForCausalLM.from_pretrained(base)(ids).logits, atol=1e-4)
    for theirs in (opened, by_name):
        assert sum("lora_" in name for name, _ in theirs.named_parameters()) == len(adapters)
        assert torch.equal(theirs.eval()(ids).logits, logits)


def test_dense_layers_whose_names_peft_takes_for_experts_have_no_adapters(tmp_path: Path) -> None:
    write_model(FAMILIES["qwen3_moe"], tmp_path / "base")
    network: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    add_adapters(network, Peft())
    assert {name.split(".")[3] for name, _ in network.named_parameters() if "lora_" in name} == {"self_attn"}
