"""A node that cannot come says so to the others at once, whatever they are at. Real sockets, no ranks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
from s3_server import reserved_port
from tiny_agent import PATIENCE

from llmtrain_trainer.agent.gang import herald as module
from llmtrain_trainer.agent.gang.hall import Hall
from llmtrain_trainer.agent.gang.herald import Herald
from llmtrain_trainer.agent.outcome import GaveUpError
from llmtrain_trainer.config import ExitCode, Verdict

SECRET = "a secret of this test"
BAD = Verdict(exit_code=ExitCode.CONFIG, reason="BadData", message="dataset[0].source is a.jsonl row 3: it is not JSON.", node="n1")


@pytest.fixture
def heralds(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[Herald]]:
    monkeypatch.setattr(module, "_LOOK_SECONDS", 0.02)
    port = reserved_port()

    def made(count: int) -> list[Herald]:
        halls = [Hall("127.0.0.1", port, SECRET) for _ in range(count)]
        halls[0].open()
        return [Herald(hall, "a/job/1", rank, count, lambda: False) for rank, hall in enumerate(halls)]

    return made


def heard(herald: Herald) -> Verdict:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        try:
            herald.look()
        except GaveUpError as over:
            return over.verdict
        time.sleep(0.01)
    raise AssertionError("nothing was heard")


def test_a_node_that_failed_to_prepare_is_heard_by_all_others_with_its_sentence(heralds: Callable[[int], list[Herald]]) -> None:
    first, second, third = heralds(3)
    first.look()
    second.tell(BAD)
    assert heard(first) == heard(third) == BAD


def test_node_0_stays_until_the_others_have_heard_it(heralds: Callable[[int], list[Herald]]) -> None:
    first, second = heralds(2)
    telling = threading.Thread(target=first.tell, args=(BAD,))
    telling.start()
    assert heard(second) == BAD
    telling.join(PATIENCE)
    assert not telling.is_alive()


def test_the_first_of_two_verdicts_stands(heralds: Callable[[int], list[Herald]]) -> None:
    first, second, third = heralds(3)
    second.tell(BAD)
    third.tell(BAD.model_copy(update={"message": "Another."}))
    assert heard(first) == BAD


def test_a_gang_that_meets_already_hears_it_too() -> None:
    from llmtrain_trainer.agent.gang.rendezvous import GangRendezvous

    hall = Hall("127.0.0.1", reserved_port(), SECRET)
    hall.open()
    gang = GangRendezvous(run_id="a/job/1", hall=hall, node_rank=0, nodes=2, first_round=0, timeout=PATIENCE, stopping=lambda: False)
    gang.connect()
    Herald(Hall("127.0.0.1", hall.port, SECRET), "a/job/1", 1, 2, lambda: False).tell(BAD)
    with pytest.raises(GaveUpError) as over:
        gang.next_rendezvous()
    assert over.value.verdict == BAD


def test_node_0_does_not_wait_for_nodes_that_never_started(heralds: Callable[[int], list[Herald]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FAREWELL_SECONDS", 0.1)
    (first,) = heralds(1)
    first._nodes = 2
    first.tell(BAD)
