"""Manifest + Plan -> TrainerConfig, the document that every pod or local agent reads."""

from __future__ import annotations

from llmtrain_operator.api.job import LLMTrainJob
from llmtrain_operator.manifest.problem import PlanError, Problem
from llmtrain_operator.plan.plan import Plan
from llmtrain_trainer.config import Estimate, Identity, InPlaceRestarts, TrainerConfig, seconds

NEVER = 100 * 365 * 86_400.0
"""`hang: none` in seconds."""


def trainer_config(job: LLMTrainJob, plan: Plan, attempt: int, restarts_left: int | None = None) -> TrainerConfig:
    """The config. `restarts_left`: unused part of the budget, None for all of it.

    Raises PlanError if the model's layers are unknown, since a stage is a range of layers.
    """
    if plan.shape is None and plan.uncounted is None:
        rule = "its config.json must be known before training, to split the layers into stages"
        raise PlanError(
            [Problem("spec.model.source", job.spec.model.source or "", rule, "Make it readable here, or give spec.model.config")]
        )
    spec, budget = plan.job.spec, job.spec.resilience.restarts
    return TrainerConfig(
        job=Identity(name=job.metadata.name, namespace=job.metadata.namespace, attempt=attempt),
        task=spec.task,
        engine=plan.engine,
        device="cuda" if plan.gpu else "cpu",
        model=spec.model,
        tokenizer=spec.tokenizer,
        dataset=spec.dataset,
        mixing=spec.mixing,
        curriculum=spec.curriculum,
        labels=spec.labels,
        peft=spec.peft,
        training=spec.training,
        evaluation=spec.evaluation,
        checkpoint=spec.checkpoint,
        output=spec.output,
        mesh=plan.mesh,
        batch=plan.batch,
        offload=spec.parallelism.offload,
        deepspeed=spec.parallelism.deepspeed,
        estimate=estimate_of(plan),
        restarts=InPlaceRestarts(max=budget.max if restarts_left is None else restarts_left, window_seconds=seconds(budget.window)),
        non_finite_steps=job.spec.resilience.non_finite_steps,
        hang_seconds=hang_seconds(job.spec.resilience.hang),
    )


def hang_seconds(hang: str) -> float | None:
    """The hang timeout in seconds; None: derived from the step time."""
    return {"auto": None, "none": NEVER}[hang] if hang in ("auto", "none") else float(seconds(hang))


def estimate_of(plan: Plan) -> Estimate:
    """The figures of the plan that the trainer reports beside measured ones."""
    expected = plan.throughput
    return Estimate(
        parameters=plan.shape.parameters if plan.shape else None,
        trainable_parameters=plan.trainable,
        flops_per_token=expected.flops_per_token if expected else None,
        peak_flops_per_device=expected.peak_flops_per_device if expected else None,
        memory_bytes_per_rank=plan.memory.peak if plan.memory else None,
        tokens_per_second=expected.tokens_per_second if expected else None,
        advice=plan.advice,
    )
