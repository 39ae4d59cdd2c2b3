"""report.html and loss.png."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from llmtrain_trainer.config.formats import amount, size, span
from llmtrain_trainer.report import figures
from llmtrain_trainer.report.facts import Facts, gather
from llmtrain_trainer.report.words import clock_text, loss_text, percent, ratio_text
from llmtrain_trainer.run_dir.layout import RunDir, write_atomically


@dataclass(frozen=True, slots=True)
class Comparison:
    """A row of the table that holds the plan against what was measured."""

    what: str
    planned: str
    measured: str
    ratio: str


@dataclass(frozen=True, slots=True)
class Saved:
    """A row of the table of checkpoints."""

    name: str
    step: str
    bytes: str
    blocked: str
    committed: str


def write_report(run: RunDir, nodes: Sequence[RunDir], out: Path) -> Path:
    """Write out/report.html and out/loss.png; returns the path of the page.

    `run` is the directory of node 0, `nodes` those of all nodes. Raises FileNotFoundError where config.json is missing.
    """
    import jinja2

    facts = gather(run, nodes)
    out.mkdir(parents=True, exist_ok=True)
    loss = figures.loss_figure(facts) if facts.rows else None
    if loss is not None:
        figures.png(loss, out / "loss.png")
    template = jinja2.Environment(
        loader=jinja2.PackageLoader("llmtrain_trainer.report", "."), autoescape=True, trim_blocks=True, lstrip_blocks=True
    ).get_template("page.html.j2")
    page = template.render(
        facts=facts,
        job=facts.config.job,
        headline=headline(facts),
        tiles=tiles(facts),
        loss_svg=figures.svg(loss) if loss is not None else "",
        small_svgs=_small_svgs(facts),
        comparisons=comparisons(facts),
        checkpoints=checkpoints(facts),
        timeline=timeline(facts),
        config_json=facts.config.model_dump_json(by_alias=True, exclude_none=True, exclude_defaults=True, indent=2),
    )
    write_atomically(out / "report.html", page)
    return out / "report.html"


def _small_svgs(facts: Facts) -> list[tuple[str, str]]:
    if not facts.rows:
        return []
    curves = (
        ("learning rate", "learning_rate", figures.GREEN),
        ("gradient norm before clipping", "grad_norm", figures.ORANGE),
        ("tokens per second", "tokens_per_second", figures.BLUE),
    )
    return [(title, figures.svg(figures.small_figure(facts, field, color))) for title, field, color in curves]


def headline(facts: Facts) -> str:
    """One sentence about how the run ended."""
    if facts.verdict is not None:
        return facts.verdict.message
    if not facts.rows:
        return "No step was finished."
    last = facts.rows[-1]
    return f"Step {last.step} of {last.target_steps}; no verdict was written yet."


def layout_text(facts: Facts) -> str:
    """The mesh in words; degrees of 1 that nobody asked about are left out."""
    mesh = facts.config.mesh
    degrees = " × ".join(f"{name} {degree}" for name, degree in (("dp", mesh.dp), ("tp", mesh.tp), ("pp", mesh.pp)))
    more = "".join(f" × {name} {degree}" for name, degree in (("cp", mesh.cp), ("ep", mesh.ep)) if degree > 1)
    return degrees + more


def tiles(facts: Facts) -> list[tuple[str, str, str]]:
    """(label, value, note) of the boxes on top."""
    mesh = facts.config.mesh
    devices = "CPU processes" if facts.config.device == "cpu" else "GPUs"
    first, last = (facts.rows[0], facts.rows[-1]) if facts.rows else (None, None)
    return [
        ("loss", loss_text(last), f"from {loss_text(first)}" if first else ""),
        *_validation_tile(facts),
        *((f"validation {name}", f"{value:.3f}", f"at step {step:,}") for name, step, value in facts.validation_metrics),
        ("steps", f"{last.step:,}" if last else "0", f"of {last.target_steps:,}" if last else ""),
        ("tokens", amount(last.consumed_tokens) if last else "-", f"{amount(facts.median_of('tokens_per_second'))} per second"),
        ("layout", layout_text(facts), f"{mesh.world_size} {devices} on {mesh.nodes} {'node' if mesh.nodes == 1 else 'nodes'}"),
        ("restarts", str(len(facts.restarts)), f"{facts.lost_steps} steps trained again"),
        ("checkpoints", str(len(facts.commits)), f"{len(facts.checkpoint_failures)} refused, dropped or interrupted"),
        ("time", span(facts.seconds), f"{facts.median_of('step_seconds') or 0:.2f} s per step"),
    ]


def _validation_tile(facts: Facts) -> list[tuple[str, str, str]]:
    """The tile of the validation loss; None if nothing was evaluated."""
    if not facts.validation:
        return []
    (step, newest), (best_step, best) = facts.validation[-1], min(facts.validation, key=lambda pair: pair[1])
    note = f"at step {step:,}" if best >= newest else f"at step {step:,}, lowest {best:.3f} at step {best_step:,}"
    return [("validation loss", f"{newest:.3f}", note)]


def comparisons(facts: Facts) -> list[Comparison]:
    """What the plan expected beside what was measured."""
    estimate, rows = facts.config.estimate, facts.rows
    memory = max((row.memory_bytes for row in rows if row.memory_bytes is not None), default=None)
    speed, mfu = facts.median_of("tokens_per_second"), facts.median_of("mfu")
    target = rows[-1].target_steps if rows else facts.config.training.max_steps
    done = rows[-1].step if rows else 0
    return [
        Comparison("Steps", f"{target:,}" if target else "-", f"{done:,}", ratio_text(done, target)),
        Comparison(
            "Memory of the fullest rank",
            size(estimate.memory_bytes_per_rank),
            size(memory),
            ratio_text(memory, estimate.memory_bytes_per_rank),
        ),
        Comparison("Tokens per second", amount(estimate.tokens_per_second), amount(speed), ratio_text(speed, estimate.tokens_per_second)),
        Comparison("Model FLOP utilisation", "-", percent(mfu), "-"),
        Comparison("Parameters", amount(estimate.parameters), f"{amount(estimate.trainable_parameters)} trained", "-"),
    ]


def checkpoints(facts: Facts) -> list[Saved]:
    """Every commit, oldest first."""
    blocked = {row.step: row.blocked_seconds for row in facts.rows if row.blocked_seconds}
    return [
        Saved(
            name=str(event.detail.get("name", "")),
            step=f"{event.step:,}" if event.step is not None else "-",
            bytes=size(event.detail.get("bytes")),
            blocked=f"{blocked[event.step] * 1000:.0f} ms" if event.step in blocked else "-",
            committed=f"+{span(event.time - facts.start)}",
        )
        for event in facts.commits
    ]


def timeline(facts: Facts) -> list[tuple[str, str, str, str]]:
    """(time since the start, kind, step, message) of every event; commits stand in their own table."""
    shown = [event for event in facts.events if event.kind != "checkpoint_committed"]
    several = facts.config.mesh.nodes > 1
    return [
        (
            f"{clock_text(event.time)}  +{span(event.time - facts.start)}",
            event.kind.replace("_", " "),
            "" if event.step is None else f"{event.step:,}",
            f"node {event.node}: {event.message}" if several else event.message,
        )
        for event in shown
    ]
