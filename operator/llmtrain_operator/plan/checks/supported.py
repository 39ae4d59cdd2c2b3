"""What this version can train, and refusals of everything else that a manifest can ask for. layout_checks.py runs them first."""

from __future__ import annotations

from llmtrain_operator.manifest.divisors import listed
from llmtrain_operator.manifest.problem import Problem
from llmtrain_operator.plan.layout.request import LayoutRequest, Refusal
from llmtrain_operator.plan.model.families import untrained
from llmtrain_trainer.config.tables.engines import ENGINES_OF_OTHER_FAMILIES
from llmtrain_trainer.config.tables.families import TRAINED
from llmtrain_trainer.config.tables.other_families import OTHER_FAMILIES
from llmtrain_trainer.config.tables.tasks import TASKS


def quantized_weights(request: LayoutRequest) -> Problem | None:
    """Quantized weights cannot be read without their scales."""
    model, found = request.job.spec.model, request.shape and request.shape.traits.quantized
    if not found or found.readable or model.source is None or model.init == "random":
        return None
    return Problem("spec.model.source", model.source, *found.refusal)


def family(request: LayoutRequest) -> Problem | None:
    """Families with a row, or those without one where the engine needs none."""
    if not request.shape or request.shape.model_type in TRAINED:
        return None
    source = request.job.spec.model.source
    if request.shape.model_type in OTHER_FAMILIES:
        if request.degrees.engine in ENGINES_OF_OTHER_FAMILIES:
            return None
        engines = listed(ENGINES_OF_OTHER_FAMILIES)
        rule = f"its model_type is {request.shape.model_type}, which engine {engines} alone trains"
        return Problem("spec.model", source or request.shape.model_type, rule, f"Use engine {engines}")
    return untrained(request.shape.model_type, "spec.model.config" if source is None else f"spec.model.source {source}: config.json")


def flash_attention(request: LayoutRequest) -> Problem | None:
    if request.job.spec.model.attention != "flash" or request.job.spec.resources.gpus_per_node:
        return None
    return Problem("spec.model.attention", "flash", "flash attention runs on GPUs only", "Use sdpa, or set resources.gpusPerNode")


def bf16(request: LayoutRequest) -> Problem | None:
    """bf16 needs a GPU with bfloat16 units."""
    gpu, precision = request.gpu, request.job.spec.training.precision
    if precision != "bf16" or gpu is None or gpu.bf16_flops is not None:
        return None
    return Problem(
        "spec.training.precision", precision, f"{gpu.name} has no bfloat16 units", "Use fp32, or a GPU of the Ampere generation or later"
    )


def engine_trains_task(request: LayoutRequest) -> Problem | None:
    engine, task = request.degrees.engine, request.job.spec.task
    if engine in TASKS[task].engines:
        return None
    rule = f"engine {engine} does not train task {task}"
    return Problem("spec.parallelism.engine", engine, rule, f"Write engine: {listed(TASKS[task].engines)}, or leave engine out")


def family_trains_task(request: LayoutRequest) -> Problem | None:
    """transformers must have a model of this family with the task's head."""
    task = request.job.spec.task
    if request.shape is None or request.shape.model_type not in TASKS[task].not_of:
        return None
    others = [name for name, traits in TASKS.items() if request.shape.model_type not in traits.not_of]
    rule = f"transformers has no model of model_type {request.shape.model_type} with a head for it"
    return Problem("spec.task", task, rule, f"Use a model of another family, or one of the tasks {listed(others)}")


def labels_differ(request: LayoutRequest) -> Problem | None:
    labels = request.job.spec.labels
    if not (twice := sorted({label for label in labels if labels.count(label) > 1})):
        return None
    return Problem("spec.labels", ", ".join(twice), "each label may be named once", "Leave out the repeated names")


def labels_of_a_stream(request: LayoutRequest) -> Problem | None:
    spec = request.job.spec
    if spec.labels or not TASKS[spec.task].labels or not any(dataset.streaming for dataset in spec.dataset):
        return None
    rule = "the labels of a streaming dataset are not known before training"
    return Problem("spec.labels", "not set", rule, "Name them, such as labels: [negative, positive], or set streaming to false")


AVAILABLE: tuple[Refusal, ...] = (
    engine_trains_task,
    family_trains_task,
    labels_differ,
    labels_of_a_stream,
    quantized_weights,
    family,
    flash_attention,
    bf16,
)
