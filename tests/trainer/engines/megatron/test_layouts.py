"""Ranks on a CPU, with the stand-in for CUDA: Megatron computes what the native engine does in one process, in every layout, and reads
what another layout wrote. It shows the wiring; of CUDA it shows nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from llmtrain_trainer.convert.launch import launch

pytestmark = pytest.mark.processes
TOLERANCE = 1e-5
CLIP = {"gradientClipping": 0.5}
MEGATRON: dict[str, Any] = {"engine": "megatron", "zero_stage": 1}
TIED = {"tie_word_embeddings": True, "num_key_value_heads": 2}


VARIANTS = ("clipped", "tied", "qwen3", "mixtral")
"""Each makes a mistake visible: a wrong norm, a head that is not tied, keys given to a wrong head, a wrong expert."""

LAYOUTS: list[tuple[str, dict[str, Any]]] = [
    ("clipped", {"dp": 2}),
    ("clipped", {"pp": 2, "virtual": 2}),
    ("clipped", {"cp": 2}),
    ("tied", {"pp": 2}),
    ("qwen3", {"tp": 2}),
    ("mixtral", {"dp": 2, "ep": 2}),
]
DENSE = MEGATRON | {"shape": TIED, "training": CLIP}
DROPOUT = MEGATRON | {"shape": {"attention_dropout": 0.3}, "training": {"precision": "bf16"}}
EXACT = 2
EXPORTED = ({"tp": 2}, {"tp": 2}, {"pp": 2}, {"tp": 2}, {"dp": 2, "ep": 2}, {"tp": 2})
IDS = torch.randint(512, (2, 32), generator=torch.Generator().manual_seed(1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """What ranks computed for all tests: importing Megatron costs more than any of it."""

    models: list[Any]
    """transformers' models, whose published weights the ranks read."""

    exports: Path
    """<number of the model>/exported-<number of ranks>."""

    native: dict[str, Any]
    logits: list[torch.Tensor]
    layouts: list[Any]
    after_save: list[list[float]]
    after_load: list[list[float]]
    left_out: tuple[list[bool], bool, bool]


@pytest.fixture(scope="module")
def ran(jobs: Path, parity: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    weights, saves = tmp_path_factory.mktemp("weights"), tmp_path_factory.mktemp("saves")
    shapes = published_shapes(parity)
    models = [publish(parity.LLAMA | shape, weights / f"{number}" / "weights", number) for number, shape in enumerate(shapes)]
    runs = variants(parity)
    cases = [MEGATRON | {"shape": shape} for shape in shapes]
    cut = [case | mesh for case, mesh in zip(cases, EXPORTED, strict=True)]
    native, logits = launch(jobs, "several", 1, [("traces", (list(runs.values()),)), ("pretrained_of_each", (cases, weights, IDS))])
    saved, loaded = checkpoints(parity)
    layouts, _, after_save, after_load, left_out = launch(
        jobs,
        "several",
        2,
        [
            ("traces", ([runs[name] | MEGATRON | mesh for name, mesh in LAYOUTS],)),
            ("pretrained_of_each", (cut, weights, IDS)),
            ("save_and_go_on", (saved, saves)),
            ("load_and_go_on", (loaded, saves)),
            ("left_out", (MEGATRON | {"dp": 2, "zero_stage": 1}, weights / "left out")),
        ],
    )
    return Ran(
        models=models,
        exports=weights,
        native=dict(zip(runs, native, strict=True)),
        logits=logits,
        layouts=layouts,
        after_save=after_save,
        after_load=after_load,
        left_out=left_out,
    )


def variants(parity: ModuleType) -> dict[str, dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {"training": CLIP},
        {"shape": TIED | {"num_hidden_layers": 5}, "training": CLIP | {"activationCheckpointing": "full"}, "measured": True},
        {"shape": parity.QWEN3, "training": CLIP},
        {"shape": parity.MIXTRAL, "training": CLIP},
    ]
    return dict(zip(VARIANTS, found, strict=True))


def published_shapes(parity: ModuleType) -> list[dict[str, Any]]:
    qwen2 = {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "num_key_value_heads": 2}
    every_layer = parity.QWEN3_MOE | {"decoder_sparse_step": 1, "norm_topk_prob": False}
    biased = {"attention_bias": True, "mlp_bias": True}
    return [TIED, biased, qwen2, parity.QWEN3 | {"tie_word_embeddings": True}, parity.MIXTRAL, every_layer]


def publish(shape: dict[str, Any], directory: Path, seed: int) -> Any:
    """A model of transformers, saved as its makers publish one."""
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**shape), dtype=torch.float32)
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.2)  # biases and norms too, which would start as zeros and ones
    model.save_pretrained(directory)
    return model.eval()


def checkpoints(parity: ModuleType) -> tuple[list[dict[str, Any]], list[tuple[int, dict[str, Any]]]]:
    """Layouts that save, and (which of them, layout) that load: the first EXACT their own, then others."""
    mixture = MEGATRON | {"shape": parity.MIXTRAL}
    saved = [DENSE | {"dp": 2, "zero_stage": 0}, DROPOUT | {"dp": 2}, DENSE | {"tp": 2}, mixture | {"dp": 2, "ep": 2}]
    whole = DENSE | {"pp": 2, "zero_stage": 0}
    other = [(2, DENSE | {"dp": 2}), (2, DENSE | {"pp": 2, "virtual": 2}), (0, whole), (3, mixture | {"tp": 2})]
    return saved, [*enumerate(saved[:EXACT]), *other]


@pytest.mark.parametrize("number", range(len(LAYOUTS)), ids=lambda number: str(LAYOUTS[number]))
def test_two_ranks_compute_what_the_native_engine_does_in_one(ran: Ran, number: int) -> None:
    for mine, expected in zip(ran.layouts[number], ran.native[LAYOUTS[number][0]], strict=True):
        assert mine == pytest.approx(expected, abs=TOLERANCE, rel=TOLERANCE)


def test_published_weights_give_equal_logits(ran: Ran) -> None:
    for model, logits in zip(ran.models, ran.logits, strict=True):
        with torch.no_grad():
            assert torch.allclose(logits, model(IDS).logits, atol=1e-4)


@pytest.mark.parametrize("ranks", [1, 2])
def test_published_weights_come_back_equal_from_every_layout(ran: Ran, ranks: int) -> None:
    from transformers import AutoModelForCausalLM

    for number, model in enumerate(ran.models):
        back = AutoModelForCausalLM.from_pretrained(ran.exports / f"{number}" / f"exported-{ranks}").state_dict()
        assert all(torch.equal(weight, back[name]) for name, weight in model.state_dict().items())


def test_a_checkpoint_goes_on_exactly_in_its_layout_in_bf16_with_dropout_too(ran: Ran) -> None:
    assert ran.after_load[:EXACT] == ran.after_save[:EXACT]


def test_an_update_that_is_not_finite_is_left_out_and_the_next_one_is_made(ran: Ran) -> None:
    skipped, stayed, moved = ran.left_out
    assert (skipped, stayed, moved) == ([False, True, False], True, True)


def test_a_checkpoint_goes_on_in_another_layout(ran: Ran, parity: ModuleType) -> None:
    _, loaded = checkpoints(parity)
    for (number, _), losses in zip(loaded[EXACT:], ran.after_load[EXACT:], strict=True):
        assert losses == pytest.approx(ran.after_save[number], abs=TOLERANCE)
