"""DeepSpeed's files of any layout, read by one process: the weights are those that the ranks export themselves, bit by bit."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM

from llmtrain_trainer.checkpoint_readers.reader import CheckpointReader
from llmtrain_trainer.config import TrainerConfig
from llmtrain_trainer.convert.adapters import write_adapter
from llmtrain_trainer.convert.launch import launch, load_script
from llmtrain_trainer.convert.targets import write_files
from llmtrain_trainer.data.bad_data import BadData
from llmtrain_trainer.engines.deepspeed.files import NOTES
from llmtrain_trainer.engines.open_checkpoint import open_source

ROOT = Path(__file__).parents[3]
JOBS = ROOT / "tests" / "trainer" / "engines" / "deepspeed" / "rank_jobs.py"
UNEVEN = {"shape": {"tie_word_embeddings": True, "num_key_value_heads": 2, "num_hidden_layers": 3}}
"""Two stages do not divide the layers, and both ends hold the token table."""

HALF = {"training": {"precision": "bf16"}}
LORA = {"peft": {"method": "lora", "rank": 4, "alpha": 8.0}}
LAYOUTS: list[tuple[dict[str, int], list[dict[str, Any]]]] = [
    ({"tp": 2}, [{"zero_stage": 3}, UNEVEN | {"zero_stage": 0}, LORA | {"zero_stage": 1}]),
    ({"pp": 2}, [UNEVEN | {"zero_stage": 1}, LORA | {"zero_stage": 0}]),
    ({"pp": 2, "tp": 2}, [UNEVEN | HALF | {"zero_stage": 1}, {"zero_stage": 0}, LORA | {"zero_stage": 1}]),
]


@pytest.fixture(scope="session")
def parity() -> ModuleType:
    """benchmarks/parity.py: Case, config_of."""
    return load_script(ROOT / "benchmarks" / "parity.py")


def opened(config: TrainerConfig, directory: Path, model_dir: Path) -> CheckpointReader:
    return open_source(config, directory, model_dir, "deepspeed")


@pytest.mark.processes
@pytest.mark.parametrize(("mesh", "given"), LAYOUTS, ids=["tensor", "pipeline", "both"])
def test_weights_of_ranks_are_those_that_they_export(
    parity: ModuleType, tmp_path: Path, mesh: dict[str, int], given: list[dict[str, Any]]
) -> None:
    cases = [parity.Case(**{"engine": "deepspeed"} | mesh | case) for case in given]
    kinds = ["adapter" if case.peft else "full" for case in cases]
    launch(JOBS, "save_and_export", cases[0].world, [{"engine": "deepspeed"} | mesh | case for case in given], kinds, tmp_path)
    for number, case in enumerate(cases):
        config, place = parity.config_of(case, 6), tmp_path / f"{number}"
        weights = opened(config, place / "step-00000003-a0-r0", place / "model")
        half = config.training.precision == "bf16"
        if case.peft:
            write_adapter(config, weights, place / "model", place / "converted")
        else:
            write_files(weights, place / "model", place / "converted", torch.bfloat16 if half else torch.float32)
        (file,) = (place / "exported").glob("*.safetensors")
        exported, converted = load_file(file), load_file(place / "converted" / file.name)
        assert exported.keys() == converted.keys()
        assert [name for name, weight in exported.items() if not torch.equal(converted[name], weight)] == []
        if half:
            taken = [weights.read(name) for name in weights.shapes]
            assert any(not torch.equal(weight, weight.bfloat16().float()) for weight in taken)  # the optimizer's own


REFUSED = [
    (
        {"intermediate_size": 512},
        r"its model.layers.0.mlp.gate_proj.weight is \[512, 64\], and the checkpoint's is \[128, 64\]. Give",
    ),
    ({"num_hidden_layers": 5}, "the checkpoint does not hold its model.layers.4.self_attn.q_proj.weight. Give the manifest of the job"),
    ({"num_hidden_layers": 3}, "the checkpoint holds model.layers.3.input_layernorm.weight, which the model lacks. Give the manifest of"),
]


@pytest.mark.parametrize(("shape", "words"), REFUSED)
def test_another_model_than_the_manifests_is_refused(parity: ModuleType, tmp_path: Path, shape: dict[str, int], words: str) -> None:
    """Files as two tensor-parallel ranks write them that share out each matrix by its rows."""
    weights = AutoModelForCausalLM.from_config(AutoConfig.for_model(**parity.LLAMA)).state_dict()
    halves = {name: weight[: len(weight) // 2] if weight.dim() > 1 else weight for name, weight in weights.items()}
    said = [(name, 0 if weight.dim() > 1 else None, name) for name, weight in weights.items()]
    for rank in range(2):
        torch.save({"module": halves, "optimizer": {"state": {}}, NOTES: said}, tmp_path / f"mp_rank_{rank:02d}_model_states.pt")
    config = parity.config_of(parity.Case(engine="deepspeed", tp=2, zero_stage=0, shape=shape), 5)
    (tmp_path / "config.json").write_text(json.dumps(config.model.config))
    with pytest.raises(BadData, match=f"spec.model is another one than the checkpoint's: {words}"):
        opened(config, tmp_path, tmp_path)
