"""How several datasets are mixed: settings that contradict each other or cannot be met. Pure."""

from __future__ import annotations

from itertools import pairwise

from llmtrain_operator.manifest.problem import Problem
from llmtrain_operator.plan.layout.request import LayoutRequest, Refusal
from llmtrain_trainer.config.shares import distortion

MOST_OFF = 0.05
"""Largest relative error between a dataset's share of the samples and its weight."""


def epochs_to_mix(request: LayoutRequest) -> Problem | None:
    """over and under say how long an epoch is, which only training.epochs reads."""
    spec = request.job.spec
    if spec.mixing not in ("over", "under"):
        return None
    if spec.training.epochs is None:
        rule = "it says how long an epoch is, and training.maxSteps ends the training"
        return Problem("spec.mixing", spec.mixing, rule, "Set training.epochs instead of training.maxSteps, or leave mixing out")
    if spec.curriculum:
        rule = "an epoch of weights that change over steps has no length of its own"
        return Problem("spec.mixing", spec.mixing, rule, "Leave mixing out, or leave curriculum out")
    return None


def rows_to_concatenate(request: LayoutRequest) -> Problem | None:
    """concat takes each row once, so that neither weights nor a source without a known end fit."""
    spec = request.job.spec
    if spec.mixing != "concat":
        return None
    weighted = next((i for i, dataset in enumerate(spec.dataset) if dataset.weight != 1), None)
    if weighted is not None:
        rule = "mixing: concat takes every row once, so no dataset has a weight"
        value = f"{spec.dataset[weighted].weight:g}"
        return Problem(f"spec.dataset[{weighted}].weight", value, rule, "Leave it out, or leave mixing out")
    if spec.curriculum:
        rule = "mixing: concat takes every row once, so no dataset has a weight"
        return Problem("spec.curriculum", f"{len(spec.curriculum)} entries", rule, "Leave curriculum out, or leave mixing out")
    streaming = next((i for i, dataset in enumerate(spec.dataset) if dataset.streaming), None)
    if streaming is not None:
        rule = f"how many rows spec.dataset[{streaming}] has is not known, because it is streamed"
        return Problem("spec.mixing", spec.mixing, rule, "Leave mixing out, or set streaming to false")
    return None


def stages_of_curriculum(request: LayoutRequest) -> Problem | None:
    """Each entry has a weight for each dataset, one at least above 0, and begins after the one before it."""
    spec = request.job.spec
    for i, stage in enumerate(spec.curriculum):
        field = f"spec.curriculum[{i}].weights"
        if len(stage.weights) != len(spec.dataset):
            rule = f"there are {len(spec.dataset)} datasets"
            return Problem(field, f"{len(stage.weights)} weights", rule, "Give one weight for each dataset, in their order")
        if not any(stage.weights):
            return Problem(field, "all 0", "no sample would be drawn", "Give at least one of them a weight above 0")
    for i, (one, other) in enumerate(pairwise(spec.curriculum), start=1):
        if other.from_step <= one.from_step:
            rule = f"the entry before it begins at step {one.from_step}"
            way_out = f"Give at least {one.from_step + 1}, in the order of the steps"
            return Problem(f"spec.curriculum[{i}].fromStep", str(other.from_step), rule, way_out)
    return None


def weights_can_be_kept(request: LayoutRequest) -> Problem | None:
    """Datasets are interleaved with a bounded period; a share that is too small for it would be rounded to another value."""
    spec = request.job.spec
    named = {f"spec.dataset[{i}].weight": dataset.weight for i, dataset in enumerate(spec.dataset)}
    staged = [{f"spec.curriculum[{i}].weights[{j}]": w for j, w in enumerate(stage.weights)} for i, stage in enumerate(spec.curriculum)]
    return next((found for weights in (named, *staged) if (found := _too_small(weights))), None)


def _too_small(weights: dict[str, float]) -> Problem | None:
    drawn = {field: weight for field, weight in weights.items() if weight}
    wrong = [field for field, off in zip(drawn, distortion([*drawn.values()]), strict=True) if off > MOST_OFF] if drawn else []
    if not wrong:
        return None
    field, weight = wrong[0], drawn[wrong[0]]
    rest = sum(drawn.values()) - weight
    rule = f"its share of the samples is {weight / sum(drawn.values()):.2g}, which cannot be met to within {MOST_OFF:.0%}"
    return Problem(field, f"{weight:g}", rule, f"Give it at least {2e-5 * rest:.1g}, or leave the dataset out")


MIXING: tuple[Refusal, ...] = (epochs_to_mix, rows_to_concatenate, stages_of_curriculum, weights_can_be_kept)
