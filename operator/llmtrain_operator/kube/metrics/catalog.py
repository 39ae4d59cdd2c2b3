"""Every metric of the operator, defined once: name, kind, labels, meaning. operator.py and jobs.py fill them."""

from __future__ import annotations

from typing import get_args

from llmtrain_operator.api.phases import Phase
from llmtrain_trainer.config.tables.metric import Metric, plain
from llmtrain_trainer.config.tables.time_accounts import BOOKED_BY_THE_OPERATOR

_FAST = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_WAITS = (1.0, 10.0, 60.0, 300.0, 900.0, 3600.0, 4 * 3600.0, 24 * 3600.0)
PHASES: tuple[Phase, ...] = get_args(Phase)
PODS = ("wanted", "created", "scheduled", "running")

PROCESS: tuple[Metric, ...] = (
    Metric(name="build_info", kind="gauge", group="process", text="1.", labels={"version": ()}),
    *plain(
        "process",
        "gauge",
        leader="1 while this replica leads; the sum over replicas is 1, and 0 for some seconds when the leader is gone.",
        queue_depth="Jobs that wait for a worker.",
        queue_active="Jobs that a worker is reconciling.",
        queue_age_seconds="How long the first waiting job has waited.",
        watch_age_seconds="Time since the last list or watch, of the collection for which that is longest ago.",
        webhook_certificate_expiry_timestamp_seconds="When the webhook's certificate ends; absent without a webhook.",
    ),
    Metric(
        name="watch_opened_timestamp_seconds",
        kind="gauge",
        group="process",
        text="When a watch was opened last.",
        labels={"resource": ()},
    ),
    Metric(
        name="watch_events_total",
        kind="counter",
        group="process",
        text="Events that the watches delivered.",
        labels={"resource": ("llmtrainjobs", "pods")},
    ),
    Metric(
        name="reconcile_seconds",
        kind="histogram",
        group="process",
        text="Duration of reconciles, one per observation of a job. reading: the model's config.json is not there yet.",
        labels={"result": ("done", "reading", "failed")},
        buckets=_FAST,
    ),
    Metric(
        name="actions_total",
        kind="counter",
        group="process",
        text="Actions of reconciles that changed the cluster.",
        labels={"action": ("create", "delete_pods", "delete_job")},
    ),
    Metric(
        name="events_total",
        kind="counter",
        group="process",
        text="Kubernetes events. held: the same event was posted recently, or the job had too many.",
        labels={"result": ("posted", "failed", "held")},
    ),
    Metric(
        name="webhook_reviews_total",
        kind="counter",
        group="process",
        text="Answers of the webhook. failed: it could not judge the manifest, or not in time.",
        labels={"result": ("admitted", "refused", "failed")},
    ),
    Metric(
        name="api_request_seconds",
        kind="histogram",
        group="process",
        text="Requests to the API server until their answer begins.",
        labels={"verb": (), "resource": (), "code": ()},
        buckets=_FAST,
    ),
)

FLEET: tuple[Metric, ...] = (
    Metric(name="jobs", kind="gauge", group="all jobs", text="Jobs by phase.", labels={"phase": PHASES}),
    Metric(
        name="job_queue_wait_seconds",
        kind="histogram",
        group="all jobs",
        text="Time from the creation of a job to its first attempt.",
        buckets=_WAITS,
    ),
)

JOBS: tuple[Metric, ...] = (
    Metric(name="job_info", kind="gauge", group="jobs", text="1.", labels={"engine": (), "layout": (), "model": ()}),
    Metric(
        name="job_phase",
        kind="gauge",
        group="jobs",
        text="1 for the phase of the job; the other phases have no series.",
        labels={"phase": ()},
    ),
    Metric(name="job_failure_info", kind="gauge", group="jobs", text="1 for the reason of the last failure.", labels={"reason": ()}),
    Metric(name="job_pods", kind="gauge", group="jobs", text="Pods of the newest attempt.", labels={"state": PODS}),
    *plain(
        "jobs",
        "gauge",
        job_created_timestamp_seconds="When the job was created.",
        job_attempt="Number of the newest attempt.",
        job_gpus="GPUs of a gang.",
        job_goodput_ratio="Share of the job's time so far in steps whose result was kept.",
        job_step="Optimizer steps completed, as the operator saw them last.",
        job_target_steps="Optimizer steps of the whole run.",
        job_loss="Loss of the newest step, nats.",
        job_tokens_per_second="Tokens per second over all devices; absent while nothing trains.",
        job_last_step_timestamp_seconds="When the newest step ended.",
        job_checkpoint_last_durable_step="Step of the newest committed checkpoint.",
        job_checkpoint_last_durable_timestamp_seconds="When the newest checkpoint was committed.",
        job_notices="Notices in the job's status.",
    ),
    Metric(
        name="job_restarts_total",
        kind="counter",
        group="jobs",
        text="Restarts by the reason of the failure. InPlace: ranks started again in their pods, for a reason that `restarts_total` tells.",
        labels={"reason": ()},
    ),
    Metric(
        name="job_time_seconds_total",
        kind="counter",
        group="jobs",
        text="Time since the creation of the job, each second in one state.",
        labels={"state": BOOKED_BY_THE_OPERATOR},
    ),
    Metric(
        name="job_gpu_seconds_total",
        kind="counter",
        group="jobs",
        text="GPU-seconds held, by state. Only of jobs on GPUs.",
        labels={"state": BOOKED_BY_THE_OPERATOR},
    ),
)

METRICS = (*PROCESS, *FLEET, *JOBS)
