"""What a pod's log shows of its ranks."""

from __future__ import annotations

from pathlib import Path

from llmtrain_trainer.agent.telemetry.log_forwarder import LONGEST_LINE, LogForwarder
from llmtrain_trainer.config import Progress
from llmtrain_trainer.rank.progress import row_text
from llmtrain_trainer.run_dir.layout import RunDir, append_row


class Out:
    def __init__(self) -> None:
        self.text = b""

    def __call__(self, text: bytes) -> None:
        self.text += text

    @property
    def lines(self) -> list[str]:
        return self.text.decode().splitlines()


def logs(root: Path) -> Path:
    made = RunDir(root).logs
    made.mkdir(exist_ok=True)
    return made


def test_each_line_carries_the_rank_that_wrote_it(tmp_path: Path) -> None:
    out = Out()
    forwarder = LogForwarder(RunDir(tmp_path), out)
    (logs(tmp_path) / "rank-3.log").write_text("one\ntwo\n")
    (logs(tmp_path) / "prepare.log").write_text("made\n")
    forwarder.look()
    assert out.lines == ["[prepare] made", "[rank 3] one", "[rank 3] two"]


def test_a_half_line_waits_for_its_end_and_comes_at_the_latest_when_the_agent_ends(tmp_path: Path) -> None:
    out, log = Out(), logs(tmp_path) / "rank-0.log"
    forwarder = LogForwarder(RunDir(tmp_path), out)
    forwarder.start()
    log.write_text("loss 3")
    with log.open("a") as file:
        file.write(".5\nlast wo")
    forwarder.close()
    assert out.lines == ["[rank 0] loss 3.5", "[rank 0] last wo"]


def test_what_an_earlier_run_left_is_not_repeated(tmp_path: Path) -> None:
    out = Out()
    (logs(tmp_path) / "rank-0.log").write_text("old\n")
    forwarder = LogForwarder(RunDir(tmp_path), out)
    assert not forwarder.look() and out.lines == []


def test_a_line_without_an_end_is_let_go_and_a_drawn_over_one_shows_its_last_state(tmp_path: Path) -> None:
    out = Out()
    forwarder = LogForwarder(RunDir(tmp_path), out)
    (logs(tmp_path) / "rank-0.log").write_text("x" * (LONGEST_LINE + 1))
    (logs(tmp_path) / "rank-1.log").write_bytes(b"10%\r50%\r100%\r\n")
    forwarder.look()
    assert out.lines == ["[rank 0] " + "x" * (LONGEST_LINE + 1), "[rank 1] 100%"]


def test_of_many_steps_at_once_the_newest_is_told_and_the_last_one_always(tmp_path: Path) -> None:
    def train(*steps: int) -> None:
        for step in steps:
            append_row(RunDir(tmp_path).metrics, row_text(row.model_copy(update={"step": step, "loss": 5.0 - step})))

    row = Progress(
        time=1.0,
        step=1,
        target_steps=4,
        consumed_samples=4,
        consumed_tokens=64,
        loss=4.0,
        grad_norm=1.0,
        learning_rate=0.1,
        step_seconds=1.0,
        tokens_per_second=6400.0,
        mfu=0.412,
    )
    out = Out()
    forwarder = LogForwarder(RunDir(tmp_path), out)
    train(1, 2)
    forwarder.look()
    assert out.lines == ["step 2 of 4, loss 3.0000, 6,400 tokens/s, MFU 41.2%"]
    forwarder.start()
    train(3, 4)
    forwarder.close()
    assert out.lines[1:] == ["step 4 of 4, loss 1.0000, 6,400 tokens/s, MFU 41.2%"]
