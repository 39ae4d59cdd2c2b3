"""The failure of a round as a value: built from exit codes and last errors on each node, judged by the leader. Pure."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field

from llmtrain_trainer.config import Strict
from llmtrain_trainer.config.tables.failures import RANK_FAILURES, RankFailureKind


class NodeFailure(Strict):
    """The first thing that went wrong on one node."""

    kind: RankFailureKind
    """peer: this node only lost the connection to another one."""

    rank: int
    node: str
    time: float
    """Seconds since the epoch."""

    step: int
    """Steps completed before the failure."""

    message: Annotated[str, Field(max_length=4000)]
    """The error's type and first line, or the signal."""

    def sentence(self) -> str:
        """One sentence with the evidence."""
        said = RANK_FAILURES[self.kind].said.format(step=self.step, message=self.message)
        return f"Rank {self.rank} on {self.node} {said}"

    def same_as(self, other: NodeFailure) -> bool:
        """Whether the same error occurred at the same step; a kill from outside never counts as the same."""
        return RANK_FAILURES[self.kind].repeats and (self.kind, self.rank, self.step, self.message) == (
            other.kind,
            other.rank,
            other.step,
            other.message,
        )


def first_failure(
    codes: Mapping[int, int], words: Mapping[int, Mapping[str, Any]], steps: Mapping[int, int], *, node: str, now: float, oom_killed: bool
) -> NodeFailure | None:
    """The failure of one node from what its ranks left behind.

    `codes`: exit code of each rank that ended with an error, negative for a signal; `words`: errors/rank-<r>.json as read; `steps`: steps
    done by each rank; `oom_killed`: the OOM killer ended a process of this container since the round began.
    A rank that was killed leaves no words, and those it leaves behind lose their peer: so a silent death comes first, then a rank's
    own error, then the errors about peers, each by time.
    """
    found = [_of_rank(rank, code, words.get(rank), steps.get(rank, 0), node, now, oom_killed) for rank, code in codes.items()]
    return first_of(found)


def first_of(failures: Sequence[NodeFailure]) -> NodeFailure | None:
    """The cause among failures of the same round."""
    return min(failures, key=lambda failure: (RANK_FAILURES[failure.kind].order, failure.time, failure.rank), default=None)


def _of_rank(rank: int, code: int, words: Mapping[str, Any] | None, step: int, node: str, now: float, oom_killed: bool) -> NodeFailure:
    if words is not None:
        text = f"{words['type']}: {str(words['message']).strip().splitlines()[0]}"
        return NodeFailure(kind=words["kind"], rank=rank, node=node, time=words["time"], step=words["step"], message=text[:4000])
    if code < 0:
        oom = oom_killed and -code == signal.SIGKILL
        text = "the OOM killer ended it (SIGKILL)." if oom else f"{_signal_name(-code)}"
        fault = -code in (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL)
        kind: RankFailureKind = "oom" if oom else "crash" if fault else "killed"
        return NodeFailure(kind=kind, rank=rank, node=node, time=now, step=step, message=text)
    return NodeFailure(kind="crash", rank=rank, node=node, time=now, step=step, message=f"exit code {code} without an error message")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
