"""Whether a run can load a checkpoint that another engine or layout wrote. Pure. Asked by the agent before the ranks start.

Every engine reads its own files in any layout; Megatron does not after some changes, which are refused with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping

from llmtrain_trainer.checkpoint.errors import ResumeError
from llmtrain_trainer.checkpoint.manifest import Meta
from llmtrain_trainer.config import Mesh, TrainerConfig

FORMATS = {"native": "dcp", "deepspeed": "deepspeed", "megatron": "megatron"}
"""What each engine reads and writes."""

AXES = {"pp": "pipeline", "dp": "data", "cp": "context", "tp": "tensor", "ep": "expert", "zero_stage": "zeroStage"}
"""Degrees of a mesh and their names in spec.parallelism."""


def check(meta: Meta, config: TrainerConfig) -> None:
    """Raises ResumeError where this run cannot load the checkpoint's files."""
    wanted = FORMATS[config.engine]
    if meta.format != wanted:
        raise ResumeError(
            f"the checkpoint of step {meta.step} was written by engine {meta.engine}, and engine {config.engine} cannot read its files: "
            f"go on with engine {meta.engine}, or give another checkpoint.destination"
        )
    changed = changes(Mesh.model_validate(meta.mesh), config.mesh) if wanted == "megatron" else {}
    reason = _not_by_megatron(config, changed)
    if reason:
        what = ", ".join(f"{name} {before} to {now}" for name, (before, now) in changed.items())
        raise ResumeError(
            f"the checkpoint of step {meta.step} cannot be loaded with {what}: {reason}. "
            "Go on in the layout it was written in, or set checkpoint.resume: none"
        )


def changes(before: Mesh, now: Mesh) -> dict[str, tuple[int, int]]:
    """Degrees that differ, by their names in the manifest: (before, now)."""
    return {name: (getattr(before, axis), getattr(now, axis)) for axis, name in AXES.items() if getattr(before, axis) != getattr(now, axis)}


def _not_by_megatron(config: TrainerConfig, changed: Mapping[str, tuple[int, int]]) -> str | None:
    """Why Megatron cannot read its files after these changes: the two kinds of optimizer keep different ones."""
    if "zeroStage" in changed:
        return "Megatron keeps a shared-out optimizer in other files than a whole one"
    if "expert" in changed and config.mesh.zero_stage == 0:
        return "without zeroStage 1 Megatron counts the weights of its optimizer by the layout"
    return None
