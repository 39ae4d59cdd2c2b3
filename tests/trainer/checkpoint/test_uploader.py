"""From staged saves to committed checkpoints, by real uploaders on both kinds of store. Faults of the network need the proxy (S3 only)."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from fault_proxy import FaultProxy
from gang import INDEX, Gang, content, damage
from s3_server import S3Server

from llmtrain_trainer.checkpoint.restore import choose, list_checkpoints
from llmtrain_trainer.checkpoint.store.destination import open_store
from llmtrain_trainer.checkpoint.store.retry import Backoff
from llmtrain_trainer.checkpoint.store.store import Store

FIRST, SECOND, THIRD, FOURTH = (f"step-{step:08d}-a0-r0" for step in (10, 20, 30, 40))
HASTY = Backoff(first=0.01, longest=0.02, deadline=0.1)
PATIENCE = 120.0


def test_a_save_becomes_a_committed_checkpoint(gang: Gang) -> None:
    gang.save(FIRST)
    assert gang.committed() == [FIRST]
    assert gang.told("checkpoint_committed") == [f"{FIRST} is committed and verified ({2000 + len(INDEX)} bytes)."]
    last = gang.uploaders[0].last
    assert last is not None and (last.name, last.step, last.bytes) == (FIRST, 10, 2000 + len(INDEX))
    assert gang.store.get_bytes(f"{FIRST}/__1_0.distcp") == content(FIRST, 1, 1000)


def test_a_save_that_a_rank_has_not_finished_is_not_uploaded(gang: Gang) -> None:
    gang.stage(FIRST, ranks=1)
    gang.poll()
    assert gang.names() == []
    assert gang.uploaders[0].drain(PATIENCE), "there is nothing finished to wait for"


def test_nodes_join_their_parts_and_only_the_whole_is_committed(tmp_path: Path, store: Store) -> None:
    gang = Gang(tmp_path, store, nodes=2)
    gang.stage(FIRST, nodes=[0])
    gang.poll()
    gang.poll()
    assert gang.committed() == [] and gang.names() == [FIRST], "node 1's shards are missing"
    gang.stage(FIRST, nodes=[1])
    gang.poll()
    gang.poll()
    assert gang.committed() == [FIRST]
    assert all(uploader.last is not None for uploader in gang.uploaders)
    assert all(uploader.drain(PATIENCE) for uploader in gang.uploaders)


def test_of_a_node_that_is_gone_only_what_it_sent_is_waited_for(tmp_path: Path, store: Store) -> None:
    gang = Gang(tmp_path, store, nodes=2)
    gang.stage(FIRST)
    gang.poll()  # both parts are there, and node 0 has not looked again
    gang.stage(SECOND)
    gang.uploaders[0].poll()
    gang.stage(THIRD, nodes=[0])
    first = gang.uploaders[0]
    assert not first.abandon([1], PATIENCE)
    assert gang.told("checkpoint_superseded") == [
        f"{name} is not committed: node 1 ended without uploading its part." for name in (SECOND, THIRD)
    ]
    assert gang.committed() == [FIRST]


def test_what_the_nodes_that_are_here_have_to_send_is_waited_for(tmp_path: Path, store: Store) -> None:
    gang = Gang(tmp_path, store, nodes=3)
    gang.stage(FIRST)
    gang.uploaders[0].poll()
    gang.uploaders[2].poll()
    first, second, _gone = gang.uploaders
    assert first.abandon([2], PATIENCE) and second.abandon([2], PATIENCE)
    second.poll()
    assert first.drain(PATIENCE) and second.drain(PATIENCE)
    assert gang.committed() == [FIRST] and not gang.told("checkpoint_superseded")


def test_parts_of_two_saves_under_one_name_are_never_joined(tmp_path: Path, store: Store) -> None:
    gang = Gang(tmp_path, store, nodes=2)
    gang.stage(FIRST, nodes=[0], save_id="one")
    gang.stage(FIRST, nodes=[1], save_id="another")
    gang.poll()
    gang.poll()
    assert gang.committed() == []


def test_a_part_that_a_dead_run_left_under_the_same_name_is_not_taken_for_ours(tmp_path: Path, store: Store) -> None:
    dead = Gang(tmp_path / "dead", store, nodes=2)
    dead.stage(FIRST, save_id="of the dead run")
    for uploader in dead.uploaders:
        uploader.poll()  # both parts are there; node 0 dies before it looks again
    gang = Gang(tmp_path, store, nodes=2)
    gang.stage(FIRST, nodes=[0])
    gang.poll()
    assert gang.committed() == []
    gang.stage(FIRST, nodes=[1])
    gang.poll()
    gang.poll()
    assert gang.committed() == [FIRST]


def test_a_staged_file_that_changed_is_not_committed(gang: Gang) -> None:
    gang.stage(FIRST)
    (gang.staging() / FIRST / "__1_0.distcp").write_bytes(b"torn")
    gang.stage(SECOND)
    gang.poll()
    assert gang.committed() == [SECOND]
    assert gang.told("checkpoint_rejected") == [f"{FIRST}: __1_0.distcp has 4 bytes on disk, its rank wrote 1000. It is not committed."]


def test_a_shard_that_vanished_from_the_store_is_seen_before_the_commit(tmp_path: Path, store: Store) -> None:
    gang = Gang(tmp_path, store, nodes=2)
    gang.stage(FIRST, nodes=[0])
    gang.poll()
    damage(store, f"{FIRST}/__1_0.distcp", change="remove")
    gang.stage(FIRST, nodes=[1])
    gang.poll()
    gang.poll()
    assert gang.committed() == []
    assert gang.told("checkpoint_rejected") == [f"{FIRST}/__1_0.distcp has no bytes in the store, its node sent 1000. It is not committed."]


@pytest.mark.parametrize("later", ["step-00000005-a1-r0", "step-00000015-a0-r1"])
def test_a_gang_writes_nothing_more_once_a_later_one_has_begun(gang: Gang, later: str) -> None:
    gang.save(FIRST)
    gang.store.put_bytes(f"{later}/begin.json", b"{}")
    before = gang.names()
    gang.save(SECOND)
    assert gang.names() == before
    assert str(gang.uploaders[0].superseded_by) == later
    assert not gang.uploaders[0].drain(PATIENCE), "nobody waits for what will never be"


def test_what_an_earlier_gang_left_on_this_disk_does_not_fence_a_new_one(tmp_path: Path, store: Store) -> None:
    gang = Gang(tmp_path, store, attempt=1)
    store.put_bytes("step-00000020-a0-r1/begin.json", b"{}")
    gang.save(FIRST)
    assert gang.committed() == [FIRST] and gang.uploaders[0].superseded_by is None


def test_old_checkpoints_go_only_after_a_newer_one_is_committed(tmp_path: Path, store: Store) -> None:
    gang = Gang(tmp_path, store, nodes=2)
    gang.save(FIRST)
    gang.save(SECOND)
    gang.stage(THIRD, nodes=[0])
    gang.poll()
    assert gang.committed() == [FIRST, SECOND], "the third is on its way only"
    gang.stage(THIRD, nodes=[1])
    gang.poll()
    gang.poll()
    assert gang.names() == [SECOND, THIRD]


def test_what_a_dead_round_left_behind_is_removed_after_a_commit(tmp_path: Path, store: Store) -> None:
    dead = Gang(tmp_path / "dead", store, nodes=2)
    dead.stage(FOURTH, nodes=[0])
    dead.poll()
    assert dead.names() == [FOURTH]
    Gang(tmp_path, store).save("step-00000015-a0-r1")
    assert dead.names() == ["step-00000015-a0-r1"]


def test_of_two_runs_with_one_name_exactly_one_commits(tmp_path: Path, store: Store) -> None:
    gangs = [Gang(tmp_path / str(number), store) for number in range(2)]
    for number, gang in enumerate(gangs):
        gang.stage(FIRST, save_id=f"run {number}")
    threads = [threading.Thread(target=gang.poll) for gang in gangs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for gang in gangs:
        gang.poll()
    assert gangs[0].committed() == [FIRST]
    assert sum(len(gang.told("checkpoint_committed")) for gang in gangs) <= 1


def test_a_committed_checkpoint_is_never_written_again(tmp_path: Path, store: Store) -> None:
    Gang(tmp_path / "one", store).save(FIRST, size=1000)
    second = Gang(tmp_path / "two", store)
    second.save(FIRST, size=2000, save_id="another run")
    assert len(store.get_bytes(f"{FIRST}/__0_0.distcp")) == 1000
    assert "is already committed by another run" in second.told("checkpoint_rejected")[0]
    assert choose(store, "latest", second.events.append) is not None


def test_an_agent_that_starts_again_finds_its_own_commit(tmp_path: Path, store: Store) -> None:
    Gang(tmp_path, store).save(FIRST)
    again = Gang(tmp_path, store)
    again.poll()
    assert again.uploaders[0].drain(PATIENCE)
    assert again.events == []


def test_the_newest_committed_save_stays_on_disk_for_a_quick_restart(gang: Gang) -> None:
    for name in (FIRST, SECOND):
        gang.save(name)
    assert [path.name for path in gang.staging().iterdir()] == [SECOND]


def test_saves_that_wait_too_long_are_replaced_by_newer_ones_and_it_is_said(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("not a directory: every request fails")
    gang = Gang(tmp_path, open_store(f"file://{tmp_path}/store"), waiting_limit=2)
    for name in (FIRST, SECOND, THIRD, FOURTH):
        gang.stage(name)
        gang.poll()
    assert sorted(path.name for path in gang.staging().iterdir()) == [THIRD, FOURTH]
    assert gang.told("checkpoint_superseded")[0].startswith(f"{FIRST} is dropped before it was uploaded: 3 saves wait")
    (tmp_path / "store").unlink()
    gang.poll()
    assert gang.committed() == [THIRD, FOURTH]


@pytest.mark.processes
class TestOutage:
    @pytest.fixture
    def gang(self, tmp_path: Path, s3: S3Server, proxy: FaultProxy) -> Gang:  # noqa: ARG002 - it must stand before the client is made
        return Gang(tmp_path, open_store(f"s3://{s3.new_bucket()}/job", HASTY), waiting_limit=2)

    def test_saves_wait_for_a_store_that_is_away_and_catch_up(self, gang: Gang, proxy: FaultProxy) -> None:
        gang.save(FIRST)
        proxy.busy = True
        gang.stage(SECOND)
        gang.poll()
        gang.poll()
        assert len(gang.told("store_outage")) == 1, "one line for one outage"
        assert "SlowDown" in gang.told("store_outage")[0]
        assert not gang.uploaders[0].drain(0.2)
        proxy.busy = False
        assert gang.uploaders[0].drain(PATIENCE)
        assert gang.committed() == [FIRST, SECOND]
        assert gang.told("store_outage")[1].startswith("The store answers again after")

    def test_a_save_on_its_way_is_never_dropped_for_a_newer_one(self, gang: Gang, proxy: FaultProxy) -> None:
        gang.stage(FIRST)
        proxy.fail_uploads_of = ".distcp"
        gang.poll()
        proxy.busy = True
        for name in (SECOND, THIRD, FOURTH):
            gang.stage(name)
            gang.poll()
        assert sorted(path.name for path in gang.staging().iterdir()) == [FIRST, FOURTH]
        proxy.busy, proxy.fail_uploads_of = False, ""
        gang.poll()
        assert gang.committed() == [FIRST, FOURTH]

    def test_what_was_sent_before_the_outage_is_not_sent_again(self, gang: Gang, proxy: FaultProxy) -> None:
        gang.stage(FIRST)
        proxy.fail_uploads_of = "__1_0.distcp"
        gang.poll()
        assert gang.committed() == []
        first_try = list(proxy.uploaded)
        assert f"{FIRST}/__0_0.distcp" in " ".join(first_try)
        proxy.fail_uploads_of = ""
        assert gang.uploaders[0].drain(PATIENCE)
        assert not [path for path in proxy.uploaded[len(first_try) :] if path.endswith("__0_0.distcp")]

    def test_cut_connections_do_not_reach_the_checkpoint(self, gang: Gang, proxy: FaultProxy) -> None:
        proxy.cut_uploads = 3
        gang.stage(FIRST)
        assert gang.uploaders[0].drain(PATIENCE)
        found = choose(gang.store, "latest", gang.events.append)
        assert found is not None and found.verified


UPLOAD = """
import sys
from pathlib import Path
from llmtrain_trainer.checkpoint.store.destination import open_store
from llmtrain_trainer.checkpoint.uploader import Uploader
root, uri = sys.argv[1:]
Uploader(Path(root), open_store(uri), 0, 1, (0, 1), 2, None, print).drain(120)
"""


DIE_IN_A_SHARD = """
import os, signal
from llmtrain_trainer.checkpoint.store import file_store
copied = file_store._copy
def die(source, draft):
    if source.suffix == ".distcp":
        draft.write_bytes(source.read_bytes()[:100])
        os.kill(os.getpid(), signal.SIGKILL)
    return copied(source, draft)
file_store._copy = die
"""


def start_uploader(gang: Gang, uri: str, before: str = "") -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", before + UPLOAD, str(gang.staging()), uri]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


@pytest.mark.processes
def test_an_upload_killed_in_the_middle_is_never_chosen_from_a_bucket(tmp_path: Path, s3: S3Server, proxy: FaultProxy) -> None:
    uri = f"s3://{s3.new_bucket()}/job"
    gang = Gang(tmp_path, open_store(uri))
    gang.save(FIRST)
    gang.stage(SECOND, size=4 << 20)
    proxy.hold_uploads = True
    process = start_uploader(gang, uri)
    try:
        assert proxy.holding.wait(timeout=PATIENCE), "the upload did not begin"
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    proxy.hold_uploads = False
    assert_first_is_chosen_then_second_after_a_new_start(gang, tmp_path)


@pytest.mark.processes
def test_an_upload_killed_in_the_middle_is_never_chosen_from_a_directory(tmp_path: Path) -> None:
    uri = f"file://{tmp_path}/store"
    gang = Gang(tmp_path, open_store(uri))
    gang.save(FIRST)
    gang.stage(SECOND)
    assert start_uploader(gang, uri, DIE_IN_A_SHARD).wait(PATIENCE) == -signal.SIGKILL
    assert list((tmp_path / "store" / SECOND).glob("*.part"))
    assert_first_is_chosen_then_second_after_a_new_start(gang, tmp_path)


def assert_first_is_chosen_then_second_after_a_new_start(gang: Gang, root: Path) -> None:
    assert [str(found.name) for found in list_checkpoints(gang.store) if found.committed] == [FIRST]
    found = choose(gang.store, "latest", gang.events.append)
    assert found is not None and str(found.name) == FIRST
    again = Gang(root, gang.store)
    again.poll()
    found = choose(gang.store, "latest", gang.events.append)
    assert found is not None and str(found.name) == SECOND
