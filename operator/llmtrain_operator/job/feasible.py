"""Whether a manifest can be carried out: one judgement for reconcile and the webhook. Called by kube/planner and kube/admission."""

from __future__ import annotations

from llmtrain_operator.job.plan import Plan, plan
from llmtrain_operator.job.shape import ModelShape
from llmtrain_operator.job.spec import LLMTrainJob
from llmtrain_operator.job.trainer_config import trainer_config


def feasible(job: LLMTrainJob, shape: ModelShape | None) -> Plan:
    """The plan, from which pods can be told what to do. Raises PlanError with every problem."""
    made = plan(job, shape)
    trainer_config(job, made, 1)  # says what only shows when a pod is told
    return made
