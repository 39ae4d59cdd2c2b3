"""The curves of the report, drawn by matplotlib."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from llmtrain_trainer.report.facts import Facts

INK, GREY, GRID = "#1f2933", "#7b8794", "#e4e7eb"
BLUE, ORANGE, GREEN, RED = "#2b6cb0", "#c05621", "#2f855a", "#c53030"
STYLE = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "axes.edgecolor": GRID,
    "axes.labelcolor": GREY,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "svg.fonttype": "none",  # text stays text: it can be searched and takes the reader's fonts
}
MOST_POINTS = 2000

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def _styled(draw: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """matplotlib reads its settings when it makes a thing and again when it saves it: both run under ours."""

    @wraps(draw)
    def run(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        from matplotlib import rc_context

        with rc_context(STYLE):
            return draw(*args, **kwargs)

    return run


@_styled
def loss_figure(facts: Facts) -> Any:
    """Training loss (thin: each step, thick: smoothed), validation loss, unigram entropy, restarts."""
    figure, axes = _canvas(8.6, 3.6)
    steps, losses = _series(facts, "loss")
    axes.plot(steps, losses, color=BLUE, alpha=0.3, linewidth=0.9)
    axes.plot(steps, _smooth(losses), color=BLUE, label="training")
    if facts.validation:
        axes.plot(*zip(*facts.validation, strict=True), color=ORANGE, marker="o", markersize=3.5, label="validation")
    if facts.unigram_entropy is not None:
        axes.axhline(facts.unigram_entropy, color=GREY, linestyle=(0, (4, 3)), linewidth=1, label="entropy of the frequencies of targets")
    _mark_restarts(axes, facts)
    axes.set_xlabel("step")
    axes.set_ylabel("loss (nats per token)")
    axes.legend(loc="upper right", fontsize=8.5)
    return figure


@_styled
def small_figure(facts: Facts, field: str, color: str) -> Any:
    """One field of the rows over the steps."""
    figure, axes = _canvas(2.9, 1.9)
    steps, values = _series(facts, field)
    axes.plot(steps, values, color=color, linewidth=1.2)
    axes.set_ylim(bottom=0)
    axes.ticklabel_format(axis="y", style="sci", scilimits=(-3, 4), useMathText=True)
    return figure


@_styled
def svg(figure: Any) -> str:
    """The figure as an <svg> element, for use inside HTML."""
    out = io.StringIO()
    figure.savefig(out, format="svg", bbox_inches="tight", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = out.getvalue()
    return text[text.index("<svg") :]


@_styled
def png(figure: Any, path: Path) -> None:
    """Write the figure at twice the screen's density."""
    figure.savefig(path, format="png", dpi=160, bbox_inches="tight", facecolor="white")


def _canvas(width: float, height: float) -> tuple[Any, Any]:
    # Figure without pyplot: no backend is chosen and no figure stays in a global list.
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(width, height), layout="tight")
    axes = figure.subplots()
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8 if width > 5 else 4))
    return figure, axes


def _series(facts: Facts, field: str) -> tuple[list[int], list[float]]:
    """At most MOST_POINTS and the last: a curve ends where the run does."""
    stride = max(1, -(-len(facts.rows) // MOST_POINTS))
    some = [*facts.rows[::stride], *(facts.rows[-1:] if (len(facts.rows) - 1) % stride else ())]
    rows = [row for row in some if getattr(row, field) is not None]
    return [row.step for row in rows], [float(getattr(row, field)) for row in rows]


def _smooth(values: Sequence[float]) -> list[float]:
    """Exponential mean over about a fiftieth of the run, corrected for its start as Adam's moments are."""
    decay = 1 - 1 / max(3.0, len(values) / 50)
    total, weight, out = 0.0, 0.0, []
    for value in values:
        total, weight = decay * total + (1 - decay) * value, decay * weight + (1 - decay)
        out.append(total / weight)
    return out


def _mark_restarts(axes: Any, facts: Facts) -> None:
    steps = sorted({event.step for event in facts.restarts if event.step is not None})
    for index, step in enumerate(steps):
        axes.axvline(step, color=RED, linewidth=0.9, alpha=0.7, label="restart" if index == 0 else None)
