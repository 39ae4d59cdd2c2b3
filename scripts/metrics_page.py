"""Prints docs/operations/metrics.md from the tables of the agent and of the operator. Run by `make generate`."""

from __future__ import annotations

from llmtrain_operator.kube.metrics.catalog import METRICS as OF_THE_OPERATOR
from llmtrain_trainer.agent.telemetry.catalog import METRICS as OF_AN_AGENT
from llmtrain_trainer.config.tables.metric import tables
from llmtrain_trainer.config.tables.time_accounts import TIME_STATES


def page() -> str:
    """The whole page."""
    states = "\n".join(f"| `{state}` | {meaning} |" for state, meaning in TIME_STATES.items())
    return _PAGE.format(agent=tables(OF_AN_AGENT), operator=tables(OF_THE_OPERATOR), states=states)


_PAGE = """# Metrics

Agents and operator answer `GET /metrics`. Names, units and labels of both are in one vocabulary: every series of a job has the labels
`train_namespace` and `train_job`; scrapers add their own. [monitoring.md](monitoring.md) says how to scrape them, and what the chart
makes of them: recording rules, alerts, dashboards.

This page is generated: `make generate`.

## States of time

Each second of a job is in one of them. Both agent and operator call the productive share goodput.

| state | meaning |
|---|---|
{states}

An agent books the time from its own start, in all states but `queued` and `suspended`, which it does not live through. The operator books
the whole life of a job, from what it sees of it: `data_wait` is within `productive` there, and `restore` within `starting` and `restart`.

## Of the agents

Every agent answers on its port (port.json in the run directory names it; 9400 in a pod). What concerns the whole run (progress, speed,
goodput, restarts, the newest checkpoint) is told by node 0 alone; memory, heartbeats, stragglers, saving, restoring and requests to the
store by each node for itself. Counters and histograms are there from the start, at 0, where their labels are known; a gauge appears with
its first value.

{agent}
## Of the operator

Every replica answers on port 8080; the Service is `RELEASE-metrics`. What is told of jobs comes from their status, so that a job whose
agents are dead still shows; only the leader tells it. A job that has been over for an hour is counted in `llmtrain_jobs` and has no other
series.

{operator}
## How much it is

No series has a label of a rank, so that the pages do not grow with the gang. Bounds that `tests/contract/test_metrics_size.py` holds:

| page | series | bytes |
|---|---|---|
| node 0 of a job, on GPUs and S3, at 64 and at 1,024 ranks alike | at most 240 | at most 48,000 |
| operator, per job that is not over | at most 50 | at most 8,000 |

Any other node tells fewer. With eight ranks on a node, a gang of 64 ranks has at most 1,920 series and 384 kB per scrape, and one of
1,024 ranks at most 30,720 series and 6.2 MB. Prometheus asks for compressed pages, which are about a tenth of it.

## Reading them

- Goodput is the productive share: the recording rule `train_job:goodput:ratio_rate1h`, or
  `sum by (train_namespace, train_job) (rate(llmtrain_time_seconds_total{{state="productive"}}[1h]))` over the same sum of all states.
- `restart` begins with the last row before a failure and ends where the first step after it begins, without what `restore` and `hung`
  took. Evaluation counts as productive.
- On a GPU the phases are timed by events in its stream. What a step does not wait for (`optimizer`, and the end of `comm`) shows with
  the next step: nothing waits for the device because of a metric.
- `rank_step_duration_seconds` leaves out what a rank waited for other pipeline stages and at the end of the step. Collectives inside a
  layer (tensor parallelism, FSDP's gathers) cannot be told from computing: ranks that meet there look alike, and a slow one shows as
  their stage or replica. Stages of unequal work differ by nature: alert on a change. An engine that does not tell its phases has no
  such series.
"""

if __name__ == "__main__":
    print(page(), end="")
