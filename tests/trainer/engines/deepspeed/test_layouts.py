"""Ranks on CPU and gloo: every layout of DeepSpeed computes what one process of engine native does, and goes on from its files."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from llmtrain_trainer.convert.launch import launch

pytestmark = pytest.mark.processes
TOLERANCE = 1e-5
CLIP = {"training": {"gradientClipping": 0.5}}
TIED = {"shape": {"tie_word_embeddings": True, "num_key_value_heads": 2, "num_hidden_layers": 3}}
LORA = {"peft": {"method": "lora", "rank": 4, "alpha": 8.0}}
HALF = {"training": {"precision": "bf16"}}
HARD = TIED | {"training": {"gradientClipping": 0.5, "activationCheckpointing": "full"}}
MEASURED = HARD | {"measured": True}
DEEPSPEED = {"engine": "deepspeed"}
ODD = {"shape": {"vocab_size": 513}}
OFFLOAD = {"more": {"offload": {"optimizer": "cpu", "parameters": "cpu"}}}
WIDE = {"shape": {"hidden_size": 512, "intermediate_size": 1024, "num_hidden_layers": 1}, "zero_stage": 3}
"""Shares of two replicas below and above a mebibyte, which is what DeepSpeed takes to a disk."""


@pytest.fixture(scope="module")
def balanced(parity: ModuleType) -> dict[str, Any]:
    """A mixture whose config.json asks for the router loss."""
    return {"shape": parity.MIXTRAL | parity.BALANCED}


@pytest.fixture(scope="module")
def alone(jobs: Path, balanced: dict[str, Any]) -> dict[str, Any]:
    """What one process of engine native computes."""
    variants = {"plain": CLIP, "adapters": LORA, "hard": MEASURED, "packed": {"packed": True}, "odd": ODD, "balanced": balanced}
    return dict(zip(variants, launch(jobs, "traces", 1, list(variants.values())), strict=True))


def compare(jobs: Path, alone: dict[str, Any], world: int, mesh: dict[str, int], cases: list[tuple[str, dict[str, Any]]]) -> None:
    traces = launch(jobs, "traces", world, [DEEPSPEED | mesh | case for _, case in cases])
    for (variant, _), trace in zip(cases, traces, strict=True):
        for found, expected in zip(trace, alone[variant], strict=True):
            assert found == pytest.approx(expected, abs=TOLERANCE, rel=TOLERANCE)


def test_two_replicas_compute_what_one_process_does_at_every_stage(jobs: Path, alone: dict[str, Any], balanced: dict[str, Any]) -> None:
    stages: list[tuple[str, dict[str, Any]]] = [("plain", CLIP | {"zero_stage": stage}) for stage in range(4)]
    more = [
        ("hard", MEASURED | {"zero_stage": 3}),
        ("adapters", LORA | {"zero_stage": 3}),
        ("plain", CLIP | OFFLOAD),
        ("balanced", balanced | {"zero_stage": 2}),
    ]
    compare(jobs, alone, 2, {"dp": 2}, [*stages, *more])


def test_two_stages_compute_what_one_process_does(jobs: Path, alone: dict[str, Any], balanced: dict[str, Any]) -> None:
    cases = [
        ("plain", CLIP | {"zero_stage": 0}),
        ("hard", MEASURED | {"zero_stage": 0}),
        ("hard", MEASURED | {"zero_stage": 1}),
        ("adapters", LORA | {"zero_stage": 1}),
        ("packed", {"packed": True, "zero_stage": 1}),
        ("balanced", balanced | {"zero_stage": 1}),
    ]
    compare(jobs, alone, 2, {"pp": 2}, cases)


def test_two_halves_compute_what_one_process_does(jobs: Path, alone: dict[str, Any]) -> None:
    # ZeRO-3 comes first: a job of its own finds no groups that another engine of the process has set.
    cases = [("hard", MEASURED | {"zero_stage": 3}), ("plain", CLIP | {"zero_stage": 0}), ("adapters", LORA | {"zero_stage": 1})]
    compare(jobs, alone, 2, {"tp": 2}, [*cases, ("odd", ODD | {"zero_stage": 1})])


def test_two_by_two_by_two_computes_what_one_process_does(jobs: Path, alone: dict[str, Any]) -> None:
    cases = [("hard", MEASURED | {"zero_stage": 1})]
    compare(jobs, alone, 8, {"pp": 2, "dp": 2, "tp": 2}, cases)


@pytest.mark.parametrize(
    ("mesh", "cases"),
    [
        ({"dp": 2}, [{"zero_stage": 1}, HALF | {"zero_stage": 1}, LORA | {"zero_stage": 3}]),
        ({"pp": 2}, [{"zero_stage": 0}, TIED | {"zero_stage": 1}]),
    ],
    ids=["replicas", "stages"],
)
def test_a_resume_in_a_fresh_process_is_exact(jobs: Path, tmp_path: Path, mesh: dict[str, int], cases: list[dict[str, Any]]) -> None:
    given = [DEEPSPEED | mesh | case for case in cases]
    expected = launch(jobs, "save_and_go_on", 2, given, tmp_path)
    assert launch(jobs, "load_and_go_on", 2, given, tmp_path) == expected


CHANGES: list[tuple[int, dict[str, Any], int, dict[str, Any], dict[str, Any]]] = [
    (2, {"dp": 2, "zero_stage": 3}, 1, {"zero_stage": 0}, {}),
    (2, {"dp": 2, "zero_stage": 2}, 4, {"pp": 2, "tp": 2, "zero_stage": 1}, LORA),
    (4, {"pp": 2, "tp": 2, "zero_stage": 1}, 2, {"dp": 2, "zero_stage": 3}, TIED),
    (2, {"tp": 2, "zero_stage": 3}, 4, {"tp": 2, "dp": 2, "zero_stage": 3}, {}),
]


@pytest.mark.parametrize(("before", "old", "after", "new", "model"), CHANGES, ids=["fewer", "stages", "no stages", "more"])
def test_another_layout_goes_on_with_the_losses_of_the_old_one(
    jobs: Path, tmp_path: Path, before: int, old: dict[str, Any], after: int, new: dict[str, Any], model: dict[str, Any]
) -> None:
    (expected,) = launch(jobs, "save_and_go_on", before, [DEEPSPEED | model | old], tmp_path)
    (found,) = launch(jobs, "load_and_go_on", after, [DEEPSPEED | model | new], tmp_path)
    assert found == pytest.approx(expected, abs=TOLERANCE)


@pytest.mark.timeout(900)  # the first time DeepSpeed compiles for minutes
def test_a_disk_changes_no_loss_and_a_resume_from_it_is_exact(jobs: Path, disk: Path, tmp_path: Path) -> None:
    weights = {"zero_optimization": {"offload_param": {"buffer_size": 600_000}}}  # five buffers of 1e8 weights would take 2 GB
    optimizer: dict[str, Any] = {"offload": {"optimizer": "nvme", "path": str(disk)}}
    both: dict[str, Any] = {"offload": {"optimizer": "nvme", "parameters": "nvme", "path": str(disk)}, "deepspeed": weights}
    cases = [DEEPSPEED | WIDE | {"more": more} for more in (both, optimizer, {})] + [DEEPSPEED | WIDE | LORA | {"more": both}]
    expected = launch(jobs, "save_and_go_on", 2, [case | {"dp": 2} for case in cases], tmp_path)
    memory = pytest.approx(expected[2], abs=TOLERANCE)
    assert expected[:2] == [memory, memory]
    assert list(disk.rglob("exp_avg-*.swp")) and list(disk.rglob("*_param.tensor.swp"))
    assert launch(jobs, "load_and_go_on", 2, [case | {"dp": 2} for case in cases], tmp_path) == expected

    assert launch(jobs, "load_and_go_on", 1, cases[:1], tmp_path) == [memory]


def test_exports_load_in_plain_transformers_and_peft(jobs: Path, parity: ModuleType, tmp_path: Path) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    three, four = DEEPSPEED | {"dp": 2, "zero_stage": 3}, DEEPSPEED | {"pp": 2, "tp": 2, "zero_stage": 1}
    losses = launch(jobs, "export", 2, [three], ["full"], tmp_path / "three")
    losses += launch(jobs, "export", 4, [four | LORA, four | HARD], ["adapter", "full"], tmp_path / "four")
    launch(jobs, "export_start", 1, {}, tmp_path / "start")
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "start" / "weights")
    models = [
        AutoModelForCausalLM.from_pretrained(tmp_path / "three" / "0-full"),
        PeftModel.from_pretrained(base, tmp_path / "four" / "0-adapter"),
        AutoModelForCausalLM.from_pretrained(tmp_path / "four" / "1-full"),
    ]
    batch = parity.batch_of(99, 0, 1, packed=False)
    for model, expected in zip(models, losses, strict=True):
        with torch.no_grad():
            logits = model.eval()(input_ids=batch["input_ids"]).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch["labels"].flatten())
        assert loss.item() == pytest.approx(expected, abs=TOLERANCE)


def test_what_cannot_be_laid_out_is_said(jobs: Path, tmp_path: Path) -> None:
    disk = {"more": {"offload": {"optimizer": "nvme", "path": str(tmp_path)}}}
    cases = [disk | {"zero_stage": 3}, {"cp": 2}, {"dp": 2}, {"virtual": 2}]
    words = ["install libaio-dev", "mesh.cp is 2", "needs 2 ranks, but 1 are running", "holds one stage a rank"]
    for said, expected in zip(launch(jobs, "refusals", 1, [DEEPSPEED | case for case in cases], tmp_path), words, strict=True):
        assert expected in said
