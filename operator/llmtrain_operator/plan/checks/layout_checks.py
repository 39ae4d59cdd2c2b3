"""Every reason to refuse a layout, as an ordered tuple of small functions."""

from __future__ import annotations

from llmtrain_operator.manifest.divisors import divisors, listed
from llmtrain_operator.manifest.problem import Problem
from llmtrain_operator.manifest.uris import uris
from llmtrain_operator.plan.checks.adapters import adapter_engine, adapter_over_tensor, adapter_rates, adapter_targets
from llmtrain_operator.plan.checks.chat_template import chat_template
from llmtrain_operator.plan.checks.datasets import bounds_of_characters, ids_of_a_tokenizer, room_for_prompts
from llmtrain_operator.plan.checks.mixing import MIXING
from llmtrain_operator.plan.checks.row_expressions import row_expressions
from llmtrain_operator.plan.checks.supported import AVAILABLE
from llmtrain_operator.plan.engines.registry import ENGINES
from llmtrain_operator.plan.layout.request import LayoutRequest, Refusal
from llmtrain_operator.plan.model.shape import ModelShape
from llmtrain_trainer.config import place
from llmtrain_trainer.config.tables.families import family_named

TENSOR, PIPELINE = "spec.parallelism.tensor", "spec.parallelism.pipeline"


def destinations(request: LayoutRequest) -> Problem | None:
    """A destination must be a valid location inside the bucket or claim that it names."""
    for found in uris(request.job.spec):
        if found.written:
            try:
                place(found.uri)
            except ValueError as error:
                return Problem(found.field, repr(found.uri), str(error), "Write the location itself, such as s3://bucket/prefix")
    return None


def own_exports(request: LayoutRequest) -> Problem | None:
    """Exports may stand beside the checkpoints, above them or below them, but not where the one's files belong to the other."""
    checkpoint, exports = request.job.spec.checkpoint, request.job.spec.output.destination
    if checkpoint is None or exports is None or destinations(request):
        return None
    saved, exported = place(checkpoint.destination), place(exports)
    inside, around = exported.removeprefix(f"{saved}/"), saved.removeprefix(f"{exported}/")
    if inside != exported and inside.startswith(("step-", "tokenizers", "export", "report")):
        rule = f"{inside.partition('/')[0]} in checkpoint.destination belongs to the checkpoints and their own export"
    elif around != saved and around.startswith(("export", "report")):
        rule = f"checkpoint.destination {saved} is inside {around.partition('/')[0]}, which each export replaces"
    else:
        return None
    return Problem("spec.output.destination", exports, rule, "Leave it out, or write another place, such as s3://bucket/models/name")


def devices(request: LayoutRequest) -> Problem | None:
    """The product of the degrees is the number of devices."""
    degrees = request.degrees
    if request.degrees_fill_devices:
        return None
    value = f"pipeline {degrees.pp} x context {degrees.cp} x tensor {degrees.tp} = {degrees.model_parallel}"
    rule = f"it must divide the {degrees.world} devices ({degrees.nodes} x {degrees.procs_per_node})"
    return Problem("spec.parallelism", value, rule, f"Choose degrees whose product is {listed(divisors(degrees.world))}")


def data_degree(request: LayoutRequest) -> Problem | None:
    """data, if given, must be the number of devices divided by the other degrees."""
    given = request.job.spec.parallelism.data
    if given is None or not request.degrees_fill_devices or given == request.degrees.dp:
        return None
    rule = f"{request.degrees.world} devices over pipeline x context x tensor ({request.degrees.model_parallel}) leave {request.degrees.dp}"
    return Problem("spec.parallelism.data", str(given), rule, f"Use {request.degrees.dp}, or leave data out")


def tensor_in_node(request: LayoutRequest) -> Problem | None:
    """Tensor-parallel ranks all-reduce every layer's activations: on GPUs they must share a node."""
    tp, local = request.degrees.tp, request.degrees.procs_per_node
    if request.gpu is None or local % tp == 0:
        return None
    rule = f"it must divide the {local} GPUs of a node, so that no group crosses nodes"
    return Problem(TENSOR, str(tp), rule, f"Use {listed(_tensor_degrees(request))}")


def tensor_plan(request: LayoutRequest) -> Problem | None:
    """Tensor parallelism needs a plan for the model family."""
    if request.degrees.tp == 1 or request.shape is None:
        return None
    row = family_named(request.shape.model_type)
    if not row.tensor:
        rule = f"model_type {request.shape.model_type} has no tensor-parallel plan"
    elif row.qk_norm_asked and request.shape.qk_norm != "none" and "attention" not in row.gathered:
        rule = f"{row.qk_norm_asked} is true, and the norms of queries and keys of a {request.shape.model_type} are not split"
    else:
        return None
    return Problem(TENSOR, str(request.degrees.tp), rule, "Leave tensor out; use pipeline and data parallelism")


def tensor_divides(request: LayoutRequest) -> Problem | None:
    """Heads, key-value heads and feed-forward width are split evenly. A vocabulary that tensor does not divide is replicated; megatron.py
    refuses it."""
    tp, shape = request.degrees.tp, request.shape
    if shape is None or tp == 1 or not family_named(shape.model_type).tensor:
        return None
    wrong = [f"the {name} ({count})" for name, count in _split(shape).items() if count % tp]
    if not wrong:
        return None
    return Problem(TENSOR, str(tp), f"it must divide {listed(wrong, 'and')}", f"Use {listed(_tensor_degrees(request))}")


def _split(shape: ModelShape) -> dict[str, int]:
    """What tensor parallelism splits evenly."""
    return {"attention heads": shape.heads, "key-value heads": shape.kv_heads, "feed-forward width": shape.ffn}


def _tensor_degrees(request: LayoutRequest) -> list[int]:
    """Degrees that stay within a node and split the model evenly."""
    counts = [] if request.shape is None or not family_named(request.shape.model_type).tensor else [*_split(request.shape).values()]
    local = [request.degrees.procs_per_node] if request.gpu is not None else []
    return [degree for degree in divisors(min((*counts, *local))) if all(count % degree == 0 for count in (*counts, *local))]


def enough_layers(request: LayoutRequest) -> Problem | None:
    """Every pipeline stage needs a layer."""
    shape, degrees = request.shape, request.degrees
    if shape is None or degrees.stages <= shape.layers:
        return None
    field, value = (
        (PIPELINE, str(degrees.pp)) if degrees.virtual == 1 else (f"{PIPELINE} x virtualStages", f"{degrees.pp} x {degrees.virtual}")
    )
    return Problem(field, value, f"each stage needs at least one of the {shape.layers} layers", f"Use at most {shape.layers} stages")


def virtual_needs_pipeline(request: LayoutRequest) -> Problem | None:
    if request.degrees.virtual == 1 or request.degrees.pp > 1:
        return None
    way_out = "Set pipeline to 2 or more, or leave virtualStages out"
    return Problem("spec.parallelism.virtualStages", str(request.degrees.virtual), "only a pipeline has stages to interleave", way_out)


def batch_divides(request: LayoutRequest) -> Problem | None:
    if not request.degrees_fill_devices:
        return None
    return request.batch if isinstance(request.batch, Problem) else None


def pipeline_is_filled(request: LayoutRequest) -> Problem | None:
    """1F1B needs as many micro-batches as stages; the interleaved schedule needs a multiple of them."""
    degrees, count = request.degrees, request.accumulation
    if degrees.pp == 1 or count is None:
        return None
    passes = request.job.spec.training.micro_batch_size * degrees.dp
    if degrees.schedule == "1f1b" and count < degrees.pp:
        rule = f"schedule 1f1b needs at least {degrees.pp} micro-batches per step, and this gives {count}"
        way_out = f"Use at least {degrees.pp * passes}, a smaller microBatchSize, or schedule: gpipe"
    elif degrees.schedule == "interleaved" and count % degrees.pp:
        rule = f"schedule interleaved needs a multiple of {degrees.pp} micro-batches per step, and this gives {count}"
        way_out = f"Use a multiple of {degrees.pp * passes}, or schedule: 1f1b"
    else:
        return None
    return Problem("spec.training.globalBatchSize", str(request.job.spec.training.global_batch_size), rule, way_out)


def sequence_has_positions(request: LayoutRequest) -> Problem | None:
    """Learned positions are limited in number; rotary ones are not (advice.py warns about them)."""
    shape, length = request.shape, request.job.spec.training.sequence_length
    if shape is None or not shape.learned_positions or shape.max_positions is None or length <= shape.max_positions:
        return None
    rule = f"the model has {shape.max_positions} learned positions"
    return Problem("spec.training.sequenceLength", str(length), rule, f"Use at most {shape.max_positions}")


def context_divides(request: LayoutRequest) -> Problem | None:
    """Sequences are split evenly, into as many chunks per rank as the engine's attention needs."""
    cp, length = request.degrees.cp, request.job.spec.training.sequence_length
    each = ENGINES[request.degrees.engine].parts_per_context
    parts, words = each * cp, "context" if each == 1 else f"{each} x context"
    if cp == 1 or length % parts == 0:
        return None
    rule = f"it must be a multiple of {words} ({parts})"
    return Problem("spec.training.sequenceLength", str(length), rule, f"Use {length // parts * parts or parts}")


def expert_divides(request: LayoutRequest) -> Problem | None:
    """The expert degree must divide the experts and data x context."""
    ep, shape, field = request.degrees.ep, request.shape, "spec.parallelism.expert"
    if ep == 1 or shape is None:
        return None
    if not shape.experts:
        return Problem(field, str(ep), f"model_type {shape.model_type} has no experts", "Leave expert out")
    replicas = request.degrees.dp * request.degrees.cp
    if shape.experts % ep == 0 and replicas % ep == 0:
        return None
    right = [degree for degree in divisors(shape.experts) if replicas % degree == 0]
    return Problem(field, str(ep), f"it must divide the {shape.experts} experts and data x context ({replicas})", f"Use {listed(right)}")


def tokenizer_fits(request: LayoutRequest) -> Problem | None:
    """A tokenizer that the run trains must fit the model's vocabulary."""
    tokenizer, shape = request.job.spec.tokenizer, request.shape
    if shape is None or tokenizer is None or tokenizer.train is None or tokenizer.train.vocab_size <= shape.vocab:
        return None
    rule = f"the model's vocabulary has {shape.vocab} tokens"
    larger = ", or make the model's vocab_size larger" if request.job.spec.model.config else ""
    way_out = f"Use at most {shape.vocab}{larger}"
    return Problem("spec.tokenizer.train.vocabSize", str(tokenizer.train.vocab_size), rule, way_out)


LAYOUT: tuple[Refusal, ...] = (
    destinations,
    own_exports,
    devices,
    data_degree,
    tensor_in_node,
    tensor_plan,
    tensor_divides,
    enough_layers,
    virtual_needs_pipeline,
    batch_divides,
    pipeline_is_filled,
    sequence_has_positions,
    context_divides,
    expert_divides,
    tokenizer_fits,
    chat_template,
    row_expressions,
    adapter_engine,
    adapter_over_tensor,
    adapter_rates,
    adapter_targets,
    *MIXING,
    room_for_prompts,
    bounds_of_characters,
    ids_of_a_tokenizer,
)

REFUSALS: tuple[Refusal, ...] = (*AVAILABLE, *LAYOUT)
"""Whatever the engine."""


def problems_of(request: LayoutRequest) -> tuple[Problem, ...]:
    """Everything wrong with the request, in the order of REFUSALS, then of the engine's limits."""
    refusals = (*REFUSALS, *ENGINES[request.degrees.engine].limits)
    return tuple(problem for refusal in refusals if (problem := refusal(request)))
