"""DeepSpeed's configuration: what each field of the spec becomes, written once."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest

from llmtrain_trainer.config.deepspeed import owned

ALWAYS = {"zero_force_ds_cpu_optimizer": False, "checkpoint": {"tag_validation": "Ignore"}}


def derived(parity: ModuleType, **case: Any) -> dict[str, Any]:
    """The configuration of a layout of 8 sequences in micro-batches of 2."""
    from llmtrain_trainer.engines.deepspeed.settings import settings_of

    settings: dict[str, Any] = settings_of(parity.config_of(parity.Case(engine="deepspeed", **case), 1))
    return settings


def test_batch_clipping_and_stage_come_from_the_spec(parity: ModuleType) -> None:
    assert derived(parity, dp=2, zero_stage=2, training={"gradientClipping": 0.5}) == ALWAYS | {
        "train_micro_batch_size_per_gpu": 2,
        "gradient_accumulation_steps": 2,
        "gradient_clipping": 0.5,
        "zero_optimization": {"stage": 2},
    }


def test_without_clipping_deepspeed_is_told_so(parity: ModuleType) -> None:
    assert derived(parity, zero_stage=1)["gradient_clipping"] == 0.0


def test_without_zero_the_clipping_is_ours(parity: ModuleType) -> None:
    assert derived(parity, pp=2, zero_stage=0, training={"gradientClipping": 0.5})["gradient_clipping"] == 0.0


def test_bf16_keeps_sums_in_fp32(parity: ModuleType) -> None:
    settings = derived(parity, zero_stage=3, training={"precision": "bf16"})
    assert settings["bf16"] == {"enabled": True}
    assert settings["data_types"] == {"grad_accum_dtype": "fp32"} and settings["communication_data_type"] == "fp32"


def test_tensor_parallelism_is_autotp_outside_a_pipeline_and_the_grid_inside(parity: ModuleType) -> None:
    assert derived(parity, tp=2, zero_stage=1)["tensor_parallel"] == {"autotp_size": 2}
    assert "tensor_parallel" not in derived(parity, pp=2, tp=2, zero_stage=1)


def test_the_whole_batch_is_never_named(parity: ModuleType) -> None:
    assert "train_batch_size" not in derived(parity, tp=2, dp=2, zero_stage=1)


def test_offload_names_places_and_the_directory_of_a_disk(parity: ModuleType) -> None:
    offload = {"offload": {"optimizer": "cpu", "parameters": "nvme", "path": "/local"}}
    assert derived(parity, zero_stage=3, more=offload)["zero_optimization"] == {
        "stage": 3,
        "offload_optimizer": {"device": "cpu"},
        "offload_param": {"device": "nvme", "nvme_path": "/local", "max_in_cpu": 0},
        "stage3_max_reuse_distance": 0,
        "stage3_prefetch_bucket_size": 0,
    }


def test_raw_keys_are_added_inside_sections_too(parity: ModuleType) -> None:
    raw = {"deepspeed": {"wall_clock_breakdown": True, "zero_optimization": {"overlap_comm": True}, "communication_data_type": "bf16"}}
    settings = derived(parity, zero_stage=2, training={"precision": "bf16"}, more=raw)
    assert settings["wall_clock_breakdown"] is True and settings["communication_data_type"] == "bf16"
    assert settings["zero_optimization"] == {"stage": 2, "overlap_comm": True}


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        ({"gradient_clipping": 1.0}, "training.gradientClipping"),
        ({"zero_optimization": {"stage": 2}}, "parallelism.zeroStage"),
        ({"zero_optimization": {"offload_param": {"device": "cpu", "pin_memory": True}}}, "parallelism.offload.parameters"),
        ({"zero_optimization": "all"}, "parallelism.zeroStage"),
        ({"bf16": {"enabled": False}}, "training.precision"),
    ],
)
def test_a_raw_key_that_a_field_says_is_refused_by_the_field(parity: ModuleType, raw: dict[str, Any], field: str) -> None:
    assert [found for _, found in owned(raw)] == [field]
    with pytest.raises(ValueError, match=f"which spec.{field} says"):
        derived(parity, zero_stage=2, more={"deepspeed": raw})
