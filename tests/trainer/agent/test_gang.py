"""Agents of several nodes meet, agree and part: real stores on the loopback, one thread a node."""

from __future__ import annotations

import pickle
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from s3_server import reserved_port
from tiny_agent import PATIENCE
from torch.distributed.checkpoint.metadata import Metadata

from llmtrain_trainer.agent.gang.agreement import Agreement
from llmtrain_trainer.agent.gang.hall import Hall
from llmtrain_trainer.agent.gang.rendezvous import GangRendezvous, SupersededError
from llmtrain_trainer.agent.outcome import GaveUpError, LostGangError, StoppedError
from llmtrain_trainer.agent.telemetry.board import Events
from llmtrain_trainer.checkpoint.manifest import META, METADATA, Name, RankPart, encode, rank_file
from llmtrain_trainer.checkpoint.store.destination import open_store
from llmtrain_trainer.checkpoint.store.store import Store
from llmtrain_trainer.checkpoint.uploader import Uploader
from llmtrain_trainer.config import ExitCode, TrainerConfig, Verdict
from llmtrain_trainer.data.prepared import Prepared
from llmtrain_trainer.run_dir.layout import RunDir, read_rows


class Nodes:
    """Some gangs of one job, each with a thread to run on."""

    def __init__(self, count: int, *, first_round: int = 0, timeout: float = PATIENCE) -> None:
        port = reserved_port()
        self.stop = threading.Event()
        self.gangs = [
            GangRendezvous(
                run_id="job",
                hall=Hall("127.0.0.1", port, "a secret of this test"),
                node_rank=node,
                nodes=count,
                first_round=first_round,
                timeout=timeout,
                stopping=self.stop.is_set,
            )
            for node in range(count)
        ]
        self.pool = ThreadPoolExecutor(count)
        for gang in self.gangs:
            gang.connect()

    def begin(self, act: Callable[[GangRendezvous], Any]) -> list[Future[Any]]:
        return [self.pool.submit(act, gang) for gang in self.gangs]

    def all(self, act: Callable[[GangRendezvous], Any]) -> list[Any]:
        return [future.result(PATIENCE) for future in self.begin(act)]

    def meet(self) -> None:
        self.all(lambda gang: gang.next_rendezvous())


@pytest.fixture
def nodes() -> Iterator[Nodes]:
    pair = Nodes(2)
    yield pair
    pair.pool.shutdown(wait=False)


def test_nodes_keep_their_numbers_and_meet_in_a_new_round_each_time(nodes: Nodes) -> None:
    ranks = nodes.all(lambda gang: gang.next_rendezvous().rank)
    assert ranks == [0, 1]
    assert [gang.round for gang in nodes.gangs] == [1, 1]
    nodes.meet()
    assert [gang.round for gang in nodes.gangs] == [2, 2]


def test_rounds_go_on_after_the_ones_that_were_used_before() -> None:
    alone = Nodes(1, first_round=7)
    alone.meet()
    assert alone.gangs[0].round == 8


def test_a_node_that_wants_a_round_is_seen_by_the_others(nodes: Nodes) -> None:
    nodes.meet()
    first, second = nodes.gangs
    assert first.num_nodes_waiting() == 0
    joining = nodes.pool.submit(second.next_rendezvous)
    while first.num_nodes_waiting() == 0:
        assert not joining.done()
    first.next_rendezvous()
    joining.result(PATIENCE)
    assert [gang.round for gang in nodes.gangs] == [2, 2]


def test_the_leader_reads_every_nodes_evidence_of_the_last_round(nodes: Nodes) -> None:
    nodes.meet()
    nodes.gangs[1].fail("rank 1 died")
    nodes.meet()
    assert nodes.gangs[0].evidence() == ["", "rank 1 died"]


def test_a_node_that_came_anew_makes_the_others_start_again() -> None:
    nodes = Nodes(2)
    nodes.meet()
    first, second = nodes.gangs
    anew = GangRendezvous(
        run_id="job",
        hall=Hall("127.0.0.1", first.port, first.secret),
        node_rank=1,
        nodes=2,
        first_round=0,
        timeout=PATIENCE,
        stopping=lambda: False,
    )
    anew.connect()
    joining = nodes.pool.submit(anew.next_rendezvous)
    while first.num_nodes_waiting() == 0:
        assert not joining.done()
    first.next_rendezvous()
    joining.result(PATIENCE)
    assert (first.round, anew.round, second.round) == (2, 2, 1)


def test_a_wait_ends_when_another_node_fails_meanwhile(nodes: Nodes) -> None:
    nodes.meet()
    waiting = nodes.pool.submit(nodes.gangs[0].wait, "round/1/never")
    nodes.pool.submit(nodes.gangs[1].next_rendezvous)
    with pytest.raises(SupersededError):
        waiting.result(PATIENCE)
    nodes.gangs[0].next_rendezvous()


def test_a_verdict_ends_every_wait_on_every_node(nodes: Nodes) -> None:
    nodes.meet()
    waits = nodes.begin(lambda gang: gang.wait("round/1/never"))
    nodes.gangs[1].give_up(Verdict(exit_code=12, reason="OutOfMemory", message="Rank 3 ran out of memory."))
    for wait in waits:
        with pytest.raises(GaveUpError, match="Rank 3"):
            wait.result(PATIENCE)


def test_a_wish_to_stop_ends_a_wait(nodes: Nodes) -> None:
    nodes.stop.set()
    with pytest.raises(StoppedError):
        nodes.gangs[0].next_rendezvous()


def test_a_node_that_never_comes_is_named() -> None:
    nodes = Nodes(2, timeout=0.3)
    with pytest.raises(LostGangError, match="round/1/here/1"):
        nodes.gangs[0].next_rendezvous()


def test_a_node_that_does_not_come_to_a_round_is_absent(nodes: Nodes) -> None:
    nodes.meet()
    assert nodes.gangs[0].absent() == frozenset()
    waiting = nodes.pool.submit(nodes.gangs[0].next_rendezvous)
    while nodes.gangs[0].round < 2:
        assert not waiting.done()
    nodes.stop.set()
    with pytest.raises(StoppedError):
        waiting.result(PATIENCE)
    assert nodes.gangs[0].absent() == {1}


OVER = Verdict(exit_code=ExitCode.SAVED, reason="Saved", message="Told to stop.")


class Clock:
    """Seconds that pass by sleeping alone."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_a_gang_that_gave_up_and_is_told_to_stop_waits_for_no_dead_node(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    nodes.meet()
    nodes.stop.set()
    nodes.gangs[0].give_up(OVER)
    clock = Clock()
    monkeypatch.setattr("llmtrain_trainer.agent.gang.rendezvous.time", clock)
    nodes.gangs[0].leave()
    assert 0.5 < clock.now < 5


@pytest.mark.parametrize("stop", [True, False], ids=["a stop in order", "a verdict"])
def test_nodes_that_live_are_waited_for(nodes: Nodes, stop: bool) -> None:
    nodes.meet()
    if stop:
        nodes.stop.set()
    else:
        nodes.gangs[0].give_up(OVER)
    leaving = nodes.pool.submit(nodes.gangs[0].leave)
    with pytest.raises(TimeoutError):
        leaving.result(0.5)
    nodes.gangs[1].leave()
    leaving.result(PATIENCE)


# -- the agreement on a checkpoint


def commit(store: Store, staging: Path, *names: str) -> None:
    """Committed checkpoints of one rank, by a real uploader."""
    for name in names:
        directory = staging / name
        directory.mkdir(parents=True)
        (directory / "__0_0.distcp").write_bytes(name.encode() * 100)
        (directory / METADATA).write_bytes(pickle.dumps(Metadata({}, storage_data={})))
        parsed = Name.parse(name)
        assert parsed is not None
        (directory / META).write_text(f'{{"step": {parsed.step}}}')
        files = {path: (directory / path).stat().st_size for path in ("__0_0.distcp", METADATA)}
        (directory / rank_file(0)).write_bytes(encode(RankPart(rank=0, world_size=1, save_id=name, files=files)))
    assert Uploader(staging, store, 0, 1, [0], 10, None, lambda _row: None).drain(10)


def prepared(run: RunDir, digest: str) -> None:
    facts = {
        "target_steps": 1,
        "train_samples": 1,
        "epoch_samples": 1,
        "validation_samples": 0,
        "tokens": 1,
        "targets": 1,
        "unigram_entropy": 1.0,
    }
    Prepared(**facts, vocab_size=1, model_vocab_size=1, tokenizer_digest="t", digest=digest, datasets=()).save(run.prepared)  # type: ignore[arg-type]


class Agreeing:
    """Two nodes with a run directory each and one store."""

    def __init__(self, root: Path, config: TrainerConfig, nodes: Nodes, digests: tuple[str, str] = ("same", "same")) -> None:
        self.runs = [RunDir(root / f"run{node}") for node in range(2)]
        for run, digest in zip(self.runs, digests, strict=True):
            prepared(run, digest)
        assert config.checkpoint is not None
        self.store = open_store(config.checkpoint.destination)
        self.nodes = nodes
        self.agreements = [
            Agreement(gang, run, self.store, config, Events(run, "")) for gang, run in zip(nodes.gangs, self.runs, strict=True)
        ]

    def settle(self, *, first: bool) -> list[str | None]:
        self.nodes.meet()
        settling = [self.nodes.pool.submit(agreement.settle, first=first) for agreement in self.agreements]
        return [future.result(PATIENCE).checkpoint for future in settling]


OLD, NEW = "step-00000010-a0-r1", "step-00000020-a0-r1"


def test_all_nodes_start_from_the_newest_checkpoint(job: Any, nodes: Nodes, tmp_path: Path) -> None:
    agreeing = Agreeing(tmp_path, job.config(tmp_path / "store"), nodes)
    commit(agreeing.store, tmp_path / "staging", OLD, NEW)
    assert agreeing.settle(first=True) == [NEW, NEW]
    assert all((run.restore / NEW / METADATA).exists() for run in agreeing.runs)


def test_when_the_newest_is_damaged_all_nodes_take_the_one_before_it(job: Any, nodes: Nodes, tmp_path: Path) -> None:
    agreeing = Agreeing(tmp_path, job.config(tmp_path / "store"), nodes)
    commit(agreeing.store, tmp_path / "staging", OLD, NEW)
    agreeing.store.put_bytes(f"{NEW}/__0_0.distcp", b"x" * 1900)
    assert agreeing.settle(first=False) == [OLD, OLD]
    (rejected,) = [row for row in read_rows(agreeing.runs[0].events) if row["kind"] == "checkpoint_rejected"]
    assert NEW in rejected["message"]


def test_what_one_node_finds_damaged_no_node_starts_from(job: Any, nodes: Nodes, tmp_path: Path) -> None:
    agreeing = Agreeing(tmp_path, job.config(tmp_path / "store"), nodes)
    commit(agreeing.store, tmp_path / "staging", OLD, NEW)
    shutil.copytree(tmp_path / "store", tmp_path / "seen by node 1")
    (tmp_path / "seen by node 1" / NEW / "__0_0.distcp").write_bytes(b"x" * 1900)
    agreeing.agreements[1] = Agreement(
        nodes.gangs[1],
        agreeing.runs[1],
        open_store(f"file://{tmp_path}/seen by node 1"),
        job.config(tmp_path / "store"),
        Events(agreeing.runs[1], ""),
    )
    assert agreeing.settle(first=True) == [OLD, OLD]


def test_a_node_whose_disk_fails_ends_the_gang_instead_of_going_back(job: Any, nodes: Nodes, tmp_path: Path) -> None:
    agreeing = Agreeing(tmp_path, job.config(tmp_path / "store"), nodes)
    commit(agreeing.store, tmp_path / "staging", OLD, NEW)
    agreeing.runs[1].restore.write_text("no directory")
    with pytest.raises(GaveUpError, match="node 1") as caught:
        agreeing.settle(first=True)
    assert caught.value.verdict.exit_code == ExitCode.STORE


def test_a_run_told_to_begin_anew_ignores_older_checkpoints_after_a_restart_too(job: Any, nodes: Nodes, tmp_path: Path) -> None:
    config = job.config(tmp_path / "store", checkpoint={"destination": f"file://{tmp_path}/store", "resume": "none"})
    later = Nodes(2, first_round=1)
    agreeing = Agreeing(tmp_path, config, later)
    commit(agreeing.store, tmp_path / "staging", OLD, NEW)
    assert agreeing.settle(first=True) == [None, None]
    assert agreeing.settle(first=False) == [None, None]
    commit(agreeing.store, tmp_path / "staging", "step-00000005-a0-r2")
    assert agreeing.settle(first=False) == ["step-00000005-a0-r2"] * 2


def test_a_step_that_is_not_there_ends_the_gang_with_the_steps_that_are(job: Any, nodes: Nodes, tmp_path: Path) -> None:
    config = job.config(tmp_path / "store", checkpoint={"destination": f"file://{tmp_path}/store", "resume": 15})
    agreeing = Agreeing(tmp_path, config, nodes)
    commit(agreeing.store, tmp_path / "staging", OLD, NEW)
    with pytest.raises(GaveUpError, match=NEW) as caught:
        agreeing.settle(first=True)
    assert caught.value.verdict.reason == "BadConfig"


def test_nodes_that_prepared_different_data_do_not_start(job: Any, nodes: Nodes, tmp_path: Path) -> None:
    agreeing = Agreeing(tmp_path, job.config(tmp_path / "store"), nodes, digests=("one", "other"))
    with pytest.raises(GaveUpError, match="Nodes 1 prepared different data"):
        agreeing.settle(first=True)
