"""Whether a manifest can be carried out: one judgement for reconcile and the webhook."""

from __future__ import annotations

from llmtrain_operator.api.job import LLMTrainJob
from llmtrain_operator.plan.model.shape import ModelShape
from llmtrain_operator.plan.plan import Plan, plan
from llmtrain_operator.plan.trainer_config import trainer_config


def feasible(job: LLMTrainJob, shape: ModelShape | None) -> Plan:
    """The plan, from which pods can be told what to do. Raises PlanError with every problem."""
    made = plan(job, shape)
    trainer_config(job, made, 1)  # says what only shows when a pod is told
    return made
