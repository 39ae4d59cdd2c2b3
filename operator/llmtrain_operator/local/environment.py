"""Variables of the manifest on this machine: those that tune libraries are set; those for a cluster's network are left out. Pure."""

from __future__ import annotations

from llmtrain_operator.api.job import LLMTrainJob
from llmtrain_operator.plan.checks.pods import for_the_network


def environment_here(job: LLMTrainJob) -> tuple[dict[str, str], tuple[str, ...]]:
    """The variables for the agents of a local run, and one sentence on those left out."""
    wanted = job.spec.scheduling.env
    left_out = sorted(filter(for_the_network, wanted))
    note = f"These variables of spec.scheduling.env are ignored here, because they configure a cluster's network: {', '.join(left_out)}."
    return {name: value for name, value in wanted.items() if name not in left_out}, (note,) if left_out else ()
