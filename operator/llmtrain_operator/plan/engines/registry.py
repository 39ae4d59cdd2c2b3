"""The engines that a plan can choose, in the order in which `auto` tries them after its first choice."""

from __future__ import annotations

from collections.abc import Mapping

from llmtrain_operator.plan.engines.accelerate import ACCELERATE
from llmtrain_operator.plan.engines.deepspeed import DEEPSPEED
from llmtrain_operator.plan.engines.megatron import MEGATRON
from llmtrain_operator.plan.engines.native import NATIVE
from llmtrain_operator.plan.engines.traits import EngineTraits
from llmtrain_trainer.config import EngineName

ENGINES: Mapping[EngineName, EngineTraits] = {traits.name: traits for traits in (NATIVE, DEEPSPEED, MEGATRON, ACCELERATE)}

FALLBACK = NATIVE
"""The engine for every layout and every model, which `auto` takes if no other engine wishes for the job."""
