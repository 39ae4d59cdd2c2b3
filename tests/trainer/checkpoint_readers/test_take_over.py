"""An engine goes on where another stopped, with its optimizer: the losses are those that the other would have had."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from llmtrain_trainer.checkpoint_readers.native import Native
from llmtrain_trainer.checkpoint_readers.reader import MOMENTS, WEIGHT
from llmtrain_trainer.convert.launch import launch, load_script
from llmtrain_trainer.data.bad_data import BadData

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


HALF = GROUPED | {"training": {"precision": "bf16"}}
CHAIN = (
    {"zero_stage": 1, "dp": 2, "engine": "deepspeed"},
    LAYOUT["megatron"],
    LAYOUT["megatron"] | {"zero_stage": 0},
    LAYOUT["native"],
)
"""Engines that take a checkpoint of native over, each from the one before."""


class Ran:
    """What ranks did for all tests: each engine is started as few times as its turn allows, since importing Megatron takes longest."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.saved: dict[str, list[list[float]]] = {}
        """Losses after the save, by engine and number of its model."""

        self.adopted: dict[str, list[list[float]]] = {}
        """Losses after taking over each of `cases`, by the engine that reads."""

    def run(self) -> None:
        native, deepspeed, megatron = (self._save(engine, *([HALF] if engine == "native" else [])) for engine in LAYOUT)
        self.saved["native"] = launch(jobs_of("native"), *native)
        self.saved["deepspeed"] = launch(jobs_of("deepspeed"), *deepspeed)
        launch(jobs_of("deepspeed"), "adopt_and_save", 2, [self._link(0)])
        name, ranks, *arguments = megatron
        calls = [
            (name, arguments),
            ("adopt_and_go_on", ([case for case, _, _ in self.cases("megatron")],)),
            ("adopt_and_save", ([self._link(1), self._link(2)],)),
        ]
        self.saved["megatron"], self.adopted["megatron"], _ = launch(jobs_of("megatron"), "several", ranks, calls)
        launch(jobs_of("native"), "adopt_and_save", 2, [self._link(3)])
        for reader in ("native", "deepspeed"):
            self.adopted[reader] = launch(jobs_of(reader), "adopt_and_go_on", 2, [case for case, _, _ in self.cases(reader)])

    def cases(self, reader: str) -> Iterator[tuple[tuple[Path, dict[str, Any]], str, int]]:
        """(directory and layout, who wrote it, number of its model) of what an engine takes over."""
        for writer, models in MODELS.items():
            for number, model in enumerate(models):
                if writer != reader and model in MODELS[reader]:
                    yield (self.root / writer / f"{number}", LAYOUT[reader] | model), writer, number
        if reader == "megatron":  # which does not read its own files after this change
            yield (self.root / reader / "0", LAYOUT[reader] | MODELS[reader][0] | {"zero_stage": 0}), reader, 0

    def link(self, number: int) -> Path:
        """Directory of what link `number` of the chain saved; 0 is where it starts."""
        return self.root / "chain" / f"{number}" if number else self.root / "native" / f"{len(MODELS['native'])}"

    def _save(self, engine: str, *more: dict[str, Any]) -> tuple[str, int, list[dict[str, Any]], Path]:
        return "save_and_go_on", 2, [LAYOUT[engine] | model for model in (*MODELS[engine], *more)], self.root / engine

    def _link(self, number: int) -> tuple[Path, dict[str, Any], Path]:
        return self.link(number), CHAIN[number] | HALF, self.link(number + 1)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    made = Ran(tmp_path_factory.mktemp("saved"))
    made.run()
    return made


@pytest.mark.parametrize("reader", LAYOUT)
def test_an_engine_goes_on_with_the_losses_of_the_one_it_takes_over_from(ran: Ran, reader: str) -> None:
    expected = [pytest.approx(ran.saved[writer][number], abs=TOLERANCE) for _, writer, number in ran.cases(reader)]
    assert ran.adopted[reader] == expected and len(expected) >= 3


def jobs_of(engine: str) -> Path:
    """The functions that its ranks run; those of deepspeed do for native."""
    return ENGINES / ("megatron" if engine == "megatron" else "deepspeed") / "rank_jobs.py"


@pytest.mark.parametrize("number", range(1, len(CHAIN) + 1), ids=["deepspeed", "megatron", "megatron, whole optimizer", "native"])
def test_after_training_in_bf16_weights_and_moments_stay_bit_by_bit(ran: Ran, number: int) -> None:
    """From native to DeepSpeed, from there to Megatron, to its whole optimizer, and back."""
    before, after = (engine_jobs.stored(HALF, ran.link(link)) for link in (0, number))
    assert before.steps == after.steps == 3 and before.shapes == after.shapes
    for name, key in itertools.product(before.shapes, (WEIGHT, *MOMENTS)):
        assert torch.equal(after.read(name, key), before.read(name, key)), (name, key)


def test_files_without_their_index_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadData, match=r"it has no \.metadata"):
        Native(tmp_path, torch.nn.Identity())
