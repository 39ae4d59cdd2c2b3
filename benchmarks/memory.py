"""Estimated memory against the measured peak: `make memory` writes out/memory.json, with --page the table of docs/memory.md too.

Each row plans a manifest and trains two steps of it in real ranks, twice. Once as a job would: the whole estimate is held against the
largest resident set of any rank. Once with torch telling of every tensor: the estimate's tensors are held against the largest sum of
tensors alive on any rank, which is what the formulas are about. What lies between is of the process: see docs/memory.md. Engine megatron
runs the second time only, with the tests' stand-in for CUDA.
"""

from __future__ import annotations

import argparse
import json
from itertools import accumulate
from pathlib import Path
from typing import Any

import yaml

from llmtrain_operator.manifest.parse import parse_manifest
from llmtrain_operator.plan.model.families import shape_of
from llmtrain_operator.plan.plan import plan
from llmtrain_operator.plan.trainer_config import trainer_config
from llmtrain_trainer.config import TrainerConfig
from llmtrain_trainer.convert.launch import launch, load_script

PAGE = Path(__file__).parents[1] / "docs" / "memory.md"
PROCESS = ("process", "heap", "CUDA context", "communicators")
"""Terms of the estimate that stand for no tensor."""

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 8192,
    "hidden_size": 768,
    "intermediate_size": 2048,
    "num_hidden_layers": 8,
    "num_attention_heads": 12,
    "num_key_value_heads": 4,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": False,
}
MIXTRAL = LLAMA | {
    "model_type": "mixtral",
    "architectures": ["MixtralForCausalLM"],
    "intermediate_size": 1024,
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
    "num_hidden_layers": 4,
}
TRAINING = {"globalBatchSize": 4, "microBatchSize": 2, "sequenceLength": 512, "maxSteps": 2, "precision": "fp32"}
SMALL_BUCKET = {"zero_optimization": {"reduce_bucket_size": 10_000_000}}
"""In proportion to a small model; a whole one would count as 2 GB of tensors, though a CPU gives pages to the written part only."""

CASES: dict[str, dict[str, Any]] = {
    "one process": {},
    "one process, bf16": {"training": {"precision": "bf16"}},
    "one process, recomputed": {"training": {"activationCheckpointing": "full"}},
    "one process, LoRA": {"peft": {"method": "lora", "rank": 16}},
    "one process, LoRA, bf16": {"peft": {"method": "lora", "rank": 16}, "training": {"precision": "bf16"}},
    "dp 2, LoRA, bf16": {
        "procs": 2,
        "parallelism": {"data": 2},
        "peft": {"method": "lora", "rank": 16},
        "training": {"precision": "bf16"},
    },
    "one process, long sequence": {"training": {"sequenceLength": 2048, "microBatchSize": 1, "globalBatchSize": 1}},
    "dp 2, FSDP2": {"procs": 2, "parallelism": {"data": 2}},
    "dp 2, FSDP2, two micro-batches": {"procs": 2, "parallelism": {"data": 2}, "training": {"globalBatchSize": 8}},
    "dp 2, replicated": {"procs": 2, "parallelism": {"data": 2, "zeroStage": 0}},
    "dp 2, replicated, two micro-batches": {
        "procs": 2,
        "parallelism": {"data": 2, "zeroStage": 0},
        "training": {"globalBatchSize": 8},
    },
    "tp 2": {"procs": 2, "parallelism": {"tensor": 2}},
    "cp 2": {"procs": 2, "parallelism": {"context": 2}},
    "cp 2, long sequence": {
        "procs": 2,
        "parallelism": {"context": 2},
        "training": {"sequenceLength": 2048, "microBatchSize": 1, "globalBatchSize": 1},
    },
    "mixture, one process": {"model": MIXTRAL},
    "mixture, tp 2": {"model": MIXTRAL, "procs": 2, "parallelism": {"tensor": 2}},
    "mixture, dp 2": {"model": MIXTRAL, "procs": 2, "parallelism": {"data": 2}},
    "mixture, dp 2, ep 2": {"model": MIXTRAL, "procs": 2, "parallelism": {"data": 2, "expert": 2}},
    "mixture, dp 2, replicated, ep 2": {"model": MIXTRAL, "procs": 2, "parallelism": {"data": 2, "expert": 2, "zeroStage": 0}},
    "pp 2, 1F1B": {"procs": 2, "parallelism": {"pipeline": 2}},
    "pp 2, 1F1B, four micro-batches": {"procs": 2, "parallelism": {"pipeline": 2}, "training": {"globalBatchSize": 8}},
    "pp 2 x dp 2, four micro-batches": {"procs": 4, "parallelism": {"pipeline": 2, "data": 2}, "training": {"globalBatchSize": 16}},
    "pp 2 x tp 2": {"procs": 4, "parallelism": {"pipeline": 2, "tensor": 2}},
    **{
        f"deepspeed, {name}": {"procs": 2, "parallelism": {"engine": "deepspeed", **parallelism, "deepspeed": SMALL_BUCKET}}
        for name, parallelism in {
            "dp 2, ZeRO-1": {"zeroStage": 1},
            "dp 2, ZeRO-2": {"zeroStage": 2},
            "dp 2, ZeRO-3": {"zeroStage": 3},
            "dp 2, ZeRO-3, offload": {"zeroStage": 3, "offload": {"optimizer": "cpu", "parameters": "cpu"}},
            "tp 2, ZeRO-1": {"tensor": 2, "zeroStage": 1},
            "pp 2, ZeRO-1": {"pipeline": 2, "zeroStage": 1},
        }.items()
    },
    **{
        f"megatron, {name}": case | {"parallelism": {"engine": "megatron"} | case.get("parallelism", {})}
        for name, case in {
            "one process": {},
            "one process, bf16": {"training": {"precision": "bf16"}},
            "one process, recomputed": {"training": {"activationCheckpointing": "full"}},
            "dp 2, ZeRO-1": {"procs": 2, "parallelism": {"data": 2, "zeroStage": 1}},
            "tp 2": {"procs": 2, "parallelism": {"tensor": 2}},
            "pp 2, 1F1B": {"procs": 2, "parallelism": {"pipeline": 2}},
            "mixture, one process": {"model": MIXTRAL},
        }.items()
    },
    "dp 2 x tp 2, LoRA, recomputed": {
        "procs": 4,
        "parallelism": {"data": 2, "tensor": 2},
        "peft": {"method": "lora", "rank": 16},
        "training": {"activationCheckpointing": "full"},
    },
}


def manifest(case: dict[str, Any]) -> str:
    """The manifest of a case as YAML. Engine megatron is planned for GPUs: there is no other plan of it."""
    procs = case.get("procs", 1)
    spec = {
        "model": {"config": case.get("model", LLAMA)},
        "tokenizer": {"source": "file:///none"},
        "dataset": [{"source": "file:///none"}],
        "training": TRAINING | case.get("training", {}),
        "parallelism": case.get("parallelism", {}),
        "resources": {"gpusPerNode": procs, "gpu": "A100-80GB"} if megatron(case) else {"procsPerNode": procs},
    }
    if "peft" in case:
        spec["peft"] = case["peft"]
    head = {"apiVersion": "llmtrain.io/v1alpha1", "kind": "LLMTrainJob", "metadata": {"name": "memory"}}
    return yaml.safe_dump(head | {"spec": spec})


def megatron(case: dict[str, Any]) -> bool:
    """Whether the case runs with the stand-in for CUDA: its tensors are real, and its resident set says nothing of a GPU."""
    return bool(case.get("parallelism", {}).get("engine") == "megatron")


def row(name: str, case: dict[str, Any]) -> dict[str, Any]:
    """Estimate and measure one case."""
    job = parse_manifest(manifest(case))
    planned = plan(job, shape_of(job.spec.model.config or {}))
    assert planned.memory is not None
    config = trainer_config(job, planned, attempt=0).model_copy(update={"device": "cpu"})
    text, world = config.model_dump_json(), config.mesh.world_size
    resident = None if megatron(case) else max(launch(Path(__file__), "train", world, text, timeout=400))
    alive = max(launch(Path(__file__), "tensors", world, text, timeout=400))
    terms = {term.name: term.bytes for term in planned.memory.terms}
    estimated = sum(size for term, size in terms.items() if term not in PROCESS)
    return {
        "case": name,
        "mesh": {axis: getattr(config.mesh, axis) for axis in ("pp", "dp", "cp", "tp", "ep")},
        "estimated_bytes": planned.memory.peak if resident else None,
        "measured_bytes": resident,
        "estimated_over_measured": planned.memory.peak / resident if resident else None,
        "estimated_tensor_bytes": estimated,
        "measured_tensor_bytes": alive,
        "tensors_estimated_over_measured": estimated / alive,
        "terms": terms,
    }


def train(config_text: str) -> list[int]:
    """On every rank: two steps; the peaks of all ranks in bytes."""
    import torch

    from llmtrain_trainer.data.step_batch import StepBatch

    config = TrainerConfig.model_validate_json(config_text)
    length, rows = config.training.sequence_length, config.batch.micro_size * config.batch.accumulation
    engine = load_script(Path(__file__).with_name("building.py")).engine_of(config)
    positions = torch.arange(length).repeat(rows, 1)
    for step in (1, 2):
        ids = torch.randint(0, LLAMA["vocab_size"], (rows, length + 1))
        columns = {"input_ids": ids[:, :-1], "labels": ids[:, 1:], "position_ids": positions}
        batch = StepBatch(columns=columns, packed=False, target_tokens=config.batch.global_size * length)
        engine.train_step(batch, learning_rate=1e-3, step=step, stop=False)
    return of_all_ranks(engine.memory_bytes())


def tensors(config_text: str) -> list[int]:
    """On every rank: the same steps; the largest sums of tensors alive at once, in bytes."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watch:
        train(config_text)
    events = [event for event in watch.profiler.kineto_results.events() if event.name() == "[memory]"]
    events.sort(key=lambda event: event.start_ns())
    return of_all_ranks(max(accumulate(event.nbytes() for event in events)))


def of_all_ranks(value: int) -> list[int]:
    import torch.distributed as dist

    values: list[int] = [0] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def table(rows: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Head and lines of the table of docs/memory.md, in MiB."""
    head = ["case", "tensors: estimated", "measured", "ratio", "whole: estimated", "measured", "ratio"]
    kinds = (
        ("estimated_tensor_bytes", "measured_tensor_bytes", "tensors_estimated_over_measured"),
        ("estimated_bytes", "measured_bytes", "estimated_over_measured"),
    )
    return head, [[row["case"]] + [part for kind in kinds for part in figures(*(row[key] for key in kind))] for row in rows]


def figures(estimated: int | None, measured: int | None, ratio: float | None) -> tuple[str, str, str]:
    """Three columns; dashes where nothing was measured."""
    if estimated is None or measured is None or ratio is None:
        return ("-", "-", "-")
    return (mib(estimated), mib(measured), f"{ratio:.2f}")


def in_order(found: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    return [found[name] for name in CASES if name in found]


def mib(size: int) -> str:
    return f"{size / 2**20:.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/memory.json"))
    parser.add_argument("--case", action="append", help="only these; all when left out")
    parser.add_argument("--add", action="store_true", help="keep the rows in --out that this run does not measure")
    parser.add_argument("--page", action="store_true", help="write the table of docs/memory.md anew from --out")
    arguments = parser.parse_args()
    found = {entry["case"]: entry for entry in (json.loads(arguments.out.read_text()) if arguments.add else ())}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    for name, case in CASES.items():
        if arguments.case and name not in arguments.case:
            continue
        found[name] = row(name, case)
        head, (line,) = table([found[name]])
        print("  ".join(f"{title} {value}" for title, value in zip(head[1:], line[1:], strict=True)), name, sep="  ", flush=True)
        arguments.out.write_text(json.dumps(in_order(found), indent=2))
    if arguments.page:
        load_script(Path(__file__).with_name("page_tables.py")).fill(PAGE, "all", *table(in_order(found)))
    print(f"wrote {arguments.out}")


if __name__ == "__main__":
    main()
