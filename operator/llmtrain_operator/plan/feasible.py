"""Whether a manifest can run: the same check for reconcile, the webhook and `submit`."""

from __future__ import annotations

from llmtrain_operator.api.job import LLMTrainJob
from llmtrain_operator.plan.model.shape import ModelShape
from llmtrain_operator.plan.plan import Plan, plan
from llmtrain_operator.plan.trainer_config import trainer_config


def feasible(job: LLMTrainJob, shape: ModelShape | None) -> Plan:
    """The plan, after a dry run of the config of its pods. Raises PlanError with every problem."""
    made = plan(job, shape)
    trainer_config(job, made, 1)  # raises problems that only show when the config is built
    return made
