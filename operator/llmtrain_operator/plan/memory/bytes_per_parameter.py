"""Bytes a weight costs while it is trained or frozen, by engine, ZeRO stage and precision."""

from __future__ import annotations

from dataclasses import dataclass

from llmtrain_trainer.config import EngineName, Offload

NOWHERE = Offload()
"""Everything stays on the device."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StateBytes:
    """Bytes on each rank for every trained weight of its stage, after the data-parallel ranks have shared out what they share."""

    weights: float
    gradients: float
    optimizer: float
    source: str
    """Where the numbers come from, in words a table can show."""


def trained(engine: EngineName, zero: int, precision: str, dp: int, offload: Offload = NOWHERE) -> StateBytes:
    """What AdamW training keeps a weight. `offload`: what is not on the device."""
    if engine == "native":
        return _native(zero, dp)
    return _deepspeed(zero, precision, dp, offload) if engine == "deepspeed" else _megatron(zero, precision, dp)


def _native(zero: int, dp: int) -> StateBytes:
    """Fp32 weights, gradient sums and moments in every precision; FSDP2 shares all of them out with zeroStage 3."""
    share = dp if zero == 3 else 1
    whole = "fp32 weight, gradient and two moments"
    return StateBytes(weights=4 / share, gradients=4 / share, optimizer=8 / share, source=f"{whole} over {share}" if share > 1 else whole)


def _deepspeed(zero: int, precision: str, dp: int, offload: Offload) -> StateBytes:
    """Shared out stage by stage: Rajbhandari et al. 2020 (ZeRO), section 3.1. From stage 1 on the optimizer has fp32 weights of its own.

    In bf16 gradients are added up in fp32; stage 1 does that beside the bf16 ones. What is offloaded takes its gradients along where
    they are shared out: Ren et al. 2021 (ZeRO-Offload), section 4.
    """
    away = offload.optimizer != "none"
    width = 2 if precision == "bf16" else 4
    gradients = (6.0 if precision == "bf16" else 4.0) if zero < 2 else 0.0 if away else 4.0 / dp
    optimizer = 0.0 if away else (12.0 / dp if zero else 8.0)
    weights = width / (dp if zero >= 3 else 1)
    return StateBytes(
        weights=0.0 if offload.parameters != "none" else weights,
        gradients=gradients,
        optimizer=optimizer,
        source=f"ZeRO-{zero} over {dp}" + (", offloaded" if offload != NOWHERE else ""),
    )


def _megatron(zero: int, precision: str, dp: int) -> StateBytes:
    """18 bytes, or 6 + 12/dp with the distributed optimizer: theoretical_memory_usage.py of Megatron-LM."""
    weights, optimizer = (2, 12) if precision == "bf16" else (4, 8)
    source = f"distributed optimizer over {dp}" if zero else "optimizer whole on every rank"
    return StateBytes(weights=weights, gradients=4, optimizer=optimizer / (dp if zero else 1), source=source)


def frozen(engine: EngineName, zero: int, precision: str, dp: int, offload: Offload = NOWHERE) -> float:
    """Bytes on each rank for a frozen weight of a matrix inside the layers."""
    if offload.parameters != "none":
        return 0.0
    width = 2 if precision == "bf16" and engine != "native" else 4
    return width / (dp if zero == 3 and engine in ("native", "deepspeed") else 1)
