"""Real ranks on a real tiny model, and what they do when something ends or stops one of them."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil
import pytest
from s3_server import reserved_port
from tiny_agent import PATIENCE, Job, Start

from llmtrain_trainer.config import ExitCode
from llmtrain_trainer.run_dir.layout import read_rows

pytestmark = pytest.mark.processes


def test_a_killed_rank_is_restarted_in_place_and_the_losses_are_those_of_an_undisturbed_run(
    job: Job, start: Start, tmp_path: Path, undisturbed: dict[int, float]
) -> None:
    agent = start(job.config(tmp_path / "store"), hold=12)
    agent.until_step(12)
    agent.until_committed(10)
    os.kill(agent.pid_of(1), signal.SIGKILL)
    agent.release()
    assert agent.wait() == ExitCode.DONE, agent.log()
    assert agent.losses() == undisturbed
    (restart,) = agent.events("restart")
    assert (restart["rank"], restart["reason"]) == (1, "killed")
    (restored,) = agent.events("restore")
    assert restored["step"] == 10
    assert agent.verdict().restarts == 1


def test_sigterm_saves_and_the_next_start_has_the_losses_of_an_undisturbed_run(
    job: Job, start: Start, tmp_path: Path, undisturbed: dict[int, float]
) -> None:
    config = job.config(tmp_path / "store", every=1000)
    first = start(config, "first", hold=7)
    first.until_step(7)
    first.process.send_signal(signal.SIGTERM)
    first.until(first.run.stop.exists, "the wish to stop")
    first.release()
    assert first.wait() == ExitCode.SAVED, first.log()
    saved = max(first.losses())
    assert saved == 8
    assert (first.verdict().reason, first.verdict().step) == ("Saved", saved)

    same = start(config, "same")
    assert same.wait() == ExitCode.DONE, same.log()
    assert min(same.losses()) == saved + 1
    assert first.losses() | same.losses() == undisturbed


def test_a_stopped_rank_is_a_hang_and_its_stacks_are_kept(job: Job, start: Start, tmp_path: Path, undisturbed: dict[int, float]) -> None:
    agent = start(job.config(tmp_path / "store", hang_seconds=5.0), hold=12)
    agent.until_step(12)
    os.kill(agent.pid_of(1), signal.SIGSTOP)
    agent.release()
    assert agent.wait() == ExitCode.DONE, agent.log()
    assert agent.events("hang")[0]["rank"] == 1
    assert "train_step" in (agent.run.logs / "rank-0.log").read_text()
    assert agent.losses() == undisturbed


def test_an_agent_tells_how_it_goes_and_no_process_survives_its_kill(job: Job, start: Start, tmp_path: Path) -> None:
    agent = start(job.config(tmp_path / "store", steps=100_000))
    agent.until_step(6)
    agent.until(lambda: '"phase": "training"' in agent.get("/status"), "phase training")
    assert agent.get("/healthz") == "ok\n"
    assert 'llmtrain_step{train_job="tiny",train_namespace="default"}' in agent.get("/metrics")
    agent.until_metric("checkpoint_upload_seconds_count", tier="object")
    agent.until_metric("checkpoint_save_seconds_sum", tier="local")
    agent.until_metric("checkpoint_blocking_seconds_sum", tier="memory")
    agent.until_metric("step_phase_duration_seconds_sum", phase="backward")
    agent.until_metric("rank_step_duration_seconds", stat="min")
    agent.until_metric("rank_step_duration_seconds", stat="max")
    agent.until_metric("straggler_slowdown_ratio", node="node 0")  # below 1 where a heartbeat is older than the median beside it
    agent.until_metric("epoch_ratio")

    os.kill(agent.pid_of(1), signal.SIGKILL)
    agent.until_metric("time_seconds_total", state="restart")  # there after a step of the new ranks
    agent.until_metric("restarts_total", least=1, reason="killed")
    agent.until_metric("checkpoint_restore_seconds_count", least=1, tier="object")
    assert agent.metric("lost_steps_total") == agent.events("restore")[0]["lost_steps"]
    agent.until_metric("time_seconds_total", state="restore")
    agent.until_metric("time_seconds_total", state="productive")

    server = psutil.Process(agent.pid_of(0)).parent()
    assert server is not None and server.num_threads() == 1  # a thread at the moment of a fork may leave a lock held for ever

    family = agent.family()
    assert len(family) >= 3, family  # the server and two ranks
    agent.process.send_signal(signal.SIGKILL)
    _, alive = psutil.wait_procs(family, timeout=PATIENCE)
    assert alive == []


def test_a_spent_budget_ends_with_the_first_failing_rank(job: Job, start: Start, tmp_path: Path) -> None:
    agent = start(job.config(tmp_path / "store", steps=100_000, restarts={"max": 0}))
    agent.until_step(3)
    os.kill(agent.pid_of(1), signal.SIGKILL)
    assert agent.wait() == ExitCode.RANK_FAILED
    verdict = agent.verdict()
    assert (verdict.reason, verdict.first_failing_rank, verdict.node) == ("RankFailed", 1, "node 0")
    assert "SIGKILL" in verdict.message


def test_a_gang_ends_when_a_later_one_writes_to_its_destination(job: Job, start: Start, tmp_path: Path) -> None:
    agent = start(job.config(tmp_path / "store", steps=100_000), "cut-off")
    agent.until_step(3)
    later = tmp_path / "store" / "step-00000002-a7-r0"
    later.mkdir()
    (later / "begin.json").write_text("{}")
    assert agent.wait() == ExitCode.FENCED, agent.log()
    assert (agent.verdict().reason, agent.verdict().stored_attempt) == ("Fenced", 7)

    again = start(job.config(tmp_path / "store"), "again")
    assert again.wait() == ExitCode.FENCED, again.log()
    assert again.verdict().stored_attempt == 7 and not list(read_rows(again.run.metrics)), "it trains nothing"


def test_two_nodes_restart_together_when_one_loses_a_rank(job: Job, start: Start, tmp_path: Path, undisturbed: dict[int, float]) -> None:
    config, port = job.config(tmp_path / "store", mesh={"nodes": 2, "procsPerNode": 1}), reserved_port()
    agents = [start(config, f"node{node}", node=node, port=port, hold=12) for node in (0, 1)]
    agents[0].until_step(12)
    os.kill(agents[1].pid_of(1), signal.SIGKILL)
    for agent in agents:
        agent.release()
    assert [agent.wait() for agent in agents] == [ExitCode.DONE, ExitCode.DONE], agents[0].log() + agents[1].log()
    assert agents[0].losses() == undisturbed
    (restart,) = agents[0].events("restart")
    assert (restart["rank"], restart["node"]) == (1, "node 1")


def test_a_node_that_is_told_to_stop_after_another_died_ends_with_what_it_saved(job: Job, start: Start, tmp_path: Path) -> None:
    config, port = job.config(tmp_path / "store", steps=100_000, mesh={"nodes": 2, "procsPerNode": 1}), reserved_port()
    first, second = [start(config, f"node{node}", node=node, port=port) for node in (0, 1)]
    first.until(lambda: first.events("checkpoint_committed"), "a committed checkpoint")
    for process in (psutil.Process(second.process.pid), *second.family()):
        process.kill()
    first.until(lambda: '"phase": "restarting"' in first.get("/status"), "its ranks to end")
    first.process.send_signal(signal.SIGTERM)
    assert first.wait() == ExitCode.SAVED, first.log()
    told_of = first.verdict().checkpoint
    assert told_of is not None and told_of.name == first.events("checkpoint_committed")[-1]["name"]


def test_bad_data_ends_with_its_sentence_and_starts_no_rank(job: Job, start: Start, tmp_path: Path) -> None:
    agent = start(job.config(tmp_path / "store", dataset=[{"source": f"file://{tmp_path}/nothing.jsonl"}]))
    assert agent.wait() == ExitCode.CONFIG
    assert agent.verdict().reason == "BadData"
    assert "nothing.jsonl" in agent.verdict().message
    assert not list(read_rows(agent.run.metrics))


def test_an_unwritable_destination_is_said_before_anything_starts(job: Job, start: Start, tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file, no directory")
    agent = start(job.config(tmp_path / "store"))
    assert agent.wait() == ExitCode.STORE
    assert agent.verdict().reason == "StoreUnreachable"
    assert "checkpoint.destination" in agent.verdict().message
