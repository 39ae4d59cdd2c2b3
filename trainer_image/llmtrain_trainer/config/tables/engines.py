"""The engines by name, with the facts that both operator and trainer need.

Facts of one side are in its registry: plan/engines/registry.py of the operator, engines/registry.py of the trainer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from llmtrain_trainer.config.tables.adapters import ADAPTERS, AdapterMethod

EngineName = Literal["native", "deepspeed", "megatron", "accelerate"]
WeightsFormat = Literal["hf", EngineName]
"""Hugging Face's files, or a checkpoint of an engine."""

DEFAULT_ENGINE: EngineName = "native"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineFacts:
    """One engine, as both sides see it."""

    zero_stage: int
    """Default of spec.parallelism.zeroStage."""

    checkpoint_format: str
    """Name of the engine's file format in the manifest of a checkpoint."""

    package: str | None = None
    """The package that it needs, where the image may lack it."""

    offloads: bool = False
    """Whether it reads spec.parallelism.offload and the raw keys of spec.parallelism.deepspeed."""

    adapters: tuple[AdapterMethod, ...] = tuple(ADAPTERS)
    """Methods of spec.peft that it trains."""

    sets_rates: bool = True
    """Whether matrices of an adapter may have learning rates of their own."""

    grows_embedding: bool = True
    """Whether an embedding gets rows for tokens that were added to the tokenizer."""

    on_cpu: bool = True
    """Whether it runs on CPUs."""

    other_families: bool = False
    """Whether it trains the families of other_families.py, which have no row in families.py."""


ENGINE_FACTS: Mapping[EngineName, EngineFacts] = {
    "native": EngineFacts(zero_stage=3, checkpoint_format="dcp"),
    "deepspeed": EngineFacts(
        zero_stage=1,
        checkpoint_format="deepspeed",
        package="deepspeed",
        offloads=True,
        adapters=tuple(name for name, traits in ADAPTERS.items() if not traits.magnitude),
        sets_rates=False,
    ),
    "megatron": EngineFacts(
        zero_stage=1, checkpoint_format="megatron", package="megatron.core", adapters=(), grows_embedding=False, on_cpu=False
    ),
    "accelerate": EngineFacts(zero_stage=3, checkpoint_format="dcp", package="accelerate", other_families=True),
}

OFFLOADING: tuple[EngineName, ...] = tuple(name for name, facts in ENGINE_FACTS.items() if facts.offloads)

ENGINES_OF_OTHER_FAMILIES: tuple[EngineName, ...] = tuple(name for name, facts in ENGINE_FACTS.items() if facts.other_families)


def engines_with(method: AdapterMethod) -> tuple[EngineName, ...]:
    """The engines that train adapters of this method."""
    return tuple(name for name, facts in ENGINE_FACTS.items() if method in facts.adapters)
