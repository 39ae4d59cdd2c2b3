"""One dense model on one GPU by each engine and by a plain HF Trainer -> out/bench-gpu.json. Run by `make bench-gpu` where a GPU is.

Each contender has a process of its own, the same shape, micro-batches and number of them, in bf16. Seconds are of the steps after the
first ones, tokens a second and MFU follow from them by the plan's own count of operations; memory is the peak of torch's allocator against
the estimate's tensors. With --small a tiny model takes the same way on a CPU, engine megatron by the tests' stand-in: that shows that the
way is open, and nothing of speed or memory.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from llmtrain_operator.manifest.parse import parse_manifest
from llmtrain_operator.plan.layout.hardware import Gpu, find_gpu
from llmtrain_operator.plan.model.families import shape_of
from llmtrain_operator.plan.model.shape import flops_per_token
from llmtrain_operator.plan.plan import Plan, plan
from llmtrain_operator.plan.trainer_config import trainer_config
from llmtrain_trainer.config import TrainerConfig
from llmtrain_trainer.convert.launch import launch, load_script

OUT = Path("out/bench-gpu.json")
ENGINES = ("native", "deepspeed", "megatron")
WARM, TIMED = 3, 8
"""Steps before the clock starts: kernels are chosen and memory is taken then; and steps that are timed."""

LLAMA_1B: dict[str, Any] = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 32000,
    "hidden_size": 2048,
    "intermediate_size": 5632,
    "num_hidden_layers": 22,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": False,
}
"""1.1B parameters."""

SMALL = LLAMA_1B | {"vocab_size": 512, "hidden_size": 64, "intermediate_size": 172, "num_hidden_layers": 4, "num_attention_heads": 4}


def main() -> None:
    """Measure each contender that the command line names, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gpu", default="H100-80GB", help="its name in spec.resources.gpu")
    parser.add_argument("--micro", type=int, default=4, help="rows of a micro-batch (default: 4)")
    parser.add_argument("--length", type=int, default=2048, help="tokens of a row (default: 2048)")
    parser.add_argument("--accumulation", type=int, default=8, help="micro-batches a step (default: 8)")
    parser.add_argument("--only", action="append", choices=(*ENGINES, "hf_trainer"), help="may be given again")
    parser.add_argument("--small", action="store_true", help="a tiny model on a CPU: tries the script")
    given = parser.parse_args()
    if given.small:
        given.micro, given.length, given.accumulation = 2, 64, 2
    else:
        os.environ["DS_ACCELERATOR"] = "cuda"
    gpu = find_gpu(given.gpu)
    if not isinstance(gpu, Gpu):
        parser.error(str(gpu))
    rows = []
    for name in given.only or (*ENGINES, "hf_trainer"):
        rows.append(row(name, given, gpu))
        OUT.parent.mkdir(exist_ok=True)
        found = {"machine": platform.platform(), "gpu": None if given.small else gpu.name, "rows": rows}
        OUT.write_text(json.dumps(found, indent=1) + "\n")
        print(line(rows[-1]), flush=True)


def row(name: str, given: argparse.Namespace, gpu: Gpu) -> dict[str, Any]:
    """One contender; what failed is told in its row, and the others go on."""
    planned, config = planned_for("native" if name == "hf_trainer" else name, given)
    function = "time_trainer" if name == "hf_trainer" else "time_engine"
    backend = "gloo" if given.small else "cpu:gloo,cuda:nccl"
    try:
        found = launch(Path(__file__), function, 1, config.model_dump_json(), backend=backend, timeout=540)
    except RuntimeError as error:
        return {"contender": name, "error": str(error)}
    assert planned.shape is not None and planned.memory is not None
    seconds = statistics.median(found["seconds"])
    speed = given.micro * given.accumulation * given.length / seconds
    flops = flops_per_token(planned.shape, given.length)
    peak = None if given.small else gpu.peak_flops("bf16")
    no_tensors = load_script(Path(__file__).with_name("memory.py")).PROCESS
    return {
        "contender": name,
        "parameters": planned.shape.parameters,
        "step_seconds": seconds,
        "all_seconds": found["seconds"],
        "losses": found["losses"],
        "tokens_per_second": speed,
        "mfu": speed * flops / peak if peak else None,
        "peak_bytes": found["bytes"],
        "estimated_bytes": None if name == "hf_trainer" else sum(t.bytes for t in planned.memory.terms if t.name not in no_tensors),
        "planned_tokens_per_second": planned.throughput.tokens_per_second if planned.throughput else None,
    }


def planned_for(engine: str, given: argparse.Namespace) -> tuple[Plan, TrainerConfig]:
    """The plan of the manifest on the GPU, and what its rank is given."""
    spec = {
        "model": {"config": SMALL if given.small else LLAMA_1B},
        "tokenizer": {"source": "file:///none"},
        "dataset": [{"source": "file:///none"}],
        "training": {
            "globalBatchSize": given.micro * given.accumulation,
            "microBatchSize": given.micro,
            "sequenceLength": given.length,
            "maxSteps": WARM + TIMED,
            "precision": "bf16",
        },
        "parallelism": {"engine": engine},
        "resources": {"gpusPerNode": 1, "gpu": given.gpu},
    }
    head = {"apiVersion": "llmtrain.io/v1alpha1", "kind": "LLMTrainJob", "metadata": {"name": "bench-gpu"}}
    job = parse_manifest(yaml.safe_dump(head | {"spec": spec}))
    planned = plan(job, shape_of(job.spec.model.config or {}))
    config = trainer_config(job, planned, attempt=0)
    return planned, config.model_copy(update={"device": "cpu"}) if given.small else config


def line(found: dict[str, Any]) -> str:
    """For the terminal."""
    if "error" in found:
        return f"{found['contender']:11} failed: {found['error']}"
    mfu = "-" if found["mfu"] is None else f"{found['mfu']:.1%}"
    estimate = "-" if found["estimated_bytes"] is None else f"{found['estimated_bytes'] / 2**30:.1f}"
    speed = f"{found['tokens_per_second']:10.0f} tokens/s  MFU {mfu:>6}"
    return f"{found['contender']:11} {speed}  peak {found['peak_bytes'] / 2**30:6.1f} GiB, tensors estimated {estimate} GiB"


# ---- in the rank -----------------------------------------------------------------------------------------------------------


def time_engine(config_text: str) -> dict[str, Any]:
    """Seconds of each timed step of an engine of the product, its losses, and its peak."""
    import torch

    from llmtrain_trainer.data.step_batch import StepBatch

    config = TrainerConfig.model_validate_json(config_text)
    engine = load_script(Path(__file__).with_name("building.py")).engine_of(config)
    length, rows = config.training.sequence_length, config.batch.global_size
    positions = torch.arange(length).repeat(rows, 1)

    def step(number: int) -> float:
        ids = tokens(config, number)
        columns = {"input_ids": ids[:, :-1], "labels": ids[:, 1:], "position_ids": positions}
        batch = StepBatch(columns=columns, packed=False, target_tokens=rows * length)
        return float(engine.train_step(batch, learning_rate=3e-4, step=number, stop=False).loss)

    return clocked(step) | {"bytes": engine.memory_bytes()}


def time_trainer(config_text: str) -> dict[str, Any]:
    """The same of a stock HF Trainer: weights in bf16's autocast, fused AdamW, its own loop."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, Trainer, TrainerCallback, TrainingArguments
    from transformers.trainer_callback import PrinterCallback

    config = TrainerConfig.model_validate_json(config_text)
    kind = dict(config.model.config or {})
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind.pop("model_type"), **kind), attn_implementation="sdpa")
    ends: list[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *_: Any, **__: Any) -> None:
            synchronize()
            ends.append(time.perf_counter())

    rows = torch.cat([tokens(config, number)[:, :-1] for number in range(1, WARM + TIMED + 1)])
    with tempfile.TemporaryDirectory() as directory:
        arguments = TrainingArguments(
            output_dir=directory,
            max_steps=WARM + TIMED,
            per_device_train_batch_size=config.batch.micro_size,
            gradient_accumulation_steps=config.batch.accumulation,
            learning_rate=3e-4,
            weight_decay=0.1,
            max_grad_norm=1.0,
            bf16=True,
            optim="adamw_torch_fused",
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=config.device == "cpu",
        )
        data: Any = [{"input_ids": row, "labels": row} for row in rows]
        trainer = Trainer(model=model, args=arguments, train_dataset=data, callbacks=[Clock()])
        trainer.remove_callback(PrinterCallback)  # its rows would fill the screen
        trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return {"seconds": [b - a for a, b in zip(ends[WARM - 1 :], ends[WARM:], strict=False)], "losses": losses, "bytes": peak_bytes()}


def clocked(step: Callable[[int], float]) -> dict[str, Any]:
    """Warm up, then time each step by itself; a step's loss is read, so the device is through with it."""
    losses, seconds = [], []
    for number in range(1, WARM + TIMED + 1):
        synchronize()
        began = time.perf_counter()
        losses.append(step(number))
        synchronize()
        seconds.append(time.perf_counter() - began)
    return {"seconds": seconds[WARM:], "losses": losses}


def tokens(config: TrainerConfig, step: int) -> Any:
    """Rows of a step, one token longer than they are trained on; the same for every contender."""
    import torch

    vocabulary = (config.model.config or {})["vocab_size"]
    draw = torch.Generator().manual_seed(step)
    return torch.randint(0, vocabulary, (config.batch.global_size, config.training.sequence_length + 1), generator=draw)


def synchronize() -> None:
    """Wait for the GPU, where there is one."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def peak_bytes() -> int:
    """Of torch's CUDA allocator; of the process on a CPU."""
    import resource

    import torch

    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
