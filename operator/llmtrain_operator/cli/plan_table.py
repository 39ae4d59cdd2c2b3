"""A Plan as text for a person: summary, layout and rank grid, batch, memory by term, speed, advice."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from llmtrain_operator.plan.layout.layout import Coordinates, crossing, degrees, rank_grid
from llmtrain_operator.plan.memory.estimate import FILL
from llmtrain_operator.plan.model.shape import ModelShape
from llmtrain_operator.plan.plan import Plan
from llmtrain_trainer.config import Mesh
from llmtrain_trainer.config.formats import amount, size, span

BAR = 40
"""Characters of the memory bar."""

MOST_NODES = 16
"""Nodes shown in the grid; the rest follow the same pattern."""

AXIS_NAMES = {"pp": "pipeline", "dp": "data", "cp": "context", "tp": "tensor", "ep": "expert"}


def render_plan(plan: Plan) -> RenderableType:
    """The sections of the plan, without those that do not apply."""
    sections = (_summary(plan), _layout(plan), _grid(plan), _batch(plan), _memory(plan), _speed(plan))
    lists = (("Why", plan.why), ("Advice", plan.advice))
    return Group(
        _headline(plan),
        *(section for section in sections if section is not None),
        *(_sentences(title, sentences) for title, sentences in lists if sentences),
        *([_alternatives(plan)] if not plan.fits else []),
    )


def _headline(plan: Plan) -> Text:
    name = Text(plan.job.metadata.name, style="bold")
    if plan.memory is None or plan.memory.budget is None:
        return name.append("  memory not checked", style="yellow")
    return name.append("  fits", style="bold green") if plan.fits else name.append("  does not fit", style="bold red")


def _summary(plan: Plan) -> RenderableType:
    spec, mesh = plan.job.spec, plan.mesh
    kind = f"{plan.gpu.name}" if plan.gpu else "CPU processes"
    shape = plan.shape
    model = (
        f"{shape.model_type}, {amount(shape.parameters)} parameters, {shape.layers} layers"
        if shape
        else f"{plan.uncounted}, sizes not known to the plan"
        if plan.uncounted
        else "shape unknown before preparation"
    )
    if spec.peft and plan.trainable:
        model += f"; {spec.peft.method} trains {amount(plan.trainable)}"
    return _facts(
        "Job",
        (
            ("task", f"{spec.task}, engine {plan.engine}, {spec.training.precision}"),
            ("model", model),
            ("devices", f"{mesh.nodes} x {mesh.procs_per_node} = {mesh.world_size} {kind}"),
        ),
    )


def _layout(plan: Plan) -> RenderableType:
    mesh = plan.mesh
    laid_out = " x ".join(f"{AXIS_NAMES[axis]} {size}" for axis, size in degrees(mesh) if axis != "ep")
    rows = [("degrees", laid_out or "one device")]
    if mesh.cp > 1:
        rows.append(("sequences", _cut_sequences(plan)))
    if plan.shape and plan.shape.experts and mesh.ep > 1:
        rows.append(("experts", _cut_experts(plan.shape, mesh)))
    if mesh.dp * mesh.cp > 1:
        sharded = {0: "nothing", 1: "optimizer state", 2: "optimizer state and gradients", 3: "weights, gradients and optimizer state"}
        rows.append(("zero stage", f"{mesh.zero_stage}: {sharded[mesh.zero_stage]} sharded over the replicas"))
    if offload := plan.job.spec.parallelism.offload:
        rows.append(("offload", f"optimizer: {offload.optimizer}, weights: {offload.parameters}"))
    if mesh.pp > 1:
        rows.append(("schedule", mesh.schedule))
        if plan.shape:
            rows.append(("stages", ", ".join(f"{first}-{last - 1}" for first, last in mesh.stages)))
    if mesh.nodes > 1:
        rows.extend(_crossing(plan))
    return _facts("Layout", rows)


def _cut_sequences(plan: Plan) -> str:
    length = plan.job.spec.training.sequence_length
    return f"{length // plan.mesh.cp:,} of {length:,} tokens per rank; each sequence is split over {plan.mesh.cp} ranks"


def _cut_experts(shape: ModelShape, mesh: Mesh) -> str:
    held = shape.experts // (mesh.ep * mesh.tp)
    return f"{held} of {shape.experts} experts of each layer per rank; all-to-all of tokens between {mesh.ep} ranks of data x context"


def _crossing(plan: Plan) -> Iterator[tuple[str, str]]:
    for axis, (across, groups) in crossing(plan.mesh).items():
        yield f"{AXIS_NAMES[axis]} groups", f"{groups}, {across or 'none'} across nodes"


def _grid(plan: Plan) -> RenderableType | None:
    mesh = plan.mesh
    if mesh.world_size == 1:
        return None
    axes = [axis for axis in ("pp", "dp", "cp", "tp", "ep") if getattr(mesh, axis) > 1]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    table.add_column("node", justify="right")
    for local in range(mesh.procs_per_node):
        table.add_column(f"rank {local}" if mesh.procs_per_node <= 2 else str(local), justify="center", no_wrap=True)
    for node, ranks in enumerate(rank_grid(mesh, MOST_NODES)):
        table.add_row(str(node), *(_cell(at, axes) for at in ranks))
    key = "/".join(AXIS_NAMES[axis] for axis in axes)
    rest = f"; {mesh.nodes - MOST_NODES} more nodes continue the pattern" if mesh.nodes > MOST_NODES else ""
    return _section("Ranks", table, f"node by local rank; each cell is {key}{rest}")


def _cell(at: Coordinates, axes: Iterable[str]) -> str:
    return "/".join(str(getattr(at, axis)) for axis in axes)


def _batch(plan: Plan) -> RenderableType:
    batch, training = plan.batch, plan.job.spec.training
    tokens = batch.global_size * training.sequence_length
    length = f"{training.max_steps:,} steps" if training.max_steps else f"{training.epochs:g} epochs"
    total = f", {amount(tokens * training.max_steps)} tokens in all" if training.max_steps else ""
    return _facts(
        "Batch",
        (
            ("global", f"{batch.global_size} = micro {batch.micro_size} x data {plan.mesh.dp} x accumulation {batch.accumulation}"),
            ("tokens per step", f"{tokens:,} ({training.sequence_length} per sequence)"),
            ("length", length + total),
            ("recomputation", training.activation_checkpointing),
        ),
    )


def _memory(plan: Plan) -> RenderableType | None:
    memory = plan.memory
    if memory is None:
        why = "its sizes are known to transformers alone" if plan.uncounted else "the model's shape is unknown before preparation"
        return _section("Memory", Text(f"Not estimated: {why}."), None)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    for column, justify in (("term", "left"), ("size", "right"), ("", "left"), ("how", "left")):
        table.add_column(column, justify=justify, no_wrap=column == "size")  # type: ignore[arg-type]  # rich names a Literal
    for term in memory.terms:
        table.add_row(term.name, size(term.bytes), "▪" * round(20 * term.bytes / memory.peak), term.how)
    table.add_section()
    table.add_row("peak", size(memory.peak), "", "")
    note = f"of the rank that needs most: pipeline rank {memory.pipeline_rank}" if plan.mesh.pp > 1 else "of each rank"
    if memory.capacity is None or memory.budget is None:
        return _section("Memory", table, f"{note}; spec.resources.memory is not set: the estimate is not checked against a limit")
    return _section("Memory", Group(table, _bar(memory.peak, memory.budget, memory.capacity)), note)


def _bar(peak: int, budget: int, capacity: int) -> Text:
    """A bar of peak over capacity, with a mark at the share that may be used."""
    filled, mark = min(BAR, round(BAR * peak / capacity)), round(BAR * FILL)
    cells = ["█" if cell < filled else "·" for cell in range(BAR)]
    cells.insert(mark, "|")
    style = "green" if peak < budget else "red"
    return Text.assemble(("".join(cells), style), f"  {size(peak)} of {size(capacity)}; the limit is {FILL:.0%}, {size(budget)}")


def _speed(plan: Plan) -> RenderableType | None:
    expected = plan.throughput
    if expected is None:
        return None
    rows = [("FLOPs per token", f"{expected.flops_per_token:.3g}")]
    if plan.mesh.pp > 1:
        rows.append(("pipeline bubble", f"{expected.bubble:.1%} of a step"))
    if expected.tokens_per_second and expected.mfu:
        per_device = expected.tokens_per_second / plan.mesh.world_size
        speed = f"{expected.tokens_per_second:,.0f} in total, {per_device:,.0f} per device (MFU {expected.mfu:.0%})"
        rows.append(("tokens per second", speed))
    if expected.seconds:
        rows.append(("time", span(expected.seconds)))
    rows.append(("assumption", expected.assumption))
    return _facts("Speed", rows)


def _alternatives(plan: Plan) -> RenderableType:
    if not plan.alternatives:
        return _sentences("What would fit", ("No change of layout, batch or GPU that fits was found; try a smaller model or more nodes.",))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    for column in ("change", "peak", "tokens/s"):
        table.add_column(column, justify="left" if column == "change" else "right")
    for other in plan.alternatives:
        changes = ", ".join(f"{path}={'(left out)' if value is None else value}" for path, value in other.changes)
        table.add_row(changes, size(other.peak_bytes), f"{other.tokens_per_second:,.0f}" if other.tokens_per_second else "")
    return _section("What would fit", table, None)


def _facts(title: str, rows: Iterable[tuple[str, str]]) -> RenderableType:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    for name, value in rows:
        table.add_row(name, value)
    return _section(title, table, None)


def _sentences(title: str, sentences: Iterable[str]) -> RenderableType:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 1, 0, 0))
    for sentence in sentences:
        table.add_row("-", sentence)
    return _section(title, table, None)


def _section(title: str, body: RenderableType, note: str | None) -> RenderableType:
    head = Text(f"\n{title}", style="bold")
    return Group(head.append(f"  {note}", style="not bold dim") if note else head, Padding(body, (0, 0, 0, 2)))
