"""`llmtrain logs`: which pods, which lines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from llmtrain_operator.cli.on_cluster import logs

PODS = "/api/v1/namespaces/team/pods"
Run = Callable[..., Any]


def pod(attempt: int, index: int) -> dict[str, Any]:
    labels = {"llmtrain.io/job": "demo", "llmtrain.io/attempt": str(attempt), "llmtrain.io/index": str(index)}
    owner = {"apiVersion": "llmtrain.io/v1alpha1", "kind": "LLMTrainJob", "name": "demo", "uid": "u1", "controller": True}
    return {"metadata": {"name": f"demo-a{attempt}-{index}", "namespace": "team", "labels": labels, "ownerReferences": [owner]}}


@pytest.fixture
def gang(api: Any) -> Any:
    """Two nodes of two ranks each, in attempts 1 and 2; each pod says what it is."""
    api.add("demo", status={"attempt": 2, "failure": {"attempt": 0, "message": "It broke."}})
    api.objects[PODS] = {"items": [pod(attempt, index) for attempt in (2, 1) for index in (1, 0)]}
    for attempt in (1, 2):
        for index in (0, 1):
            ranks = "".join(f"[rank {rank}] one\n[rank {rank}] two\n" for rank in (2 * index, 2 * index + 1))
            text = f"agent of a{attempt}-{index}\n{ranks}"
            api.objects[f"{PODS}/demo-a{attempt}-{index}/log"] = text.encode()
    return api


def test_a_pod_that_borrows_the_jobs_labels_is_none_of_its_pods(gang: Any, llmtrain: Run) -> None:
    borrowed = {"llmtrain.io/job": "demo", "llmtrain.io/attempt": "999999", "llmtrain.io/index": "0"}
    gang.objects[PODS]["items"].append({"metadata": {"name": "spoof", "namespace": "team", "labels": borrowed}})
    assert len(llmtrain("logs", "demo").out.splitlines()) == 10


def test_all_nodes_of_the_newest_attempt_are_printed_in_order(gang: Any, llmtrain: Run) -> None:
    said = llmtrain("logs", "demo").out.splitlines()
    assert said[0] == "[node 0] agent of a2-0" and said[5] == "[node 1] agent of a2-1" and len(said) == 10


def test_a_rank_is_found_on_its_node_and_its_lines_come_bare(gang: Any, llmtrain: Run) -> None:
    assert llmtrain("logs", "demo", "--rank", "2").out == "one\ntwo\n"
    assert [sent.path for sent in gang.requests if sent.path.endswith("/log")] == [f"{PODS}/demo-a2-1/log"]
    assert gang.requests[-1].query == {"container": "trainer"}


def test_the_last_lines_of_a_rank_are_counted_after_the_others_are_left_out(gang: Any, llmtrain: Run) -> None:
    assert llmtrain("logs", "demo", "--rank", "0", "--tail", "1").out == "two\n"
    llmtrain("logs", "demo", "--node", "1", "--tail", "7")
    assert gang.requests[-1].query["tailLines"] == "7"


def test_one_node_needs_no_mark(gang: Any, llmtrain: Run) -> None:
    assert llmtrain("logs", "demo", "--node", "1").out.startswith("agent of a2-1\n[rank 2] one\n")


def test_a_line_that_names_its_node_is_marked_once(gang: Any, llmtrain: Run) -> None:
    gang.objects[f"{PODS}/demo-a2-1/log"] = b"[node 1] Training is complete.\n"
    assert llmtrain("logs", "demo").out.splitlines()[-1] == "[node 1] Training is complete."


@pytest.mark.parametrize(("asked", "who"), [((), ""), (("--node", "1"), "Node 1 of "), (("--rank", "3"), "Rank 3 of ")])
def test_a_log_without_a_line_is_told_from_a_command_that_failed(gang: Any, llmtrain: Run, asked: tuple[str, ...], who: str) -> None:
    for index in (0, 1):
        gang.objects[f"{PODS}/demo-a2-{index}/log"] = b""
    said = llmtrain("logs", "demo", *asked)
    assert (said.code, said.out, said.err) == (0, "", f"{who}demo has not printed anything yet. --follow waits for output.\n")


def test_an_earlier_attempt_is_there_as_long_as_its_pods_are(gang: Any, llmtrain: Run) -> None:
    assert "agent of a1-0" in llmtrain("logs", "demo", "--previous").out
    assert "agent of a1-0" in llmtrain("logs", "demo", "--attempt", "1").out
    gone = llmtrain("logs", "demo", "--attempt", "7")
    assert (gone.code, gone.err) == (2, "Attempt 7 has no pods left; there are pods of attempt 1, 2.\n")


def test_a_rank_that_there_is_not_is_told_with_those_that_there_are(gang: Any, llmtrain: Run) -> None:
    said = llmtrain("logs", "demo", "--rank", "4")
    assert (said.code, said.err) == (2, "--rank 4: the job has ranks 0 to 3, 2 on each of 2 nodes.\n")


def test_a_job_without_pods_says_why(api: Any, llmtrain: Run) -> None:
    api.add("demo", status={"message": "Suspended; nothing runs."})
    said = llmtrain("logs", "demo")
    assert (said.code, said.err) == (2, "demo has no pods: Suspended; nothing runs. `llmtrain why demo` says more.\n")


def test_a_container_that_has_not_started_is_waited_for_only_when_followed(
    gang: Any, llmtrain: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "SECONDS_BETWEEN_LOOKS", 0.0)
    waiting = 'container "trainer" in pod "demo-a2-0" is waiting to start: ContainerCreating'
    refusals = [waiting] * 3

    def rule(request: Any) -> tuple[int, Any] | None:
        return (400, {"message": refusals.pop()}) if request.path.endswith("/log") and refusals else None

    gang.rule = rule
    said = llmtrain("logs", "demo", "--node", "0")
    assert (said.code, said.err) == (2, f"Pod demo-a2-0 has not started: {waiting}.\n")
    assert llmtrain("logs", "demo", "--node", "0", "--follow").out.startswith("agent of a2-0\n")
    assert gang.requests[-1].query["follow"] == "true"


async def test_the_last_lines_of_a_log_that_goes_on_are_told_once_it_is_quiet() -> None:
    import asyncio

    told, more = [], asyncio.Event()

    async def lines() -> Any:
        for line in (b"1", b"2", b"3"):
            yield line
        await more.wait()
        yield b"4"

    async for line in logs._last(lines(), 2):
        told.append(line)
        if line == b"3":
            more.set()
    assert told == [b"2", b"3", b"4"]
