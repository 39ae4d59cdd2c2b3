"""Context and expert parallelism: ranks that hold parts of sequences, or some of the experts, compute what one process does."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from llmtrain_trainer.convert.launch import launch
from llmtrain_trainer.engines.native import context, experts
from llmtrain_trainer.engines.native.router_balance import loss_sum
from llmtrain_trainer.model import published_names
from llmtrain_trainer.model.pretrained import Pretrained

TOLERANCE = 1e-5
CLIP = {"gradientClipping": 0.5, "activationCheckpointing": "full"}
LORA = {"method": "lora", "rank": 4, "alpha": 8.0}


def assert_equal(trace: Any, reference: Any) -> None:
    for found, expected in zip(trace, reference, strict=True):
        assert found == pytest.approx(expected, abs=TOLERANCE, rel=TOLERANCE)


def test_the_balance_loss_of_one_sequence_is_the_published_one() -> None:
    from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

    ours, theirs = (torch.randn(12, 4, generator=torch.Generator().manual_seed(1)).requires_grad_() for _ in range(2))
    chosen = ours.topk(2, dim=-1).indices
    loss_sum(ours, chosen, 1, None, 1).backward()
    load_balancing_loss_func((theirs,), 4, 2).backward()
    assert ours.grad is not None
    assert theirs.grad is not None
    assert ours.grad.abs().max() > 1e-4
    assert torch.allclose(ours.grad, theirs.grad, atol=1e-7)


def test_each_sequence_is_balanced_by_itself() -> None:
    logits = torch.randn(12, 4, generator=torch.Generator().manual_seed(1))
    chosen = logits.topk(2, dim=-1).indices
    halves = [loss_sum(logits[half], chosen[half], 1, None, 1) for half in (slice(0, 6), slice(6, 12))]
    assert loss_sum(logits, chosen, 2, None, 1).item() == pytest.approx(sum(halves).item(), abs=1e-6)


LAYOUT: dict[str, Any] = {"cp": 1, "tp": 1, "ep": 1}


def test_heads_that_cannot_be_dealt_out_are_refused() -> None:
    shape, dims = SimpleNamespace(num_attention_heads=6), SimpleNamespace(**LAYOUT | {"cp": 2, "tp": 2})
    with pytest.raises(ValueError, match=r"num_attention_heads is 6, but context x tensor \(2 x 2\) must divide it"):
        context.check(shape, "sdpa", dims)  # type: ignore[arg-type]


def test_an_attention_kernel_that_is_not_cut_is_refused() -> None:
    shape, dims = SimpleNamespace(num_attention_heads=8), SimpleNamespace(**LAYOUT | {"cp": 2})
    with pytest.raises(ValueError, match=r"model\.attention is eager, but sequences are cut with sdpa only"):
        context.check(shape, "eager", dims)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ({"num_experts": 6}, r"the model has 6 experts, which expert x tensor \(2 x 2\) does not divide"),
        ({"model_type": "llama"}, r"mesh\.ep is 2, but model_type llama has no experts"),
    ],
)
def test_experts_that_cannot_be_dealt_out_are_refused(shape: dict[str, Any], message: str) -> None:
    dims = SimpleNamespace(**LAYOUT | {"ep": 2, "tp": 2})
    with pytest.raises(ValueError, match=message):
        experts.check(SimpleNamespace(**shape), dims)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["MIXTRAL", "QWEN2_MOE", "QWEN3_MOE"])
def test_published_files_of_a_mixture_are_read_and_written(parity: ModuleType, tmp_path: Path, kind: str) -> None:
    from safetensors.torch import load_file
    from transformers import AutoConfig, AutoModelForCausalLM

    shape = parity.LLAMA | getattr(parity, kind)
    (tmp_path / "config.json").write_text(json.dumps(shape))
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(tmp_path))
    model.save_pretrained(tmp_path)
    theirs, source = load_file(tmp_path / "model.safetensors"), Pretrained(tmp_path, "model", {})
    ours: dict[str, torch.Tensor] = {}
    for name, weight in model.named_parameters():
        assert torch.equal(source.read(name), weight)
        ours |= {public: weight[index] for public, index in published_names.split(shape["model_type"], name, weight.shape)}
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.fixture(scope="module")
def cases(parity: ModuleType) -> dict[str, dict[str, Any]]:
    """Variants that make each mistake visible: clipping by a wrong norm, a router without its part, keys given to a wrong head."""
    return {
        "grouped": {"shape": {"num_key_value_heads": 2}, "training": CLIP},
        "packed": {"packed": True},
        "windowed": {"shape": {"model_type": "mistral", "architectures": ["MistralForCausalLM"], "sliding_window": 8}},
        "adapters": {"peft": LORA, "shape": parity.MIXTRAL},
        "mixture": {"shape": parity.MIXTRAL | parity.BALANCED, "training": CLIP},
    }


@pytest.fixture(scope="module")
def alone(jobs: Path, cases: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What one process computes."""
    return dict(zip(cases, launch(jobs, "traces", 1, list(cases.values())), strict=True))


TWO = [
    ("grouped", {"cp": 2}),
    ("packed", {"cp": 2}),
    ("windowed", {"cp": 2}),
    ("mixture", {"dp": 2, "ep": 2}),
    ("mixture", {"cp": 2, "ep": 2, "zero_stage": 0}),
    ("adapters", {"dp": 2, "ep": 2}),
]
FOUR = [
    ("grouped", {"cp": 4}),
    ("packed", {"pp": 2, "cp": 2}),
    ("mixture", {"dp": 2, "tp": 2, "ep": 2}),
    ("mixture", {"dp": 4, "ep": 2, "zero_stage": 0}),
]


@pytest.mark.processes
@pytest.mark.parametrize(("world", "layouts"), [(2, TWO), (4, FOUR)])
def test_ranks_compute_what_one_process_does(
    jobs: Path, cases: dict[str, dict[str, Any]], alone: dict[str, Any], world: int, layouts: Any
) -> None:
    found = launch(jobs, "traces", world, [cases[name] | mesh for name, mesh in layouts])
    for (name, _), trace in zip(layouts, found, strict=True):
        assert_equal(trace, alone[name])


@pytest.mark.processes
def test_a_balanced_mixture_trains_otherwise_than_a_plain_one(jobs: Path, parity: ModuleType, alone: dict[str, Any]) -> None:
    (plain,) = launch(jobs, "traces", 1, [{"shape": parity.MIXTRAL, "training": CLIP}])
    assert plain[1] != pytest.approx(alone["mixture"][1], abs=TOLERANCE)


@pytest.mark.processes
def test_a_checkpoint_goes_on_with_other_degrees_and_exports_whole(
    jobs: Path, cases: dict[str, dict[str, Any]], parity: ModuleType, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    mixture = cases["mixture"]
    expected = launch(jobs, "save_and_go_on", 1, mixture, tmp_path)
    meshes = [{"cp": 2}, {"dp": 2, "ep": 2}]
    for losses in launch(jobs, "load_and_go_on", 2, [mixture | mesh for mesh in meshes], tmp_path):
        assert losses == pytest.approx(expected, abs=TOLERANCE)
    expected = launch(jobs, "save_and_go_on", 2, mixture | {"dp": 2, "ep": 2}, tmp_path / "cut")
    (back,) = launch(jobs, "load_and_go_on", 1, [mixture], tmp_path / "cut")
    assert back == pytest.approx(expected, abs=TOLERANCE)
    (loss,) = launch(jobs, "export", 2, [mixture | {"dp": 2, "ep": 2}], ["full"], tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "0-full")
    batch = parity.batch_of(99, 0, 1, packed=False)
    with torch.no_grad():
        logits = model.eval()(input_ids=batch["input_ids"]).logits
    assert torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch["labels"].flatten()).item() == pytest.approx(loss, abs=TOLERANCE)
