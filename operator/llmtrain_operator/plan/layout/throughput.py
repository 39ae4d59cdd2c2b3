"""Expected tokens per second, from the share of the peak that similar runs reach."""

from __future__ import annotations

from dataclasses import dataclass

from llmtrain_operator.plan.layout.hardware import Gpu
from llmtrain_operator.plan.model.shape import ModelShape, flops_per_token
from llmtrain_operator.plan.model.weights import adapter_weights, head_in_full
from llmtrain_trainer.config import Batch, Mesh, Offload, Peft, Training

RECOMPUTED = 4 / 3
"""Relative work of a step in which every layer's forward pass, a third of the work, runs twice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Throughput:
    """Expected speed, and the assumption behind it."""

    flops_per_token: float
    peak_flops_per_device: float | None
    mfu: float | None
    """Model FLOPs per second over the peak, with bubble and recomputation taken into account."""

    tokens_per_second: float | None
    """All devices together; None on CPUs."""

    seconds: float | None
    """Time for maxSteps; None if the steps or the speed are unknown."""

    bubble: float
    """Share of a step in which a pipeline rank waits."""

    assumption: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LargeModelMfu:
    """MFU that an engine reaches on models of at least so many parameters."""

    parameters: float
    mfu: float
    """Share of the bf16 peak, 0 to 1."""

    source: str
    """Where the number comes from, as a clause."""


def bubble_share(mesh: Mesh, batch: Batch) -> float:
    """The pipeline bubble as a share of a step: (pp - 1) / (m + pp - 1), m being micro-batches x stages per rank. Narayanan et al. 2021,
    section 2.2."""
    slots = batch.accumulation * (len(mesh.stages) // mesh.pp)
    return (mesh.pp - 1) / (slots + mesh.pp - 1)


def mfu_prior(shape: ModelShape, gpu: Gpu, large: LargeModelMfu | None) -> tuple[float, str]:
    """Share of the bf16 peak reached without bubble or recomputation, and where the number comes from.

    Published dense runs on H100: 33 to 39 % at 8B (torchtitan), 41 to 43 % at 70B (llm-foundry), 38 to 43 % at 405B (Llama 3 paper);
    Megatron-LM 41 to 48 % on large models (its README). DeepSpeed publishes no such table, so the numbers of the others are used.
    The lower numbers for small models, MoE and PCIe are judgements.
    """
    if gpu.domain == 1 and gpu.per_node > 1:
        return 0.30, "a GPU without a fast link"
    if shape.experts:
        return 0.25, "a mixture of experts"
    if shape.parameters < 2e9:
        return 0.30, "a model below 2B"
    if large is not None and shape.parameters >= large.parameters:
        return large.mfu, large.source
    return (0.38, "published runs at 8B") if shape.parameters < 30e9 else (0.40, "published runs from 70B up")


def trainable_parameters(shape: ModelShape, peft: Peft | None) -> int:
    if not peft:
        return shape.parameters
    return int(sum(count * adapter_weights(shape, peft, layer, 1) for layer, count in shape.kinds())) + head_in_full(shape, peft)


def expect(
    shape: ModelShape,
    mesh: Mesh,
    batch: Batch,
    training: Training,
    peft: Peft | None,
    gpu: Gpu | None,
    large_model: LargeModelMfu | None = None,
    offload: Offload | None = None,
) -> Throughput:
    """The expected speed: tokens/s = MFU x peak x devices / FLOPs per token."""
    adapter = trainable_parameters(shape, peft) if peft else 0
    flops = flops_per_token(shape, training.sequence_length, frozen=peft is not None, adapter=adapter)
    bubble = bubble_share(mesh, batch)
    if gpu is None:
        assumption = "No estimate for CPU processes: their speed is unknown."
        return Throughput(
            flops_per_token=flops,
            peak_flops_per_device=None,
            mfu=None,
            tokens_per_second=None,
            seconds=None,
            bubble=bubble,
            assumption=assumption,
        )
    prior, source = mfu_prior(shape, gpu, large_model)
    mfu = prior * (1 - bubble) / (RECOMPUTED if training.activation_checkpointing == "full" else 1.0)
    peak = gpu.peak_flops(training.precision)
    rate = mfu * peak * mesh.world_size / flops
    tokens = training.global_batch_size * training.sequence_length
    return Throughput(
        flops_per_token=flops,
        peak_flops_per_device=peak,
        mfu=mfu,
        tokens_per_second=rate,
        seconds=training.max_steps * tokens / rate if training.max_steps else None,
        bubble=bubble,
        assumption=_assumption(prior, source, peak, bubble, training, mesh) + _offloaded(offload),
    )


def _assumption(prior: float, source: str, peak: float, bubble: float, training: Training, mesh: Mesh) -> str:
    less = ([f"a pipeline bubble of {bubble:.1%}"] if bubble else []) + (
        ["a third more work for recomputation"] if training.activation_checkpointing == "full" else []
    )
    rest = f", less {' and '.join(less)}" if less else ""
    travels = " and ".join(what for degree, what in ((mesh.cp, "heads"), (mesh.ep, "tokens")) if degree > 1)
    left_out = f" The all-to-all of {travels} between ranks is not counted." if travels else ""
    return f"Assumes {prior:.0%} of the {training.precision} peak of {peak / 1e12:.0f} TFLOP/s ({source}){rest}.{left_out}"


def _offloaded(offload: Offload | None) -> str:
    moved = ", ".join(name for name in ("optimizer", "parameters") if offload is not None and getattr(offload, name) != "none")
    return f" Transfers of {moved} to and from host memory or disk are not counted: a step takes longer." if moved else ""
