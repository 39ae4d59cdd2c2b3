"""The traits of an engine that the plan needs, as one value. registry.py has the values by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from llmtrain_operator.api.job import LLMTrainJob
from llmtrain_operator.plan.layout.hardware import Gpu
from llmtrain_operator.plan.layout.request import Refusal
from llmtrain_operator.plan.layout.throughput import LargeModelMfu
from llmtrain_operator.plan.memory.workload import EngineMemory
from llmtrain_operator.plan.model.shape import ModelShape
from llmtrain_trainer.config import EngineName

Wish = Callable[[LLMTrainJob, ModelShape | None, Gpu | None], str | None]
"""Why `engine: auto` should try this engine first, as a clause; None if it should not."""


def _no_wish(job: LLMTrainJob, shape: ModelShape | None, gpu: Gpu | None) -> None:
    """The wish of an engine that `auto` never prefers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineTraits:
    """Traits of one engine."""

    name: EngineName
    limits: tuple[Refusal, ...]
    """Its refusals, evaluated after those for every engine."""

    memory: EngineMemory
    sharding_stages: tuple[int, ...]
    """ZeRO stages that shard the most, the best first; a pipeline may refuse the first ones."""

    searched_stages: tuple[int | None, ...] = (None,)
    """ZeRO stages that `auto` compares without a pipeline; None is the engine's default."""

    sharding_cost: Mapping[int, float] = field(default_factory=dict)
    """Share of a step's time that a ZeRO stage's communication adds. A judgement, not a measurement."""

    parts_per_context: int = 2
    """Chunks of a sequence per context-parallel rank; two with ring attention, to balance the causal mask."""

    large_model: LargeModelMfu | None = None
    """Published speed on large models, if it differs from that of other engines."""

    gathers_experts: bool = False
    """Whether ZeRO stage 3 all-gathers every expert of a layer on each rank."""

    alone_reads: tuple[str, ...] = ()
    """Fields of spec.parallelism that only this engine reads: a manifest with one of them gets this engine."""

    wish: Wish = _no_wish
