"""Variables of the manifest on this machine: those that tune libraries are set, those that name a cluster's network are told. Pure."""

from __future__ import annotations

from llmtrain_operator.api.job import LLMTrainJob
from llmtrain_operator.plan.checks.pods import for_the_network


def environment_here(job: LLMTrainJob) -> tuple[dict[str, str], tuple[str, ...]]:
    """What the agents of a local run get, and a sentence on what they do not."""
    wanted = job.spec.scheduling.env
    left_out = sorted(filter(for_the_network, wanted))
    note = f"Left out here, since they name the network of a cluster: spec.scheduling.env {', '.join(left_out)}."
    return {name: value for name, value in wanted.items() if name not in left_out}, (note,) if left_out else ()
