"""Whether a run can load a checkpoint that another engine or layout wrote. Pure. Asked by the agent before the ranks start.

`dcp` knows no layout. The own files of an engine belong to the layout that wrote them; a few changes can be converted, the rest is
refused with the reason.
"""

from __future__ import annotations

from collections.abc import Callable

from llmtrain_trainer.checkpoint.errors import ResumeError
from llmtrain_trainer.checkpoint.manifest import Meta
from llmtrain_trainer.config import Mesh, TrainerConfig

FORMATS = {"native": "dcp", "deepspeed": "deepspeed", "megatron": "megatron"}
"""What each engine reads and writes."""

AXES = {"pp": "pipeline", "dp": "data", "cp": "context", "tp": "tensor", "ep": "expert", "zero_stage": "zeroStage"}
"""Degrees of a mesh and their names in spec.parallelism."""


def conversion(meta: Meta, config: TrainerConfig) -> str | None:
    """Name of the conversion that the files need before the ranks can load them; None: none, they fit as they are.

    Raises ResumeError where no conversion leads there.
    """
    wanted = FORMATS[config.engine]
    if meta.format != wanted:
        raise ResumeError(
            f"the checkpoint of step {meta.step} was written by engine {meta.engine}, and engine {config.engine} cannot read its files: "
            f"go on with engine {meta.engine}, or give another checkpoint.destination"
        )
    if wanted == "dcp":
        return None
    changed = changes(Mesh.model_validate(meta.mesh), config.mesh)
    return LAYOUTS[wanted](meta, config, changed) if changed else None


def changes(before: Mesh, now: Mesh) -> dict[str, tuple[int, int]]:
    """Degrees that differ, by their names in the manifest: (before, now). Which layers a stage holds counts as pipeline."""
    found = {
        name: (getattr(before, axis), getattr(now, axis)) for axis, name in AXES.items() if getattr(before, axis) != getattr(now, axis)
    }
    if before.stages != now.stages:
        found.setdefault("pipeline", (before.pp, now.pp))
    return found


def refusal(meta: Meta, changed: dict[str, tuple[int, int]], reason: str) -> ResumeError:
    """One sentence: what changed, why it cannot be loaded, the way out."""
    what = ", ".join(f"{name} {before} to {now}" for name, (before, now) in changed.items())
    return ResumeError(
        f"the checkpoint of step {meta.step} cannot be loaded with {what}: {reason}. "
        "Go on in the layout it was written in, or set checkpoint.resume: none"
    )


def _made_universal(meta: Meta, config: TrainerConfig, changed: dict[str, tuple[int, int]]) -> str | None:
    """DeepSpeed's universal format leads to another number of replicas. Without ZeRO every replica has the same, and one is saved."""
    mesh = config.mesh
    if set(changed) != {"data"}:
        raise refusal(meta, changed, "DeepSpeed's files can go to another number of replicas and to nothing else")
    if mesh.zero_stage == 0:
        return None
    if mesh.pp > 1:
        raise refusal(meta, changed, "DeepSpeed's universal format does not know our stages")
    if mesh.tp > 1 and mesh.zero_stage == 3:
        raise refusal(meta, changed, "ZeRO-3 over shards of tensor parallelism has no universal format")
    return "universal"


def _reshaped_by_megatron(meta: Meta, config: TrainerConfig, changed: dict[str, tuple[int, int]]) -> str | None:
    """Megatron reads its files in other layouts as they are; the two kinds of optimizer keep different files."""
    if "zeroStage" in changed:
        raise refusal(meta, changed, "Megatron keeps a shared-out optimizer in other files than a whole one")
    if "expert" in changed and config.mesh.zero_stage == 0:
        raise refusal(meta, changed, "without zeroStage 1 Megatron counts the weights of its optimizer by the layout")
    return None


LAYOUTS: dict[str, Callable[[Meta, TrainerConfig, dict[str, tuple[int, int]]], str | None]] = {
    "deepspeed": _made_universal,
    "megatron": _reshaped_by_megatron,
}
"""What each engine's files can do about a layout that changed: name a conversion, None, or raise ResumeError."""
