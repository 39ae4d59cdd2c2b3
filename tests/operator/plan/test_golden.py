"""The example of 2 x 4 x 4 on 32 GPUs, as JSON and as the table a person reads. UPDATE_GOLDEN=1 writes both anew."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import pytest
from rich.console import Console

from llmtrain_operator.cli.plan_table import render_plan
from llmtrain_operator.manifest.parse import parse_manifest
from llmtrain_operator.plan.model.families import shape_of
from llmtrain_operator.plan.plan import Plan, plan
from llmtrain_operator.plan.plan_dict import plan_dict

EXAMPLE = Path(__file__).parents[3] / "examples" / "03-llama3-8b-2x4x4.yaml"
GOLDEN = Path(__file__).parents[1] / "golden"


def example(*changes: tuple[str, str]) -> Plan:
    text = EXAMPLE.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    job = parse_manifest(text)
    return plan(job, shape_of(job.spec.model.config or {}))


def table(found: Plan) -> str:
    console = Console(width=120, file=io.StringIO(), color_system=None)
    console.print(render_plan(found))
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines()) + "\n"


def same(name: str, text: str) -> bool:
    golden = GOLDEN / name
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(text)
    return text == golden.read_text()


CASES = {
    "2x4x4": (),
    "auto": (("    data: 2\n    pipeline: 4\n    tensor: 4\n", "    auto: true\n"),),
    "megatron": (("    data: 2\n", "    engine: megatron\n    virtualStages: 2\n"),),
    "too-large": (("gpu: H100-80GB", "gpu: L4"),),
    "cut-sequences-and-experts": (
        ("model_type: llama", "model_type: mixtral\n      num_local_experts: 8\n      num_experts_per_tok: 2"),
        ("    data: 2\n    pipeline: 4\n    tensor: 4\n", "    pipeline: 2\n    context: 4\n    expert: 8\n"),
        ("sequenceLength: 8192", "sequenceLength: 32768\n    activationCheckpointing: full"),
    ),
    "lora-on-cpu": (
        ("gpusPerNode: 8\n    gpu: H100-80GB", "procsPerNode: 8"),
        ("  parallelism:", "  peft: {method: lora, rank: 8}\n  parallelism:"),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_table_is_the_golden_one(name: str) -> None:
    assert same(f"plan-{name}.txt", table(example(*CASES[name])))


@pytest.mark.parametrize("name", CASES)
def test_the_json_is_the_golden_one(name: str) -> None:
    assert same(f"plan-{name}.json", json.dumps(plan_dict(example(*CASES[name])), indent=1) + "\n")


def test_the_example_fits_on_32_devices() -> None:
    found = example()
    assert found.fits and found.mesh.world_size == 32
    assert (found.mesh.dp, found.mesh.pp, found.mesh.tp) == (2, 4, 4)


def test_the_terms_of_the_json_add_up_to_the_peak() -> None:
    memory = plan_dict(example())["memory"]
    assert sum(term["bytes"] for term in memory["terms"]) == memory["peakBytes"]


def test_a_large_grid_is_cut_and_says_so() -> None:
    text = table(example(("nodes: 4", "nodes: 32"), ("data: 2", "data: 16")))
    assert "16 more nodes continue the pattern" in text


def test_one_device_has_no_grid() -> None:
    small = example(
        ("    data: 2\n    pipeline: 4\n    tensor: 4\n", "    engine: native\n"),
        ("nodes: 4\n    gpusPerNode: 8\n    gpu: H100-80GB", "nodes: 1"),
    )
    assert "Ranks" not in table(small)


def test_a_shape_that_is_not_known_is_said() -> None:
    job = parse_manifest(EXAMPLE.read_text())
    found = plan(job, None)
    assert found.fits and found.memory is None and plan_dict(found)["memory"] is None
    assert "shape is unknown before preparation" in table(found)
