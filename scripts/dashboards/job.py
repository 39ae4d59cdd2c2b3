"""One job: how far it is, what it learns, how fast, where its time goes, what it keeps."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard, Row
from scripts.dashboards.panels import board, graph, mark, number, query, variable

JOB = 'train_namespace="$namespace",train_job="$job"'


def dashboard() -> Dashboard:
    """The dashboard of the job that the reader chose."""
    made = board("llmtrain-job", "LLM training / Job", "One LLMTrainJob: progress, loss, speed, goodput, checkpoints, GPUs.")
    made = made.with_variable(variable("namespace", "Namespace", "label_values(llmtrain_job_phase, train_namespace)"))
    made = made.with_variable(variable("job", "Job", 'label_values(llmtrain_job_phase{train_namespace="$namespace"}, train_job)'))
    attempt = f"max(llmtrain_job_attempt{{{JOB}}})"
    made = made.annotation(mark("Attempts", f"{attempt} > min_over_time({attempt}[2m:1m])", "red"))
    made = made.annotation(mark("Checkpoints", f"changes(max(llmtrain_job_checkpoint_last_durable_step{{{JOB}}})[2m:1m]) > 0", "green"))
    for part in (_state, _learning, _speed, _time, _checkpoints, _gpus):
        made = part(made)
    return made


def _state(made: Dashboard) -> Dashboard:
    step = f"max(llmtrain_job_step{{{JOB}}})"
    for panel in (
        number("Phase", "Phase of the job, as the operator sees it.", "none", f"max by (phase) (llmtrain_job_phase{{{JOB}}})", words=True),
        number(
            "Steps",
            "Optimizer steps completed, of those of the whole run.",
            "percentunit",
            f"{step} / max(llmtrain_job_target_steps{{{JOB}}})",
        ),
        number("Time left", "Expected time to the last step, at the newest speed.", "s", f"max(llmtrain_eta_seconds{{{JOB}}})"),
        number(
            "Goodput",
            "Share of the job's time since its creation in steps that count.",
            "percentunit",
            f"max(llmtrain_job_goodput_ratio{{{JOB}}})",
        ),
        number("Tokens per second", "Over all devices.", "locale", f"max(llmtrain_job_tokens_per_second{{{JOB}}})"),
        number(
            "MFU",
            "Model FLOPs per second as a fraction of the devices' peak.",
            "percentunit",
            f"max(llmtrain_model_flops_utilization_ratio{{{JOB}}})",
        ),
        number(
            "Checkpoint age",
            "Time since the newest checkpoint was committed: what a failure costs now.",
            "s",
            f"time() - max(llmtrain_job_checkpoint_last_durable_timestamp_seconds{{{JOB}}})",
        ),
        number(
            "Restarts, 1 h", "Restarts within the last hour, in place and of the gang.", "none", f"train_job:restarts:increase1h{{{JOB}}}"
        ),
    ):
        made = made.with_panel(panel)
    return made


def _learning(made: Dashboard) -> Dashboard:
    made = made.with_row(Row("Learning"))
    loss = graph(
        "Loss",
        "Mean cross-entropy of the newest step and of the newest evaluation. The operator's value stays when agents are dead.",
        "none",
        query(f"max(llmtrain_loss{{{JOB}}})", "training"),
        query(f"max(llmtrain_validation_loss{{{JOB}}})", "validation"),
        query(f"max(llmtrain_job_loss{{{JOB}}})", "as the operator saw it"),
    )
    rate = graph(
        "Learning rate", "Learning rate of the newest step.", "sci", query(f"max(llmtrain_learning_rate{{{JOB}}})", "learning rate")
    )
    norm = graph("Gradient norm", "Norm of the whole gradient before clipping.", "none", query(f"max(llmtrain_grad_norm{{{JOB}}})", "norm"))
    return made.with_panel(loss).with_panel(rate).with_panel(norm)


def _speed(made: Dashboard) -> Dashboard:
    made = made.with_row(Row("Speed"))
    tokens = graph(
        "Throughput",
        "Tokens per second over all devices.",
        "locale",
        query(f"max(llmtrain_tokens_per_second{{{JOB}}})", "tokens per second"),
    )
    phases = graph(
        "Phases of a step",
        "Mean time of a step on rank 0 by phase. comm: waiting for pipeline stages and for reductions over ranks.",
        "s",
        query(
            f"sum by (phase) (rate(llmtrain_step_phase_duration_seconds_sum{{{JOB}}}[$__rate_interval]))"
            f" / sum by (phase) (rate(llmtrain_step_phase_duration_seconds_count{{{JOB}}}[$__rate_interval]))",
            "{{phase}}",
        ),
        stacked=True,
    )
    ranks = graph(
        "Ranks",
        "Recent time of a step on the fastest, the median and the slowest rank, without the comm phase; and how much slower each node is.",
        "s",
        query(f"max by (stat) (llmtrain_rank_step_duration_seconds{{{JOB}}})", "{{stat}}"),
    )
    return made.with_panel(tokens).with_panel(phases).with_panel(ranks)


def _time(made: Dashboard) -> Dashboard:
    made = made.with_row(Row("Time"))
    states = graph(
        "Time by state",
        "Share of the last hour by state, as the operator books it. Goodput is the productive part.",
        "percentunit",
        query(f"train_job:time_seconds:rate1h{{{JOB}}}", "{{state}}"),
        stacked=True,
    )
    restarts = graph(
        "Restarts",
        "Restarts by the reason of the failure, since the creation of the job. InPlace: ranks started again in their pods.",
        "none",
        query(f"max by (reason) (llmtrain_job_restarts_total{{{JOB}}})", "{{reason}}"),
    )
    pods = graph(
        "Pods",
        "Pods of the newest attempt. A gang trains when all of them run.",
        "none",
        query(f"max by (state) (llmtrain_job_pods{{{JOB}}})", "{{state}}"),
    )
    return made.with_panel(states).with_panel(restarts).with_panel(pods)


def _checkpoints(made: Dashboard) -> Dashboard:
    made = made.with_row(Row("Checkpoints"))
    timings = graph(
        "Save and restore",
        "Mean time of a checkpoint: how long it blocked training, to local disk, to COMMIT, and to restore one at a start.",
        "s",
        *(
            query(
                f"sum(rate(llmtrain_checkpoint_{part}_seconds_sum{{{JOB}}}[$__rate_interval]))"
                f" / sum(rate(llmtrain_checkpoint_{part}_seconds_count{{{JOB}}}[$__rate_interval]))",
                part,
            )
            for part in ("blocking", "save", "upload", "restore")
        ),
    )
    results = graph(
        "Saves",
        "Saved checkpoints by result within the interval.",
        "none",
        query(f"sum by (result) (increase(llmtrain_checkpoints_total{{{JOB}}}[$__rate_interval]))", "{{result}}"),
    )
    store = graph(
        "Requests to the bucket",
        "Requests per second by HTTP status; code error: no response. Only where checkpoints go to s3://.",
        "reqps",
        query(f"sum by (code) (rate(llmtrain_object_store_requests_total{{{JOB}}}[$__rate_interval]))", "{{code}}"),
    )
    return made.with_panel(timings).with_panel(results).with_panel(store)


def _gpus(made: Dashboard) -> Dashboard:
    """Collapsed: a cluster without dcgm-exporter, or a job without GPUs, has nothing to show here."""
    pods = 'namespace="$namespace",pod=~"$job-a.*"'
    row = Row("GPUs (memory: agents; the rest: dcgm-exporter, empty without it)").collapsed(True)
    panels = [
        graph(
            "GPU memory",
            "Peak of allocated and of reserved memory on the fullest GPU.",
            "bytes",
            query(f"max(llmtrain_gpu_memory_allocated_bytes{{{JOB}}})", "allocated"),
            query(f"max(llmtrain_gpu_memory_reserved_bytes{{{JOB}}})", "reserved"),
        ),
        graph(
            "Utilization",
            "Share of time in which a kernel ran, by pod.",
            "percent",
            query(f"avg by (pod) (DCGM_FI_DEV_GPU_UTIL{{{pods}}})", "{{pod}}"),
        ),
        graph(
            "Tensor cores",
            "Share of cycles in which tensor cores were busy.",
            "percentunit",
            query(f"avg by (pod) (DCGM_FI_PROF_PIPE_TENSOR_ACTIVE{{{pods}}})", "{{pod}}"),
        ),
        graph(
            "Temperature", "Of the hottest GPU of each pod.", "celsius", query(f"max by (pod) (DCGM_FI_DEV_GPU_TEMP{{{pods}}})", "{{pod}}")
        ),
        graph("Power", "Of all GPUs of each pod.", "watt", query(f"sum by (pod) (DCGM_FI_DEV_POWER_USAGE{{{pods}}})", "{{pod}}")),
        graph(
            "XID errors",
            "Number of the last XID error; 0: none.",
            "none",
            query(f"max by (pod) (DCGM_FI_DEV_XID_ERRORS{{{pods}}})", "{{pod}}"),
        ),
    ]
    for panel in panels:
        row = row.with_panel(panel.no_value("no data: no GPUs, or dcgm-exporter is not scraped"))
    return made.with_row(row)
