"""The view of a run: a live panel on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from llmtrain_operator.local.sparkline import sparkline
from llmtrain_operator.local.watch import Happening, Snapshot
from llmtrain_operator.terminal import plain
from llmtrain_trainer.config import NodeStatus
from llmtrain_trainer.config.formats import loss, span

SECONDS_BETWEEN_LINES = 10.0
QUIET = {"checkpoint_committed", "start", "verdict"}
"""Kinds of events that the live view shows in the panel instead of as a line."""

ALARMS = {"restart", "hang", "checkpoint_rejected", "store_outage", "notice"}


class View(Protocol):
    """Where a run is shown."""

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...

    def show(self, snapshot: Snapshot) -> None:
        """Draw this state and print its news."""

    def say(self, text: str) -> None:
        """Print one sentence that is not overdrawn."""


class PlainView:
    """Lines for logs and pipes: news at once, the state every few seconds."""

    def __init__(self, console: Console, seconds: float = SECONDS_BETWEEN_LINES) -> None:
        self.console, self.seconds = console, seconds
        self._next_line = 0.0
        self._last_line = ""
        self._messages: dict[int, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        return None

    def show(self, snapshot: Snapshot) -> None:
        """Print the new events of a snapshot, then messages before the first step, or a line of progress when one is due."""
        for happening in snapshot.news:
            if happening.kind != "verdict":  # the closing lines of the command print it
                self.say(_sentence(happening, len(snapshot.nodes)))
        if snapshot.last is None:
            self._tell_messages(snapshot)
        elif snapshot.time >= self._next_line or snapshot.last.step == snapshot.last.target_steps:
            self._tell_line(snapshot)

    def say(self, text: str) -> None:
        self.console.print(plain(text), markup=False, highlight=False, soft_wrap=True)

    def _tell_messages(self, snapshot: Snapshot) -> None:
        for index, node in enumerate(snapshot.nodes):
            if node is None or node.verdict is not None:  # the closing lines of the command print the verdict
                continue
            if node.message and self._messages.get(index) != node.message:
                self._messages[index] = node.message
                self.say(f"node {index}: {node.message}" if len(snapshot.nodes) > 1 else node.message)

    def _tell_line(self, snapshot: Snapshot) -> None:
        line = state_line(snapshot)
        if line != self._last_line:
            self.say(line)
        self._last_line, self._next_line = line, snapshot.time + self.seconds


class LiveView:
    """A panel that is redrawn in place, with news above it."""

    def __init__(self, console: Console, title: str) -> None:
        self.console, self.title = console, title
        self._live = Live(console=console, auto_refresh=False, transient=False)

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._live.__exit__(kind, error, trace)

    def show(self, snapshot: Snapshot) -> None:
        for happening in snapshot.news:
            if happening.kind not in QUIET:
                style = "red" if happening.kind in ALARMS else "cyan"
                self.console.print(Text(plain(f"  {_sentence(happening, len(snapshot.nodes))}"), style=style))
        self._live.update(panel(snapshot, self.title), refresh=True)

    def say(self, text: str) -> None:
        self.console.print(Text(plain(text)))


def state_line(snapshot: Snapshot) -> str:
    """The state as `step 65/120 (54%)  loss 3.214  2,048 tokens/s  eta 48s  saved step 60  restarts 1`."""
    last = snapshot.last
    if last is None:
        return "no step yet"
    parts = [f"step {last.step}/{last.target_steps} ({last.step / max(1, last.target_steps):.0%})", f"loss {loss(last.loss)}"]
    if snapshot.validation_loss is not None:
        parts.append(_validation(snapshot))
    if snapshot.tokens_per_second is not None:
        parts.append(f"{snapshot.tokens_per_second:,.0f} tokens/s")
    parts.append(f"eta {span(snapshot.remaining_seconds)}")
    if snapshot.checkpoint is not None:
        parts.append(f"saved step {snapshot.checkpoint.step}")
    if snapshot.restarts:
        parts.append(f"restarts {snapshot.restarts}")
    return "  ".join(parts)


def panel(snapshot: Snapshot, title: str) -> RenderableType:
    """Title, progress bar, numbers, one line per node."""
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim", min_width=6)
    facts.add_column(no_wrap=not snapshot.state)
    if snapshot.state:
        facts.add_row("state", Text(plain(snapshot.state)))
    facts.add_row("loss", _loss(snapshot))
    facts.add_row("speed", _speed(snapshot))
    facts.add_row("saved", _saved(snapshot))
    for index, node in enumerate(snapshot.nodes):
        facts.add_row(f"node {index}", _node(node))
    return Group(Text(plain(title), style="bold"), _progress(snapshot), facts)


def _progress(snapshot: Snapshot) -> RenderableType:
    last = snapshot.last
    done, total = (last.step, last.target_steps) if last is not None else (0, None)
    bar = Table.grid(padding=(0, 2))
    if total is None:
        bar.add_row(ProgressBar(total=100, completed=0, width=44), Text("waiting for the first step", style="dim"))
    else:
        text = f"{done:,} of {total:,} steps, {done / max(1, total):.0%}"
        bar.add_row(
            ProgressBar(total=max(1, total), completed=done, width=44, complete_style="blue", finished_style="green"),
            text,
            f"{span(snapshot.remaining_seconds)} left" if done < total else "done",
        )
    return bar


def _loss(snapshot: Snapshot) -> Text:
    if snapshot.last is None:
        return Text("-")
    losses = [row.loss for row in snapshot.rows]
    curve = sparkline([value for value in losses if value is not None], 32)
    text = Text.assemble((loss(losses[-1]), "bold"), "  ", (curve, "blue"), (f"  from {loss(losses[0])}", "dim"))
    if snapshot.validation_loss is not None:
        text.append(f"  {_validation(snapshot)}")
    return text


def _validation(snapshot: Snapshot) -> str:
    """Loss and measures of the newest evaluation."""
    measures = [f"{plain(name)} {loss(value)}" for name, value in snapshot.validation_metrics.items()]
    return ", ".join([f"validation {loss(snapshot.validation_loss)}", *measures])


def _speed(snapshot: Snapshot) -> str:
    last = snapshot.last
    if last is None:
        return "-"
    mfu = f"  MFU {last.mfu:.1%}" if last.mfu is not None else ""
    return f"{snapshot.tokens_per_second or 0:,.0f} tokens/s  {last.step_seconds:.2f} s per step{mfu}"


def _saved(snapshot: Snapshot) -> Text:
    checkpoint = snapshot.checkpoint
    text = Text("nothing yet", style="dim")
    if checkpoint is not None:
        text = Text(f"step {checkpoint.step}, {span(snapshot.time - checkpoint.committed_at)} ago")
    if snapshot.resumed_from_step is not None:
        text.append(f"  resumed from step {snapshot.resumed_from_step}", style="cyan")
    if snapshot.restarts:
        text.append(f"  restarts {snapshot.restarts}", style="red")
    return text


def _node(node: NodeStatus | None) -> Text:
    if node is None:
        return Text("not answering", style="dim")
    styles = {"training": "green", "done": "green", "restarting": "red", "failed": "red"}
    return Text.assemble((f"{node.phase:<10}", styles.get(node.phase, "yellow")), "  ", (plain(node.message), "dim"))


def _sentence(happening: Happening, nodes: int) -> str:
    return f"node {happening.node}: {happening.message}" if nodes > 1 else happening.message
