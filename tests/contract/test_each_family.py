"""Each family that only engine native trains, in one process: counted, split into stages, read and exported as transformers does.

Layouts over ranks: `make parity`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from transformers import AutoConfig, AutoModelForCausalLM

from llmtrain_operator.plan.model.families import shape_of
from llmtrain_trainer.convert.launch import load_script
from llmtrain_trainer.model.export import write_export
from llmtrain_trainer.model.materialize import materialize
from llmtrain_trainer.model.pretrained import Pretrained
from llmtrain_trainer.model.skeleton import skeleton
from llmtrain_trainer.model.stage import cut, tied_names
from llmtrain_trainer.objectives import OBJECTIVES

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
parity, cases = (load_script(BENCHMARKS / f"{name}.py") for name in ("parity", "family_cases"))
RUN = parity.config_of(parity.Case(packed=True), 1)
STAGES = ((0, 1), (1, 4))


def small(family: str) -> dict[str, Any]:
    found: dict[str, Any] = cases.config_of(family) | {"vocab_size": 37, "initializer_range": 0.3}
    return found


@pytest.fixture(scope="module", autouse=True)
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    store = tmp_path_factory.mktemp("meeting") / "store"
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


class Held:
    """The weights of stages on one rank."""

    def __init__(self, weights: dict[str, torch.Tensor]) -> None:
        self._weights = weights
        self.shapes = {name: weight.shape for name, weight in weights.items()}

    def read(self, name: str) -> torch.Tensor:
        return self._weights[name].detach()


@pytest.mark.parametrize("family", cases.FAMILY_CASES)
def test_packed_rows_through_stages_and_the_export_give_the_logits_of_transformers(family: str, tmp_path: Path) -> None:
    config = small(family)
    torch.manual_seed(0)
    whole: Any = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config), dtype=torch.float32, attn_implementation="eager").eval()
    whole.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert shape_of(config).parameters == sum(weight.numel() for weight in whole.parameters())
    ids = hidden = torch.arange(48).view(2, 24) % 37  # two samples in each row
    positions = (torch.arange(24) % 12).expand(2, -1)
    weights: dict[str, torch.Tensor] = {}
    with torch.no_grad():
        for index in range(len(STAGES)):
            network = skeleton(RUN, tmp_path).eval()
            source = Pretrained(tmp_path, network.base_model_prefix, tied_names(network))
            stage = cut(network, index, STAGES, OBJECTIVES["pretrain"])
            materialize(network, "", source, 0, torch.device("cpu"))
            weights |= {**dict(stage.names()), **dict(stage.constants())}
            hidden = stage.network(hidden, position_ids=positions)
        apart = whole(ids.view(4, 12)).logits.view(2, 24, -1)
        torch.testing.assert_close(hidden, apart, atol=5e-5, rtol=1e-4)
        write_export(RUN, tmp_path, Held(weights), tmp_path / "export", "full")  # type: ignore[arg-type]
        opened = AutoModelForCausalLM.from_pretrained(tmp_path / "export", attn_implementation="eager").eval()
        torch.testing.assert_close(opened(ids).logits, whole(ids).logits, atol=0.0, rtol=0.0)
