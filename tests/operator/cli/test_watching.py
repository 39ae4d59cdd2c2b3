"""`llmtrain watch`: what is told of a job's life, and how it ends."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from llmtrain_operator.api.job.status import TrainingProgress
from llmtrain_operator.cli.on_cluster import watching
from llmtrain_operator.cli.on_cluster.job_snapshot import Story, row_of, title
from llmtrain_operator.local.view import state_line
from llmtrain_trainer.config import NodeStatus, Progress

NOW = 1_800_000_000.0  # 2027-01-15T08:00:00Z
JOB = "/apis/llmtrain.io/v1alpha1/namespaces/team/llmtrainjobs/demo"
AGENT = "/api/v1/namespaces/team/pods/demo-a1-0:9400/proxy/status"
TRAINING: dict[str, Any] = {
    "phase": "Running",
    "message": "Training on 2 pods.",
    "attempt": 1,
    "plan": {"engine": "native", "layout": "dp2", "nodes": 2, "gpus": 16},
    "progress": {
        "step": 40,
        "targetSteps": 100,
        "consumedTokens": 20480,
        "loss": 2.5,
        "tokensPerSecond": 256.0,
        "lastStepTime": "2027-01-15T07:59:58Z",
    },
    "checkpoint": {"name": "step-00000030-a1-r1", "step": 30, "uri": "s3://b/x", "time": "2027-01-15T07:59:00Z"},
    "restarts": {"total": 1},
}


def job(**status: Any) -> dict[str, Any]:
    return {"metadata": {"name": "demo", "namespace": "team"}, "spec": {"task": "sft"}, "status": TRAINING | status}


def agent(step: int, loss: float = 2.0) -> NodeStatus:
    row = row_of(TrainingProgress.model_validate({**TRAINING["progress"], "step": step, "loss": loss}))
    return NodeStatus(job="demo", attempt=1, node_rank=0, phase="training", progress=row)


def test_the_status_alone_gives_step_speed_and_time_to_go() -> None:
    shown = Story().go_on(job(), None, NOW)
    assert state_line(shown) == "step 40/100 (40%)  loss 2.500  256 tokens/s  eta 2m00s  saved step 30  restarts 1"
    assert shown.state == "Running: Training on 2 pods."


def test_an_agent_that_can_be_reached_knows_more_than_the_status() -> None:
    assert Story().go_on(job(), agent(47), NOW).last == agent(47).progress


def test_rows_add_up_and_those_that_a_restart_takes_back_are_gone() -> None:
    story = Story()
    for step in (40, 41, 45, 42):
        shown = story.go_on(job(), agent(step), NOW)
    assert [row.step for row in shown.rows] == [40, 41, 42]


def test_each_state_restart_and_checkpoint_is_told_once() -> None:
    story = Story()
    first = story.go_on(job(phase="Starting", message="Creating 2 pods.", checkpoint=None), None, NOW)
    assert [one.message for one in first.news] == ["Starting: Creating 2 pods."]
    assert [one.kind for one in story.go_on(job(), None, NOW).news] == ["state", "checkpoint_committed"]
    assert story.go_on(job(), None, NOW).news == ()
    again = story.go_on(job(restarts={"total": 2}, failure={"reason": "RankFailed", "message": "Rank 3 ended by SIGKILL."}), None, NOW)
    assert [one.message for one in again.news] == ["Restart 2: Rank 3 ended by SIGKILL."]


def test_a_status_without_a_finished_step_has_no_row() -> None:
    assert row_of(TrainingProgress()) is None and row_of(None) is None


def test_the_title_tells_the_layout_once_it_is_planned() -> None:
    assert title(job()) == "demo: sft with native, dp2, 16 GPUs on 2 nodes"
    assert title({"metadata": {"name": "demo"}, "spec": {}}) == "demo: pretrain"


# ---- the command -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def lives(api: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Has the API server tell one status after the other; None: the job is gone."""

    def tell(*statuses: dict[str, Any] | None) -> None:
        monkeypatch.setattr(watching, "SECONDS_BETWEEN_LOOKS", 0.0)
        left, made = list(statuses), api.add("demo")

        def rule(request: Any) -> tuple[int, Any] | None:
            if request.path == AGENT:
                return 403, {"message": "forbidden"}
            if request.path != JOB:
                return None
            status = left.pop(0) if len(left) > 1 else left[0]
            return (404, {"reason": "NotFound", "message": "gone"}) if status is None else (200, {**made, "status": status})

        api.rule = rule

    return tell


def test_it_ends_with_a_job_that_is_complete(llmtrain: Callable[..., Any], lives: Callable[..., None]) -> None:
    lives({"restarts": {"total": 1}}, TRAINING, {**TRAINING, "phase": "Complete", "message": "Training is complete after 100 steps."})
    said = llmtrain("watch", "demo")
    assert said.code == 0
    assert said.out.splitlines() == [
        "No operator has processed it yet.",
        "Running: Training on 2 pods.",
        "step-00000030-a1-r1 is committed and verified.",
        "step 40/100 (40%)  loss 2.500  256 tokens/s  eta 2m00s  saved step 30  restarts 1",
        "Complete: Training is complete after 100 steps.",
        "checkpoint  step 30: s3://b/x",
    ]


def test_a_failed_job_ends_it_with_1_and_one_that_was_deleted_with_5(llmtrain: Callable[..., Any], lives: Callable[..., None]) -> None:
    lives({**TRAINING, "phase": "Failed", "message": "Rank 3 ran out of memory."})
    failed = llmtrain("watch", "demo")
    assert failed.code == 1 and failed.out.endswith("`llmtrain why demo` shows the evidence.\n")
    lives(TRAINING, None)
    gone = llmtrain("watch", "demo")
    assert gone.code == 5 and gone.out.endswith("demo was deleted.\n")


def test_time_that_is_up_ends_it_with_5(llmtrain: Callable[..., Any], lives: Callable[..., None]) -> None:
    lives(TRAINING)
    said = llmtrain("watch", "demo", "--timeout", "0.01")
    assert said.code == 5 and said.out.endswith("demo is still Running; the time is up.\n")


def test_an_api_server_that_is_away_for_a_while_does_not_end_it(api: Any, llmtrain: Callable[..., Any], lives: Callable[..., None]) -> None:
    lives(TRAINING, {**TRAINING, "phase": "Complete", "message": "Done."})
    inner, seen = api.rule, iter([False, True, True])

    def rule(request: Any) -> tuple[int, Any] | None:
        return (503, {"message": "starting"}) if request.path == JOB and next(seen, False) else inner(request)

    api.rule = rule
    said = llmtrain("watch", "demo")
    assert said.code == 0 and said.out.count("The API server does not answer (starting); retrying.") == 1


def test_an_agent_that_cannot_be_reached_is_left_alone_for_a_while(
    api: Any, llmtrain: Callable[..., Any], lives: Callable[..., None]
) -> None:
    lives(*[TRAINING] * 20, {**TRAINING, "phase": "Complete", "message": "Done."})
    assert llmtrain("watch", "demo").code == 0
    assert [request.path for request in api.requests].count(AGENT) == 1


def test_what_the_agent_says_is_asked_through_the_api_server(api: Any, llmtrain: Callable[..., Any], lives: Callable[..., None]) -> None:
    lives(TRAINING, {**TRAINING, "phase": "Complete", "message": "Done."})
    inner = api.rule
    answer = agent(47).model_dump(mode="json", by_alias=True, exclude={"progress"})
    answer["progress"] = {**Progress.model_dump(agent(47).progress, mode="json"), "grad_norm": 1.0, "learning_rate": 0.1}  # type: ignore[arg-type]
    api.rule = lambda request: (200, answer) if request.path == AGENT else inner(request)
    assert "step 47/100 (47%)" in llmtrain("watch", "demo").out


def test_ctrl_c_ends_the_watch_and_not_the_job(api: Any, lives: Callable[..., None]) -> None:
    lives(TRAINING)
    hears = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"  # else deaf, run in the background
    code = f"{hears}; import sys; from llmtrain_operator.cli.app import invoke; sys.exit(invoke(['watch', 'demo']))"
    with subprocess.Popen([sys.executable, "-u", "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "Running: Training on 2 pods.\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 130 and errors == "" and not api.sent("PATCH") and not api.sent("DELETE")
