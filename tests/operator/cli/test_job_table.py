"""The table of `llmtrain get`."""

from __future__ import annotations

from typing import Any

from llmtrain_operator.cli.on_cluster.job_table import table

NOW = 1_800_000_000.0  # 2027-01-15T08:00:00Z

TRAINING: dict[str, Any] = {
    "metadata": {"name": "llama3-8b", "namespace": "team", "creationTimestamp": "2027-01-15T05:00:00Z"},
    "spec": {"scheduling": {"queue": "team-a"}},
    "status": {
        "phase": "Running",
        "message": "Training on 4 pods.",
        "attempt": 2,
        "plan": {"layout": "pp2 dp2 tp4", "nodes": 2, "gpus": 16},
        "progress": {
            "step": 840,
            "targetSteps": 2000,
            "percent": 42,
            "eta": "3h12m",
            "loss": 2.34567,
            "tokensPerSecondPerGpu": 3121.4,
            "mfu": 0.41,
        },
        "goodput": {"ratio": 0.973},
        "restarts": {"total": 1},
        "checkpoint": {"name": "step-00000800-a2-r1", "step": 800, "uri": "s3://b/x", "time": "2027-01-15T07:55:55Z"},
    },
}
UNSEEN: dict[str, Any] = {"metadata": {"name": "new", "namespace": "team", "creationTimestamp": "2027-01-15T07:59:52Z"}, "spec": {}}


def test_a_line_tells_how_far_how_fast_and_how_safe_a_job_is() -> None:
    assert "\n".join(table([TRAINING, UNSEEN], NOW)) == (
        "NAME        PHASE     STEP       DONE   ETA     LOSS     TOK/S/GPU   MFU   GOODPUT   RESTARTS   CHECKPOINT   QUEUE    AGE\n"
        "llama3-8b   Running   840/2000   42%    3h12m   2.3457   3121        41%   97%       1          4m05s        team-a   3h00m\n"
        "new         Unseen    -          -      -       -        -           -     -         0          -            -        8s"
    )


def test_wide_adds_the_layout_and_the_sentence_and_all_namespaces_adds_the_namespace() -> None:
    head, line = table([TRAINING], NOW, wide=True, namespaces=True)
    assert head.split()[:2] == ["NAMESPACE", "NAME"] and head.split()[-5:] == ["ATTEMPT", "LAYOUT", "NODES", "GPUS", "MESSAGE"]
    assert line.startswith("team        llama3-8b") and line.endswith("2         pp2 dp2 tp4   2       16     Training on 4 pods.")


def test_a_status_with_a_field_that_is_not_ours_is_still_shown() -> None:
    odd = {**TRAINING, "status": {**TRAINING["status"], "goodput": "a lot"}}
    assert "Running" in table([odd], NOW)[1]
