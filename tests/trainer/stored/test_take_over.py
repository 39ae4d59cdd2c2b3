"""An engine goes on where another stopped, with its optimizer: the losses are those that the other would have had."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch

from llmtrain_trainer.convert.launch import launch, load_script
from llmtrain_trainer.data.bad_data import BadData
from llmtrain_trainer.stored.native import Native
from llmtrain_trainer.stored.source import MOMENTS, WEIGHT

pytestmark = pytest.mark.processes
ENGINES = Path(__file__).parents[1] / "engines"
engine_jobs = load_script(ENGINES / "engine_jobs.py")
TOLERANCE = 1e-5
GROUPED = {"shape": {"num_key_value_heads": 2, "tie_word_embeddings": True}}
LORA = {"peft": {"method": "lora", "rank": 4, "alpha": 8.0}}
MIXTURE = {
    "shape": {
        "model_type": "mixtral",
        "architectures": ["MixtralForCausalLM"],
        "num_key_value_heads": 2,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
    }
}
LAYOUT: dict[str, dict[str, Any]] = {
    "native": {"engine": "native", "tp": 2},
    "deepspeed": {"engine": "deepspeed", "dp": 2, "zero_stage": 3},
    "megatron": {"engine": "megatron", "dp": 2, "zero_stage": 1},
}
"""Two ranks of each."""

MODELS = {"native": [GROUPED, LORA, MIXTURE], "deepspeed": [GROUPED, LORA], "megatron": [GROUPED, MIXTURE]}
"""That an engine trains, saves, and others take over where they can."""


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, list[list[float]]]]:
    """Directory of each engine's checkpoints by number of its model, and the losses with which it trained on."""
    root = tmp_path_factory.mktemp("saved")
    made = {}
    for engine, models in MODELS.items():
        made[engine] = (
            root / engine,
            launch(jobs_of(engine), "save_and_go_on", 2, [LAYOUT[engine] | model for model in models], root / engine),
        )
    return made


@pytest.mark.parametrize("reader", LAYOUT)
def test_an_engine_goes_on_with_the_losses_of_the_one_it_takes_over_from(saved: Any, reader: str) -> None:
    cases, expected = [], []
    for writer, models in MODELS.items():
        directory, losses = saved[writer]
        for number, model in enumerate(models):
            if writer != reader and model in MODELS[reader]:
                cases.append((directory / f"{number}", LAYOUT[reader] | model))
                expected.append(pytest.approx(losses[number], abs=TOLERANCE))
    if reader == "megatron":  # which does not read its own files after this change
        directory, losses = saved[reader]
        cases.append((directory / "0", LAYOUT[reader] | MODELS[reader][0] | {"zero_stage": 0}))
        expected.append(pytest.approx(losses[0], abs=TOLERANCE))
    assert launch(jobs_of(reader), "adopt_and_go_on", 2, cases) == expected
    assert len(cases) >= 3


def jobs_of(engine: str) -> Path:
    """The functions that its ranks run; those of deepspeed do for native."""
    return ENGINES / ("megatron" if engine == "megatron" else "deepspeed") / "rank_jobs.py"


def test_after_training_in_bf16_weights_and_moments_stay_bit_by_bit(tmp_path: Path) -> None:
    """From native to DeepSpeed, from there to Megatron, to its whole optimizer, and back."""
    half = GROUPED | {"training": {"precision": "bf16"}}
    first = tmp_path / "0"
    launch(jobs_of("native"), "save_and_go_on", 2, [LAYOUT["native"] | half], tmp_path)
    chain = [
        {"zero_stage": 1, "dp": 2, "engine": "deepspeed"},
        LAYOUT["megatron"],
        LAYOUT["megatron"] | {"zero_stage": 0},
        LAYOUT["native"],
    ]
    for number, case in enumerate(chain, start=1):
        target = tmp_path / f"{number}"
        launch(jobs_of(case["engine"]), "adopt_and_save", 2, [(tmp_path / f"{number - 1}", case | half, target)])
        before, after = engine_jobs.stored(half, first), engine_jobs.stored(half, target)
        assert before.steps == after.steps == 3 and before.shapes == after.shapes
        for name, key in itertools.product(before.shapes, (WEIGHT, *MOMENTS)):
            assert torch.equal(after.take(name, key), before.take(name, key)), (number, name, key)


def test_files_without_their_index_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadData, match=r"it has no \.metadata"):
        Native(tmp_path, torch.nn.Identity())
