"""Whose a destination is: one run at a time, and what becomes of a run that died or lost it."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from gang import Gang

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))

from small_job import config_of

from llmtrain_trainer.checkpoint.machine import Process, here
from llmtrain_trainer.checkpoint.owner import KEY, Claim, OwnedError, Owner, describe_self
from llmtrain_trainer.checkpoint.store.store import Store
from llmtrain_trainer.convert.targets import claimed
from llmtrain_trainer.data.bad_data import BadData

ELSEWHERE = Process(host="other", machine="", pid=1, started=0.0)
GONE = here().model_copy(update={"pid": 2**22 + 1})


def owner(name: str = "one", *, attempt: int = 1, namespace: str = "a", supervised: bool = False, process: Process | None = None) -> Owner:
    made = describe_self(namespace, name, attempt, supervised=supervised, workdir=f"/w/{name}")
    return made if process is None else made.model_copy(update={"process": process})


def claim(store: Store, given: Owner, while_waiting: Callable[[float], None] = lambda _seconds: None) -> Claim:
    return Claim(store, given, patience=5, sleep=while_waiting)


def test_a_second_run_is_refused_with_process_and_way_out_while_the_first_lives(store: Store) -> None:
    first = claim(store, owner())
    assert first.take() is None
    with pytest.raises(OwnedError) as refused:
        claim(store, owner("two")).take()
    said = str(refused.value)
    assert f"spec.checkpoint.destination is {store.uri()}: a/one (attempt 1), process {os.getpid()} of this machine, in /w/one" in said
    assert "give this one its own destination" in said
    assert first.holds()


def test_what_another_namespace_runs_is_not_told(store: Store) -> None:
    claim(store, owner("secret", namespace="b")).take()
    with pytest.raises(OwnedError) as refused:
        claim(store, owner()).take()
    assert "a job of another namespace writes its checkpoints there" in str(refused.value)
    assert "secret" not in str(refused.value)


def test_a_destination_that_was_given_back_is_free(store: Store) -> None:
    first, second = claim(store, owner()), claim(store, owner("two"))
    first.take()
    first.release()
    assert second.take() is None
    first.release()
    assert second.holds(), "who has lost it cannot give it back"


def test_a_process_that_is_gone_loses_its_destination_at_once(store: Store) -> None:
    claim(store, owner(process=GONE)).take()
    waited: list[float] = []
    said = claim(store, owner("two"), waited.append).take()
    assert said is not None and "was owned by a/one (attempt 1), which has ended" in said
    assert len(waited) == 1


def test_a_number_of_a_process_that_was_used_again_is_another_process() -> None:
    me = here()
    assert me.lives() is True
    assert me.model_copy(update={"started": psutil.Process().create_time() - 100}).lives() is False
    assert me.model_copy(update={"machine": "another start"}).lives() is None


def test_an_owner_on_another_machine_is_watched_and_refuses_while_it_renews(store: Store) -> None:
    first = claim(store, owner(process=ELSEWHERE))
    first.take()
    with pytest.raises(OwnedError, match="a process on other, in /w/one writes its checkpoints there"):
        claim(store, owner("two"), lambda _seconds: first.renew()).take()


def test_an_owner_that_does_not_renew_counts_as_dead_and_ends_when_it_comes_back(store: Store) -> None:
    first, second = claim(store, owner(process=ELSEWHERE)), claim(store, owner("two"))
    first.take()
    assert second.take() is not None
    first.renew()
    assert first.lost_to == "a/two (attempt 1)"
    assert second.holds()


def test_the_next_attempt_of_a_supervised_job_takes_over_at_once_and_an_older_one_does_not(store: Store) -> None:
    first = claim(store, owner(supervised=True, process=ELSEWHERE))
    first.take()
    waited: list[float] = []
    assert claim(store, owner(attempt=2, supervised=True, process=ELSEWHERE), waited.append).take() is not None
    assert len(waited) == 1 and not first.holds()
    late = claim(store, owner(attempt=1, supervised=True), waited.append)
    late.take()
    assert len(waited) > 5, "it looked whether the newer one lives"


def test_of_two_that_take_over_at_once_one_remains(store: Store) -> None:
    claim(store, owner(process=GONE)).take()
    third = owner("three", process=ELSEWHERE)

    writes = [third.model_dump_json(by_alias=True).encode()]

    def meanwhile(_seconds: float) -> None:
        if writes:
            store.put_bytes(KEY, writes.pop())

    said = claim(store, owner("two"), meanwhile).take()
    assert said is not None and "a/three" in said, "it found the other, and watched it in turn"


@pytest.mark.parametrize("text", [b"", b"{", b"null", b'{"token": 5}'])
def test_an_owner_that_cannot_be_read_is_none(store: Store, text: bytes) -> None:
    store.put_bytes(KEY, text)
    assert claim(store, owner()).take() is None


def test_an_owner_file_that_somebody_deleted_is_written_again(store: Store) -> None:
    first = claim(store, owner())
    first.take()
    store.delete([KEY])
    assert first.holds()
    assert Owner.model_validate_json(store.get_bytes(KEY)).job == "a/one"


def test_a_run_that_lost_its_destination_commits_nothing_more(tmp_path: Path, store: Store) -> None:
    mine = claim(store, owner(process=ELSEWHERE))
    mine.take()
    gang = Gang(tmp_path, store, claim=mine)
    gang.save("step-00000010-a1-r0")
    gang.stage("step-00000020-a1-r0")
    claim(store, owner("two")).take()
    gang.poll()
    assert gang.committed() == ["step-00000010-a1-r0"]
    assert gang.uploaders[0].fenced and not gang.uploaders[0].drain(5)


def test_a_conversion_does_not_write_where_a_run_lives(store: Store, tmp_path: Path) -> None:
    claim(store, owner()).take()
    config = config_of([{"source": "file:///data"}])
    with pytest.raises(BadData, match=r"^--to is .*: a run that lives writes there"), claimed(store, config, tmp_path):
        raise AssertionError("it went on")


def test_a_store_that_hangs_does_not_hold_up_the_end(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    first = claim(store, owner())
    first.take()
    monkeypatch.setattr(first, "_give_back", threading.Event().wait)
    first.release(timeout=0.1)
