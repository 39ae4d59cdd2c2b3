"""What the plan must know of an engine beyond what all have in common, as one value. Values by name: registry.py."""

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
"""Why `engine: auto` should ask this engine first, as a clause; None: it should not."""


def _no_wish(job: LLMTrainJob, shape: ModelShape | None, gpu: Gpu | None) -> None:
    """Of an engine that a person has to name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineTraits:
    """One engine, as the plan sees it."""

    name: EngineName
    limits: tuple[Refusal, ...]
    """What it cannot do, asked after what holds for every engine."""

    memory: EngineMemory
    sharding_stages: tuple[int, ...]
    """ZeRO stages in which its replicas shard the most, the best first; a pipeline may refuse the first ones."""

    searched_stages: tuple[int | None, ...] = (None,)
    """ZeRO stages that `auto` compares where no pipeline is cut; None: the engine's default."""

    sharding_cost: Mapping[int, float] = field(default_factory=dict)
    """Share of a step's time that a ZeRO stage's communication adds. A judgement, not a measurement."""

    parts_per_context: int = 2
    """Parts of a sequence that a rank of a context group has: with ring attention two, so that the causal mask costs all the same."""

    large_model: LargeModelMfu | None = None
    """Published speed on large models, where it differs from that of other engines."""

    gathers_experts: bool = False
    """Whether ZeRO stage 3 gathers every expert of a layer on each rank."""

    alone_reads: tuple[str, ...] = ()
    """Fields of spec.parallelism that no other engine reads: they decide for it."""

    wish: Wish = _no_wish
