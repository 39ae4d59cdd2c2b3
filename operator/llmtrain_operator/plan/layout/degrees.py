"""The degrees of the manifest, with defaults filled in and the data degree derived. Nothing is checked here: see plan/checks."""

from __future__ import annotations

from dataclasses import dataclass

from llmtrain_operator.api.job import LLMTrainJob
from llmtrain_trainer.config import EngineName, PipelineSchedule
from llmtrain_trainer.config.tables.engines import DEFAULT_ENGINE, ENGINE_FACTS


@dataclass(frozen=True, slots=True, kw_only=True)
class Degrees:
    """The degrees of parallelism, not yet checked."""

    engine: EngineName
    nodes: int
    procs_per_node: int
    pp: int
    dp: int
    """Number of devices over the product of the other degrees, rounded down, at least 1."""

    cp: int
    tp: int
    ep: int
    virtual: int
    """Pipeline stages per device."""

    schedule: PipelineSchedule
    zero: int

    @property
    def world(self) -> int:
        return self.nodes * self.procs_per_node

    @property
    def model_parallel(self) -> int:
        """Devices per replica."""
        return self.pp * self.cp * self.tp

    @property
    def stages(self) -> int:
        return self.pp * self.virtual


def degrees_of(job: LLMTrainJob) -> Degrees:
    """The degrees of a job. Absent degrees are 1, and data parallelism uses the remaining devices."""
    parallel, resources = job.spec.parallelism, job.spec.resources
    engine: EngineName = DEFAULT_ENGINE if parallel.engine == "auto" else parallel.engine
    procs = resources.ranks_per_node
    pp, cp, tp = parallel.pipeline or 1, parallel.context or 1, parallel.tensor or 1
    return Degrees(
        engine=engine,
        nodes=resources.nodes,
        procs_per_node=procs,
        pp=pp,
        dp=max(1, resources.nodes * procs // (pp * cp * tp)),
        cp=cp,
        tp=tp,
        ep=parallel.expert or 1,
        virtual=parallel.virtual_stages,
        schedule=parallel.schedule or ("interleaved" if parallel.virtual_stages > 1 else "1f1b"),
        zero=ENGINE_FACTS[engine].zero_stage if parallel.zero_stage is None else parallel.zero_stage,
    )
