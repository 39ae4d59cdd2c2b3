"""Advice on a plan that is valid but could be better: an ordered tuple of small functions, each with one sentence."""

from __future__ import annotations

from collections.abc import Callable

from llmtrain_operator.manifest.divisors import divisors, listed
from llmtrain_operator.manifest.uris import uris
from llmtrain_operator.plan.checks.overlap import overlap
from llmtrain_operator.plan.engines.offload import offloaded_bytes
from llmtrain_operator.plan.engines.registry import ENGINES
from llmtrain_operator.plan.layout.layout import crossing
from llmtrain_operator.plan.layout.throughput import trainable_parameters
from llmtrain_operator.plan.model.unknown_keys import unread
from llmtrain_operator.plan.search.candidate import FeasibleLayout
from llmtrain_trainer.config import place
from llmtrain_trainer.config.formats import amount, size
from llmtrain_trainer.config.tables.families import family_named
from llmtrain_trainer.config.tables.mixing import MEANINGS
from llmtrain_trainer.config.tables.tasks import TASKS

TOKENS_PER_PARAMETER = 20
"""Compute-optimal tokens per parameter: Hoffmann et al. 2022 (Chinchilla)."""

FEWEST_SAMPLES = 1000
"""Fine-tuning samples below which results are seldom good: Zhou et al. 2023 (LIMA) used 1,000, chosen by hand."""

MOST_BUBBLE = 0.20

Advice = Callable[[FeasibleLayout], str | None]


def tokens_to_pretrain(layout: FeasibleLayout) -> str | None:
    """Pretraining from scratch on fewer tokens than are compute-optimal for the model's size."""
    training, shape, model = layout.job.spec.training, layout.shape, layout.job.spec.model
    scratch = model.config is not None or model.init == "random"
    if shape is None or training.max_steps is None or TASKS[layout.job.spec.task].fine_tunes or not scratch:
        return None
    tokens = training.max_steps * training.global_batch_size * training.sequence_length
    wanted = TOKENS_PER_PARAMETER * shape.parameters
    if tokens >= wanted:
        return None
    ratio = tokens / shape.parameters
    steps = -(-wanted // (training.global_batch_size * training.sequence_length))
    return (
        f"{amount(tokens)} tokens are {ratio:.2g} per parameter; about {TOKENS_PER_PARAMETER} per parameter are compute-optimal "
        f"(Hoffmann et al. 2022): {amount(wanted)} tokens, or {steps:,} steps."
    )


def samples_to_fine_tune(layout: FeasibleLayout) -> str | None:
    training = layout.job.spec.training
    if not TASKS[layout.job.spec.task].fine_tunes or training.max_steps is None:
        return None
    seen = training.max_steps * training.global_batch_size
    return f"Fine-tuning sees {seen} sequences; below about {FEWEST_SAMPLES} results are seldom good." if seen < FEWEST_SAMPLES else None


def another_kernel(layout: FeasibleLayout) -> str | None:
    """A model family whose attention scores are capped runs in the eager kernel instead of sdpa."""
    attention, shape = layout.job.spec.model.attention, layout.shape
    if shape is None or family_named(shape.model_type).kernel(attention) == attention:
        return None
    return (
        f"Attention runs in the eager kernel, which keeps all scores in memory: sdpa does not cap them, as a {shape.model_type} does. "
        "On GPUs attention: flash caps them without keeping them."
    )


def labels_of_data(layout: FeasibleLayout) -> str | None:
    spec = layout.job.spec
    if spec.labels or not TASKS[spec.task].labels:
        return None
    return "spec.labels is not set: preparation takes the labels from the model's head or from the data, and this plan counts 2 of them."


def adapters_for_little_data(layout: FeasibleLayout) -> str | None:
    spec, shape = layout.job.spec, layout.shape
    if shape is None or spec.peft is None:
        return None
    share = trainable_parameters(shape, spec.peft) / shape.parameters
    return f"The adapters train {share:.0%} of the parameters; a lower rank is usually enough." if share > 0.1 else None


def frozen_experts(layout: FeasibleLayout) -> str | None:
    """Experts are not linear layers in transformers, so they get no adapters."""
    peft, shape = layout.job.spec.peft, layout.shape
    if peft is None or shape is None or not shape.experts:
        return None
    layer, _ = shape.kinds()[-1]
    every = "all-linear" in peft.target_modules
    adapted = [matrix.name for matrix in shape.linears("all-linear" if every else peft.target_modules, layer)]
    share = sum(matrix.parameters for matrix in shape.matrices(layer) if matrix.name not in adapted) / shape.layer_parameters(layer)
    named_as_experts = shape.dense_layers and family_named(shape.model_type).dense_named_as_experts
    dense = " The feed-forward matrices of the dense layers stay frozen too." if named_as_experts else ""
    return f"Adapters are on {listed(adapted, 'and')}; the router and the experts, {share:.0%} of a layer, stay frozen.{dense}"


def adapter_base(layout: FeasibleLayout) -> str | None:
    """An exported adapter names a base model in a place that peft cannot open."""
    spec = layout.job.spec
    source = spec.model.source or ""
    if spec.peft is None or "adapter" not in spec.output.export or not source.startswith(("s3://", "pvc://")):
        return None
    return (
        f"The adapter will name {source} as its base model, which peft cannot open: load a copy of the base model, then the adapter with "
        "PeftModel.from_pretrained."
    )


def pipeline_bubble(layout: FeasibleLayout) -> str | None:
    """Too few micro-batches to fill the pipeline."""
    mesh, bubble = layout.mesh, layout.throughput.bubble if layout.throughput else 0.0
    if bubble <= MOST_BUBBLE:
        return None
    count = layout.batch.accumulation
    return (
        f"The pipeline bubble is {bubble:.0%} of each step: {count} micro-batches for {mesh.pp} stages. "
        f"{4 * mesh.pp} or more micro-batches (a larger globalBatchSize or a smaller microBatchSize) keep it under {MOST_BUBBLE:.0%}."
    )


def no_checkpoint(layout: FeasibleLayout) -> str | None:
    if layout.job.spec.checkpoint:
        return None
    return "spec.checkpoint is not set: after a failure the job restarts from step 0."


def tensor_across_nodes(layout: FeasibleLayout) -> str | None:
    across, groups = crossing(layout.mesh).get("tp", (0, 0))
    return f"{across} of {groups} tensor groups cross nodes: every layer's all-reduce runs over the slower network." if across else None


def context_across_nodes(layout: FeasibleLayout) -> str | None:
    across, groups = crossing(layout.mesh).get("cp", (0, 0))
    return f"{across} of {groups} context groups cross nodes: every layer's all-to-all of heads crosses them too." if across else None


def experts_across_nodes(layout: FeasibleLayout) -> str | None:
    across, groups = crossing(layout.mesh).get("ep", (0, 0))
    return f"{across} of {groups} expert groups cross nodes: every layer's all-to-all of tokens crosses them too." if across else None


def gathered_experts(layout: FeasibleLayout) -> str | None:
    """With sharded weights every rank all-gathers all experts, though a token uses only a few of them."""
    mesh, shape = layout.mesh, layout.shape
    if not ENGINES[layout.engine].gathers_experts or shape is None or not shape.experts or mesh.ep > 1 or mesh.zero_stage < 3:
        return None
    degree = max(d for d in divisors(shape.experts // mesh.tp) if mesh.dp * mesh.cp % d == 0)
    if degree == 1:
        return None
    each = shape.experts // mesh.tp
    return (
        f"Each pass all-gathers {each} experts per layer on every rank; expert: {degree} keeps experts on their ranks and sends tokens to "
        "them instead."
    )


def host_memory(layout: FeasibleLayout) -> str | None:
    """Only if resources.memory is not set; otherwise deepspeed.py checks it."""
    if layout.gpu is None or layout.shape is None or layout.job.spec.resources.memory:
        return None
    needed = offloaded_bytes(layout.job, layout.shape)
    if not needed:
        return None
    return (
        f"Offload keeps {size(needed)} in the host memory of each node; spec.resources.memory is not set, so this is not checked "
        "against a limit."
    )


def tensor_without_link(layout: FeasibleLayout) -> str | None:
    """A tensor-parallel group larger than the NVLink domain sends activations over PCIe."""
    gpu, tp = layout.gpu, layout.mesh.tp
    if gpu is None or tp <= gpu.domain:
        return None
    speed = gpu.link_bytes_per_second / 1e9
    return (
        f"tensor {tp} on {gpu.name} sends every layer's activations over PCIe ({speed:.0f} GB/s); zeroStage 3 or pipeline parallelism is "
        "usually faster."
    )


def fp32_on_gpu(layout: FeasibleLayout) -> str | None:
    gpu = layout.gpu
    if gpu is None or gpu.bf16_flops is None or layout.job.spec.training.precision == "bf16":
        return None
    return f"In fp32 {gpu.name} reaches {gpu.fp32_flops / gpu.bf16_flops:.0%} of its bf16 FLOPS."


def other_name(layout: FeasibleLayout) -> str | None:
    """A destination is a directory: parts of its URI that name none are ignored, and the advice says so."""
    odd = [(found, place(found.uri)) for found in uris(layout.job.spec) if found.written]
    said = [f"{found.field} {found.uri} means {there}" for found, there in odd if there not in (found.uri, found.uri.rstrip("/"))]
    return f"{'; '.join(said)}: case, empty and dot segments, and everything after ? or # are ignored." if said else None


def moving_branch(layout: FeasibleLayout) -> str | None:
    model = layout.job.spec.model
    if not (model.source or "").startswith("hf://") or model.revision:
        return None
    return "spec.model.revision is not set: the branch can change between two attempts. Pin a commit."


def longer_than_trained(layout: FeasibleLayout) -> str | None:
    """Sequences longer than the positions that RoPE was trained on."""
    shape, length = layout.shape, layout.job.spec.training.sequence_length
    if shape is None or not shape.max_positions or shape.learned_positions or length <= shape.max_positions:
        return None
    return (
        f"sequenceLength {length} exceeds the model's {shape.max_positions} positions: RoPE runs beyond its trained range; expect degraded "
        "quality."
    )


def uneven_stages(layout: FeasibleLayout) -> str | None:
    sizes = {last - first for first, last in layout.mesh.stages}
    if len(sizes) == 1:
        return None
    return f"The pipeline stages hold {min(sizes)} to {max(sizes)} layers; the smaller stages wait for the larger ones."


def odd_vocabulary(layout: FeasibleLayout) -> str | None:
    """A vocabulary shard whose size is no multiple of 8 leaves matrix units of GPUs idle."""
    shape = layout.shape
    if (
        layout.gpu is None
        or shape is None
        or (shape.vocab // shape.vocabulary_parts(layout.mesh.tp)) % 8 == 0
        or layout.job.spec.model.source
    ):
        return None
    return f"The vocabulary of {shape.vocab} is not a multiple of {8 * layout.mesh.tp}, with which the GPU's matrix units are fastest."


def whole_vocabulary(layout: FeasibleLayout) -> str | None:
    tp, shape = layout.mesh.tp, layout.shape
    if shape is None or shape.vocabulary_parts(tp) == tp:
        return None
    return f"tensor {tp} does not divide the vocabulary of {shape.vocab}: every tensor rank holds the full embedding and LM head."


def trained_on_validation(layout: FeasibleLayout) -> str | None:
    """A dataset, or a slice of one, is both trained on and evaluated."""
    spec = layout.job.spec
    evaluated = spec.evaluation.dataset if spec.evaluation else ()
    found = {each.source: [overlap(dataset, each) for dataset in spec.dataset] for each in evaluated}
    if both := [source for source, shared in found.items() if True in shared]:
        return f"{listed(both, 'and')} is both trained on and evaluated: its loss tells nothing of other data."
    if may := [source for source, shared in found.items() if None in shared]:
        return (
            f"Rows of {listed(may, 'and')} may be both trained on and evaluated: the plan does not know which rows there are. "
            "Slices of one source, both in percent or both in row numbers, show that they do not overlap."
        )
    return None


def dequantized(layout: FeasibleLayout) -> str | None:
    """Weights that are stored quantized are dequantized for training and export."""
    model, found = layout.job.spec.model, layout.shape and layout.shape.traits.quantized
    if not found:
        return None
    if model.config is not None or model.init == "random":
        return f"config.json names weights stored as {found.method}; random weights are not quantized, neither here nor in the export."
    return f"The weights are stored as {found.method}: they are dequantized when they are read, and trained and exported unquantized."


def unread_keys(layout: FeasibleLayout) -> str | None:
    config = layout.job.spec.model.config
    if config is None or layout.shape is None or not (found := unread(config)):
        return None
    return f"spec.model.config has keys that no model of type {layout.shape.model_type} reads: {listed(found, 'and')}."


def weight_of_one(layout: FeasibleLayout) -> str | None:
    datasets = layout.job.spec.dataset
    if len(datasets) > 1 or datasets[0].weight == 1:
        return None
    return f"spec.dataset[0].weight {datasets[0].weight:g} has no effect: there is one dataset. maxSamples limits what is read of it."


def mixing_of_one(layout: FeasibleLayout) -> str | None:
    spec = layout.job.spec
    set_ = [name for name, value in (("mixing", spec.mixing), ("curriculum", spec.curriculum)) if value]
    if len(spec.dataset) > 1 or not set_:
        return None
    return f"spec.{listed(set_, 'and spec.')} {'has' if len(set_) == 1 else 'have'} no effect: there is one dataset."


def stream_of_documents(layout: FeasibleLayout) -> str | None:
    """A setting of tasks whose samples are apart, beside one that knows no samples."""
    spec = layout.job.spec
    if spec.training.packing or TASKS[spec.task].packs or TASKS[spec.task].labels:
        return None
    return (
        f"spec.training.packing false has no effect: task {spec.task} writes documents one after another and splits them where a sequence "
        "ends. task: sft with format text trains each document in a sequence of its own."
    )


def epochs_of_mixing(layout: FeasibleLayout) -> str | None:
    spec = layout.job.spec
    if spec.mixing is None or len(spec.dataset) == 1:
        return None
    return f"mixing {spec.mixing}: {MEANINGS[spec.mixing]}. Preparation says how many samples that is."


def stages_never_reached(layout: FeasibleLayout) -> str | None:
    spec, last = layout.job.spec, layout.job.spec.training.max_steps
    late = next((i for i, stage in enumerate(spec.curriculum) if last is not None and stage.from_step > last), None)
    if late is None:
        return None
    return f"spec.curriculum[{late}] begins at step {spec.curriculum[late].from_step} and is never reached: training.maxSteps is {last}."


def balanced_experts(layout: FeasibleLayout) -> str | None:
    """The router loss is trained, but is no part of the reported loss."""
    shape = layout.shape
    if shape is None or not shape.experts or not shape.traits.router_loss:
        return None
    return (
        f"The router loss balances the experts, as config.json asks (router_aux_loss_coef {shape.traits.router_loss:g}); "
        "the reported loss is the cross-entropy without it."
    )


ADVICE: tuple[Advice, ...] = (
    tokens_to_pretrain,
    samples_to_fine_tune,
    another_kernel,
    labels_of_data,
    adapters_for_little_data,
    frozen_experts,
    adapter_base,
    no_checkpoint,
    trained_on_validation,
    other_name,
    moving_branch,
    pipeline_bubble,
    uneven_stages,
    tensor_across_nodes,
    context_across_nodes,
    experts_across_nodes,
    gathered_experts,
    host_memory,
    tensor_without_link,
    fp32_on_gpu,
    longer_than_trained,
    odd_vocabulary,
    whole_vocabulary,
    dequantized,
    unread_keys,
    weight_of_one,
    mixing_of_one,
    stream_of_documents,
    epochs_of_mixing,
    stages_never_reached,
    balanced_experts,
)


def advice_on(layout: FeasibleLayout) -> tuple[str, ...]:
    return tuple(sentence for advise in ADVICE if (sentence := advise(layout)))
