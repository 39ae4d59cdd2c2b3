"""What an engine refuses when ranks start, the plan or preparation has refused before."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from llmtrain_operator.manifest.parse import parse_manifest
from llmtrain_operator.manifest.problem import PlanError
from llmtrain_operator.manifest.rules.registry import RULES
from llmtrain_operator.plan.checks.layout_checks import REFUSALS
from llmtrain_operator.plan.engines.registry import ENGINES
from llmtrain_operator.plan.model.families import shape_of
from llmtrain_operator.plan.plan import plan
from llmtrain_operator.plan.trainer_config import trainer_config
from llmtrain_trainer.config import TrainerConfig
from llmtrain_trainer.config.tables.families import trained_by

pytestmark = pytest.mark.long

TRAINER = Path(__file__).parents[2] / "trainer_image" / "llmtrain_trainer"
SCANNED = ("engines", "model", "objectives")

PLAN = {
    "engines/megatron/groups.py: device is cpu, but Megatron-core runs on": "on_gpus",
    "engines/megatron/settings.py: model_type": "family",
    "engines/megatron/settings.py: model.vocab_size": "vocabulary",
    "engines/megatron/settings.py: model.{}": "tensor_divides",  # heads over tensor; over context: heads_over_context; and biases
    "engines/megatron/settings.py: mesh.ep": "expert_divides",
    "engines/megatron/settings.py: model.rope_parameters": "rotary",
    "engines/megatron/settings.py: model.sliding_window": "window",
    "engines/megatron/settings.py: model.hidden_act": "activation",
    "engines/megatron/settings.py: model.router_jitter_noise": "router_jitter",
    "engines/megatron/settings.py: model.output_router_logits": "router_loss",
    "engines/megatron/settings.py: model.mlp_only_layers": "mixed_layers",
    "engines/megatron/settings.py: peft.method": "adapter_engine",
    "engines/megatron/settings.py: mesh.zeroStage": "zero_stage",
    "engines/megatron/settings.py: mesh.schedule": "schedule",
    "engines/megatron/settings.py: training.compile": "compiled",
    "engines/megatron/settings.py: model.attention": "attention",
    "engines/megatron/settings.py: training.sequenceLength": "sequence_divides",
    "engines/deepspeed/place.py: mesh.{} is {}, but engine deepspeed has": "context",  # and expert
    "engines/deepspeed/place.py: mesh.stages has {} ranges for": "pipeline_schedule",
    "engines/deepspeed/settings.py: parallelism.deepspeed holds {}, which": "raw_keys",
    "engines/accelerate/launcher.py: mesh {} is not {} replicas,": "replicas_alone",
    "engines/native/experts.py: mesh.ep is {}, but model_type": "expert_divides",
    "engines/native/experts.py: the model has {} experts, which": "experts_over_tensor",
    "engines/native/mesh.py: mesh.ep is {}, but it must": "expert_divides",
    "engines/native/tensor.py: model_type {} has no tensor-parallel plan: set": "tensor_plan",
    "engines/native/tensor.py: model_type {} splits {} as {}, which": "family",
    "engines/native/tensor.py: model.{} is {}, which tensor {}": "tensor_divides",
    "engines/native/context.py: model.attention is {}, but sequences are": "attention_in_parts",
    "engines/native/context.py: model.num_attention_heads is {}, but context x": "heads_over_context",
    "engines/native/context.py: model_type {} has none of {}": "family",
    "model/stage.py: model_type {} has no split into": "family",
    "model/stage.py: model_type {} keeps its layers in": "family",
}
"""Where and how a message begins -> the refusal of the plan that comes before it."""

RULE = {
    "engines/native/pipeline.py: mesh.schedule is {}, but there are": "spec.parallelism schedule",
    "engines/native/pipeline.py: mesh.schedule is interleaved, but there is": "spec.parallelism virtualStages",
    "model/export.py: output.export is {}, but a run": "spec output.export",
}
"""Rules of single sections, which validate and the API server ask."""

PREPARATION = (
    "model/generation.py: {} is {}, which is no token id",
    "engines/deepspeed/engine.py: parallelism.offload: nvme reads and writes by",
    "model/materialize.py: weight {} has shape {} in",
    "model/weight_files.py: ",
    "model/pretrained.py: ",
    "model/dequantize.py: ",
    "model/stored_matrix.py: ",
)
"""What files show, or what is installed."""

VALUES = ("model/adapters/dora.py: spec.peft.method is dora: {} of {} rows of {}.weight are",)
"""What the values of weights show: ranks alone read all of them, and no plan or preparation says it before."""

OTHER = {
    "engines/__init__.py: task is {}, whose loss compares": "no task of the schema has a second model",
    "engines/megatron/steps.py: task is {}, but engine megatron": "the loss of every task of the schema is cross entropy",
    "engines/megatron/settings.py: ": "all of the above in one",
    "engines/megatron/groups.py: mesh pp {} x dp {}": "the agent starts as many ranks as the mesh has",
    "engines/deepspeed/place.py: mesh pp {} x dp {}": "the same",
    "engines/native/mesh.py: mesh {} needs {} ranks, but": "the same",
    "engines/native/mesh.py: mesh.stages has {} ranges, but pp": "the plan makes the stages",
    "model/stage.py: mesh.stages is {}, but it must": "the plan makes the stages",
    "engines/micro.py: a batch of {} rows is": "the plan makes the batches",
    "engines/native/pipeline.py: a batch of {} rows is": "the plan makes the batches",
    "objectives/cross_entropy.py: the loss was differentiated twice, but": "a mistake of ours",
    "model/materialize.py: adapter {} of {} is not": "a conversion's adapter",
    "engines/open_checkpoint.py: ": "a checkpoint's",
    **dict.fromkeys([f"engines/deepspeed/{file}.py: " for file in ("optimizer_state", "files")], "a checkpoint's"),
    **dict.fromkeys([f"engines/megatron/{file}.py: " for file in ("checkpoint", "files")], "a checkpoint's"),
}
"""Nothing that a manifest could bring about."""


def refused_at_start() -> Iterator[str]:
    """File and first words of every message that engines raise."""
    for part in SCANNED:
        for file in sorted((TRAINER / part).rglob("*.py")) if (TRAINER / part).is_dir() else [TRAINER / part]:
            for node in ast.walk(ast.parse(file.read_text())):
                call = node.exc if isinstance(node, ast.Raise) else node
                if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and _refuses(node, call.func.id):
                    yield f"{file.relative_to(TRAINER)}: {_words(call.args[0]) if call.args else ''}"


def _refuses(node: ast.AST, name: str) -> bool:
    return name == "_problem" or (isinstance(node, ast.Raise) and name.endswith(("Error", "BadData")))


def _words(message: ast.expr) -> str:
    """The first ten words of a message, with {} for what is put in."""
    parts = message.values if isinstance(message, ast.JoinedStr) else [message]
    text = "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in parts)
    return " ".join(text.split()[:10]) if text != "{}" else ""


def test_every_refusal_at_start_has_one_before_it() -> None:
    tables = (*PLAN, *RULE, *PREPARATION, *VALUES, *OTHER)
    found = sorted(set(refused_at_start()))
    unknown = [message for message in found if not any(message.startswith(known) for known in tables)]
    assert not unknown, "refuse it in the plan or in preparation, and say here where"
    assert not [known for known in tables if not any(message.startswith(known) for message in found)], "no engine says this any more"


def test_the_refusals_named_here_exist() -> None:
    limits = (limit for traits in ENGINES.values() for limit in traits.limits)
    names = {refusal.__name__ for refusal in (*REFUSALS, *limits)}
    assert set(PLAN.values()) <= names
    rules = {f"{rule.at} {rule.field}" for rule in RULES}
    assert set(RULE.values()) <= rules


SMALL: dict[str, Any] = {
    "vocab_size": 512,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 32,
}
EXPERTS = {"mixtral": "num_local_experts", "qwen2_moe": "num_experts", "qwen3_moe": "num_experts"}
FAMILIES = trained_by("deepspeed")
ODD: tuple[dict[str, Any], ...] = (
    {},
    {},
    {"vocab_size": 513},
    {"num_key_value_heads": 1},
    {"num_attention_heads": 6, "num_key_value_heads": 3, "hidden_size": 48},
    {"intermediate_size": 97},
    {"moe_intermediate_size": 33},
    {"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}},
    {"rope_scaling": {"type": "linear", "factor": 2.0}},
    {"partial_rotary_factor": 0.5},
    {"sliding_window": 16},
    {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 2},
    {"hidden_act": "gelu"},
    {"attention_bias": True},
    {"mlp_bias": True},
    {"attention_bias": True, "mlp_bias": True},
    {"output_router_logits": True},
    {"router_jitter_noise": 0.1},
    {"mlp_only_layers": [0]},
    {"decoder_sparse_step": 2},
    {"tie_word_embeddings": True},
)


@st.composite
def jobs(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, Any]]:
    """A config.json, and sections of a spec."""
    family = draw(st.sampled_from(FAMILIES))
    config = {"model_type": family} | SMALL | draw(st.sampled_from(ODD))
    if family in EXPERTS:
        config |= {EXPERTS[family]: draw(st.sampled_from([4, 6]))}
    if family == "gpt2":
        config = {"model_type": "gpt2", "n_embd": 64, "n_layer": 4, "n_head": 8, "n_positions": 128, "vocab_size": config["vocab_size"]}
    degree = st.sampled_from([1, 1, 2, 4])
    parallelism = {
        "engine": draw(st.sampled_from(["native", "deepspeed", "megatron"])),
        **{name: draw(degree) for name in ("tensor", "pipeline", "context", "expert")},
        "virtualStages": draw(st.sampled_from([1, 1, 2])),
    }
    if draw(st.booleans()):
        parallelism["zeroStage"] = draw(st.sampled_from([0, 1, 2, 3]))
    if parallelism["virtualStages"] == 1 and draw(st.booleans()):
        parallelism["schedule"] = draw(st.sampled_from(["1f1b", "gpipe"]))
    sections: dict[str, Any] = {
        "parallelism": parallelism,
        "training": {
            "globalBatchSize": 32,
            "microBatchSize": 1,
            "sequenceLength": draw(st.sampled_from([32, 36])),
            "maxSteps": 5,
            "precision": draw(st.sampled_from(["fp32", "bf16"])),
            "compile": draw(st.sampled_from([False, False, True])),
        },
    }
    if draw(st.booleans()):
        sections["peft"] = {"method": draw(st.sampled_from(["lora", "rslora"])), "rank": 4}
    return config, sections


def accepted(config: dict[str, Any], sections: dict[str, Any]) -> TrainerConfig | None:
    """What pods would be told; None where the plan refuses."""
    spec = {
        "model": {"config": config},
        "tokenizer": {"source": "file:///models/tokenizer"},
        "dataset": [{"source": "file:///data/corpus.jsonl"}],
        "resources": {"nodes": 1, "gpusPerNode": 8, "gpu": "H100-80GB"},
    } | sections
    document = {"apiVersion": "llmtrain.io/v1alpha1", "kind": "LLMTrainJob", "metadata": {"name": "job"}, "spec": spec}
    try:
        job = parse_manifest(yaml.safe_dump(document))
        return trainer_config(job, plan(job, shape_of(config)), 1)
    except (PlanError, ValueError):
        return None


@settings(max_examples=400, derandomize=True)
@given(jobs())
def test_no_engine_refuses_at_start_what_the_plan_accepts(drawn: tuple[dict[str, Any], dict[str, Any]]) -> None:
    config, sections = drawn
    told = accepted(config, sections)
    if told is not None:
        start(config, told)


def start(config: dict[str, Any], told: TrainerConfig) -> None:
    """What engines ask of the model and the mesh before they build: raises what they would raise."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    shape, mesh = AutoConfig.for_model(**config), told.mesh
    if told.engine == "megatron":
        from llmtrain_trainer.engines.megatron.settings import problems_of

        assert list(problems_of(shape, told)) == []
        return
    from llmtrain_trainer.engines.deepspeed.settings import settings_of
    from llmtrain_trainer.engines.native import context, experts, tensor
    from llmtrain_trainer.model import stage

    with torch.device("meta"):
        network = AutoModelForCausalLM.from_config(shape)
    layout: Any = SimpleNamespace(tp=mesh.tp, cp=mesh.cp, ep=mesh.ep)
    stage.parts_of(network, len(mesh.stages))
    if mesh.tp > 1:
        tensor.check(shape, mesh.tp)
        tensor.styles(network, mesh.tp)
    if told.engine == "native":
        experts.check(shape, layout)
        if mesh.cp > 1:
            context.check(shape, told.model.attention, layout)
    else:
        assert mesh.cp == mesh.ep == 1 and len(mesh.stages) == mesh.pp
        settings_of(told)


@pytest.mark.parametrize("engine", ["native", "deepspeed", "megatron"])
def test_the_property_is_not_empty(engine: str) -> None:
    sections = {"parallelism": {"engine": engine, "tensor": 2, "pipeline": 2}, "training": TRAINING}
    told = accepted({"model_type": "llama"} | SMALL, sections)
    assert told is not None and told.engine == engine
    start({"model_type": "llama"} | SMALL, told)


TRAINING = {"globalBatchSize": 32, "microBatchSize": 1, "sequenceLength": 32, "maxSteps": 5, "precision": "bf16"}
