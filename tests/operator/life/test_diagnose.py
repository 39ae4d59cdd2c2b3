"""Evidence and what it is called: a row is one pod that ended, and the failure that must come out."""

from __future__ import annotations

from typing import Any

import pytest

from llmtrain_operator.api.job.status import LastFailure as Recorded
from llmtrain_operator.life.failures.diagnose import diagnose, of_pod, same_again
from llmtrain_operator.life.failures.failure import Evidence, Failure
from llmtrain_operator.life.observed import Node, Pod
from llmtrain_trainer.config import ExitCode

NODE = Node(name="node-0")


def evidence(w: Any, pod: Pod, node: Node = NODE, lost: bool = False) -> Evidence:
    return Evidence(pod=pod, node=node, lost=lost, now=w.now)


# name, what the agent said or None, exit code -> reason, retryable, charged, suspect
VERDICTS = [
    ("a rank that failed may do better elsewhere", "RankFailed", ExitCode.RANK_FAILED, (True, True, True)),
    ("a bad configuration stays bad", "BadConfig", ExitCode.CONFIG, (False, True, False)),
    ("bad data stay bad", "BadData", ExitCode.CONFIG, (False, True, False)),
    ("a model too large stays too large", "OutOfMemory", ExitCode.OUT_OF_MEMORY, (False, True, False)),
    ("a store that was away may come back", "StoreUnreachable", ExitCode.STORE, (True, True, False)),
    ("a gang that saved goes on uncharged", "Saved", ExitCode.SAVED, (True, False, False)),
    ("a hang may be the node's", "Hang", ExitCode.HANG, (True, True, True)),
    ("a gang told to stop goes on uncharged", "StoppedUnsaved", ExitCode.STOPPED_UNSAVED, (True, False, False)),
]


@pytest.mark.parametrize(("name", "reason", "code", "outcome"), VERDICTS, ids=[row[0] for row in VERDICTS])
def test_a_verdict_is_taken_at_its_word(w: Any, name: str, reason: str, code: int, outcome: tuple[bool, bool, bool]) -> None:
    verdict = {"reason": reason, "message": "Rank 3 on node-1 did it.", "firstFailingRank": 3, "node": "node-1", "step": 7}
    failure = of_pod(evidence(w, w.ended(code, verdict=verdict)))
    assert failure is not None
    assert (failure.reason, failure.retryable, failure.charged, failure.suspect) == (reason, *outcome)
    assert (failure.message, failure.rank, failure.node, failure.step) == ("Rank 3 on node-1 did it.", 3, "node-1", 7)


# name, changes of a pod -> reason, charged, a word of the message
EVIDENCE: list[tuple[str, dict[str, Any], str, bool, str]] = [
    (
        "the memory killer",
        {"exit_code": 137, "exit_reason": "OOMKilled", "phase": "Failed"},
        "OutOfMemory",
        True,
        "more memory than its limit",
    ),
    (
        "an eviction by the kubelet",
        {"phase": "Failed", "reason": "Evicted", "message": "low on resource: memory."},
        "Evicted",
        True,
        "low on resource: memory.",
    ),
    ("preemption", {"disruption": "PreemptionByScheduler", "deleting": 1.0}, "Preempted", False, "higher priority"),
    ("a drain", {"disruption": "EvictionByEvictionAPI", "deleting": 1.0}, "Drained", False, "as by a drain"),
    ("a node that shuts down", {"disruption": "TerminationByKubelet", "phase": "Failed"}, "Drained", False, "shuts down"),
    ("an old node that shuts down", {"reason": "Terminated", "exit_code": 143, "phase": "Failed"}, "Drained", False, "Terminated"),
    (
        "a kubelet that needs room for its own",
        {"reason": "Preempting", "exit_code": 137, "phase": "Failed"},
        "Preempted",
        False,
        "Preempting",
    ),
    ("a queue that takes the pods back", {"disruption": "WorkloadEvictedDueToPreempted"}, "Preempted", False, "was disrupted"),
    ("a pod that somebody deleted", {"deleting": 1.0}, "PodDeleted", True, "was deleted"),
    (
        "a device that the kubelet cannot give",
        {"phase": "Failed", "reason": "UnexpectedAdmissionError", "started": None},
        "RefusedByNode",
        True,
        "UnexpectedAdmissionError",
    ),
    ("a fault in native code", {"phase": "Failed", "exit_code": 139}, "Crashed", True, "SIGSEGV"),
    ("a kill from outside", {"phase": "Failed", "exit_code": 137}, "Killed", True, "SIGKILL"),
    ("a signal without a name", {"phase": "Failed", "exit_code": 250}, "Crashed", True, "signal 122"),
    (
        "an unknown code with last words",
        {"phase": "Failed", "exit_code": 3, "termination": "one\nlast line\n"},
        "AgentFailed",
        True,
        "last line",
    ),
    ("exit code 2 without a verdict", {"phase": "Failed", "exit_code": 2}, "BadConfig", True, "code 2"),
    (
        "an image name that is no name",
        {"phase": "Pending", "waiting": "InvalidImageName", "running": False},
        "BadImage",
        True,
        "cannot be used",
    ),
    (
        "an image that does not come for long",
        {"phase": "Pending", "waiting": "ImagePullBackOff", "running": False},
        "ImagePullFailed",
        True,
        "30m00s",
    ),
    ("a failure that nobody explains", {"phase": "Failed", "running": False}, "PodFailed", True, "no reason"),
]


@pytest.mark.parametrize(("name", "facts", "reason", "charged", "word"), EVIDENCE, ids=[row[0] for row in EVIDENCE])
def test_evidence_without_a_verdict_has_a_name_and_a_sentence(
    w: Any, name: str, facts: dict[str, Any], reason: str, charged: bool, word: str
) -> None:
    failure = of_pod(evidence(w, w.pod(**({"running": facts.get("exit_code") is None} | facts))))
    assert failure is not None
    assert (failure.reason, failure.charged) == (reason, charged)
    assert word in failure.message
    assert failure.message.endswith(".") or "The last line of its log" in failure.message
    assert "\n" not in failure.message


@pytest.mark.parametrize(("code", "told"), [(137, False), (143, False), (139, True)])
def test_only_a_pod_that_ended_by_itself_is_quoted(w: Any, code: int, told: bool) -> None:
    failure = of_pod(evidence(w, w.pod(running=False, phase="Failed", exit_code=code, termination="step 7 of 9\n")))
    assert failure is not None and ("step 7 of 9" in failure.message) == told, failure


@pytest.mark.parametrize(
    ("pod", "lost"),
    [
        ({}, False),
        ({"exit_code": 0, "phase": "Succeeded"}, True),
        ({"waiting": "ImagePullBackOff", "created": None}, False),
        ({"phase": "Succeeded"}, False),
    ],
)
def test_a_pod_that_is_well_or_done_is_no_failure(w: Any, pod: dict[str, Any], lost: bool) -> None:
    assert of_pod(evidence(w, w.pod(**pod), lost=lost)) is None


@pytest.mark.parametrize(
    ("node", "word"),
    [
        ({"exists": False}, "gone from the cluster"),
        ({"out_of_service": True}, "out of service"),
        ({"not_ready_since": 1_799_999_900.0}, "1m40s"),
    ],
)
def test_a_dead_node_is_named_and_avoided(w: Any, node: dict[str, Any], word: str) -> None:
    failure = of_pod(evidence(w, w.pod(), w.node(**node), lost=True))
    assert failure is not None
    assert (failure.reason, failure.suspect, failure.charged) == ("NodeLost", True, True)
    assert word in failure.message and "node-0" in failure.message


def test_a_verdict_of_another_code_is_not_believed(w: Any) -> None:
    failure = of_pod(evidence(w, w.ended(137, verdict={"exitCode": 75, "reason": "Saved"})))
    assert failure is not None and failure.reason == "Killed"


def test_the_first_pod_to_fail_is_the_cause(w: Any) -> None:
    late = w.ended(1, 0, verdict={"message": "late"}, finished=w.now - 5)
    early = w.ended(1, 1, verdict={"message": "early"}, finished=w.now - 8)
    found = diagnose([evidence(w, late), evidence(w, early)], [], w.now)
    assert found is not None and found.message == "early"


def test_whoever_only_lost_its_peers_gives_way_to_the_cause(w: Any) -> None:
    peer = w.ended(1, 0, verdict={"reason": "PeerLost", "message": "Lost the other nodes."}, finished=w.now - 50)
    killed = w.ended(137, 1, finished=w.now - 5)
    found = diagnose([evidence(w, peer), evidence(w, killed)], ["of index 2"], w.now)
    assert found is not None and found.reason == "Killed"
    alone = diagnose([evidence(w, peer)], [], w.now)
    assert alone is not None and (alone.reason, alone.suspect) == ("PeerLost", False)


def test_an_agent_that_says_node_lost_means_the_others(w: Any) -> None:
    """It lives, so its own node is not lost; trainers of other versions say so."""
    found = diagnose([evidence(w, w.ended(1, 0, verdict={"reason": "NodeLost", "message": "Lost the other nodes."}))], [], w.now)
    assert found is not None and (found.reason, found.suspect) == ("PeerLost", False)


def test_a_pod_that_is_gone_was_deleted(w: Any) -> None:
    found = diagnose([evidence(w, w.pod())], ["of index 1"], w.now)
    assert found is not None and found.reason == "PodDeleted"
    assert "index 1" in found.message


def _failure(message: str, **changes: Any) -> Failure:
    return Failure(**({"reason": "RankFailed", "message": message, "time": 0.0, "repeats": True, "node": "node-b"} | changes))


BEFORE = Recorded(reason="RankFailed", message="Rank 3 on node-a failed after step 12: ValueError: bad shape", node="node-a", step=12)


def test_the_same_error_elsewhere_is_still_the_same() -> None:
    assert same_again(_failure("Rank 1 on node-b failed after step 10: ValueError: bad shape"), 10, BEFORE)


@pytest.mark.parametrize(
    ("failure", "step"),
    [
        (_failure("Rank 3 on node-b failed after step 20: ValueError: bad shape"), 20),
        (_failure("Rank 3 on node-b failed after step 12: KeyError: name"), 12),
        (_failure(BEFORE.message, node="node-a", repeats=False), 12),
        (_failure(BEFORE.message, node="node-a", reason="Hang"), 12),
    ],
    ids=["training got further", "another error", "a kind that does not repeat by itself", "another reason"],
)
def test_what_may_go_better_next_time_is_not_the_same(failure: Failure, step: int) -> None:
    assert not same_again(failure, step, BEFORE)
