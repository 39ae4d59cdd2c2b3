"""Estimated memory against the measured peak: `make memory` writes out/memory.json.

Each row plans a manifest, trains two steps of it in real ranks, and compares the fullest rank's estimate with the largest peak of any
rank: resident set on a CPU.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import yaml

from llmtrain_operator.job.families import shape_of
from llmtrain_operator.job.parse import parse_manifest
from llmtrain_operator.job.plan import plan
from llmtrain_operator.job.trainer_config import trainer_config
from llmtrain_trainer.config import TrainerConfig
from llmtrain_trainer.parallel.launch import launch

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
CASES: dict[str, dict[str, Any]] = {
    "one process": {},
    "one process, bf16": {"training": {"precision": "bf16"}},
    "one process, recomputed": {"training": {"activationCheckpointing": "full"}},
    "one process, LoRA": {"peft": {"method": "lora", "rank": 16}},
    "one process, long sequence": {"training": {"sequenceLength": 2048, "microBatchSize": 1, "globalBatchSize": 1}},
    "dp 2, FSDP2": {"procs": 2, "parallelism": {"data": 2}},
    "dp 2, replicated": {"procs": 2, "parallelism": {"data": 2, "zeroStage": 0}},
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
    "pp 2 x tp 2": {"procs": 4, "parallelism": {"pipeline": 2, "tensor": 2}},
    **{
        f"deepspeed, {name}": {"procs": 2, "parallelism": {"engine": "deepspeed", **parallelism}}
        for name, parallelism in {
            "dp 2, ZeRO-1": {"zeroStage": 1},
            "dp 2, ZeRO-2": {"zeroStage": 2},
            "dp 2, ZeRO-3": {"zeroStage": 3},
            "dp 2, ZeRO-3, offload": {"zeroStage": 3, "offload": {"optimizer": "cpu", "parameters": "cpu"}},
            "tp 2, ZeRO-1": {"tensor": 2, "zeroStage": 1},
            "pp 2, ZeRO-1": {"pipeline": 2, "zeroStage": 1},
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
    """The manifest of a case as YAML."""
    spec = {
        "model": {"config": case.get("model", LLAMA)},
        "tokenizer": {"source": "file:///none"},
        "dataset": [{"source": "file:///none"}],
        "training": TRAINING | case.get("training", {}),
        "parallelism": case.get("parallelism", {}),
        "resources": {"procsPerNode": case.get("procs", 1)},
    }
    if "peft" in case:
        spec["peft"] = case["peft"]
    head = {"apiVersion": "llmtrain.io/v1alpha1", "kind": "LLMTrainJob", "metadata": {"name": "memory"}}
    return yaml.safe_dump(head | {"spec": spec})


def row(name: str, case: dict[str, Any]) -> dict[str, Any]:
    """Estimate and measure one case."""
    job = parse_manifest(manifest(case))
    planned = plan(job, shape_of(job.spec.model.config or {}))
    assert planned.memory is not None
    config = trainer_config(job, planned, attempt=0)
    peaks = launch(Path(__file__), "train", config.mesh.world_size, config.model_dump_json(), timeout=400)
    measured, estimated = max(peaks), planned.memory.peak
    return {
        "case": name,
        "mesh": {axis: getattr(config.mesh, axis) for axis in ("pp", "dp", "cp", "tp", "ep")},
        "estimated_bytes": estimated,
        "measured_bytes": measured,
        "estimated_over_measured": estimated / measured,
        "terms": {term.name: term.bytes for term in planned.memory.terms},
    }


def train(config_text: str) -> list[int]:
    """On every rank: two steps; the peaks of all ranks in bytes."""
    import torch
    import torch.distributed as dist

    from llmtrain_trainer.engines import build_engine
    from llmtrain_trainer.engines.engine import StepBatch

    config = TrainerConfig.model_validate_json(config_text)
    length, rows = config.training.sequence_length, config.batch.micro_size * config.batch.accumulation
    with tempfile.TemporaryDirectory() as model_dir:
        (Path(model_dir) / "config.json").write_text(json.dumps(config.model.config))
        engine = build_engine(config, Path(model_dir))
    positions = torch.arange(length).repeat(rows, 1)
    for step in (1, 2):
        ids = torch.randint(0, LLAMA["vocab_size"], (rows, length + 1))
        batch = StepBatch(
            input_ids=ids[:, :-1],
            labels=ids[:, 1:],
            position_ids=positions,
            packed=False,
            target_tokens=config.batch.global_size * length,
        )
        engine.train_step(batch, learning_rate=1e-3, step=step, stop=False)
    peaks: list[int] = [0] * dist.get_world_size()
    dist.all_gather_object(peaks, engine.memory_bytes())
    return peaks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/memory.json"))
    parser.add_argument("--case", action="append", help="only these; all when left out")
    arguments = parser.parse_args()
    rows = []
    for name, case in CASES.items():
        if arguments.case and name not in arguments.case:
            continue
        rows.append(row(name, case))
        print(
            f"{name:32} estimated {rows[-1]['estimated_bytes'] / 2**20:6.0f} MiB, measured {rows[-1]['measured_bytes'] / 2**20:6.0f} MiB,"
            f" ratio {rows[-1]['estimated_over_measured']:.2f}",
            flush=True,
        )
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(rows, indent=2))
    print(f"wrote {arguments.out}")


if __name__ == "__main__":
    main()
