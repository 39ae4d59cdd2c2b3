"""Step time of `native` in one process against a bare PyTorch loop and against HF Trainer, on the same model and batches.

Called by benchmarks/trainer.py. The three are timed in turns, round by round, so that a machine whose speed drifts does so for all.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from llmtrain_trainer.config import TrainerConfig
from llmtrain_trainer.parallel.launch import launch

LENGTH, MICRO, ACCUMULATION = 256, 4, 2
STEPS_A_ROUND, ROUNDS = 4, 9
LLAMA = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 4096,
    "hidden_size": 256,
    "intermediate_size": 704,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "max_position_embeddings": LENGTH,
    "tie_word_embeddings": False,
}


def measure() -> dict[str, Any]:
    """Seconds a step of each, and the medians of the ratios round by round."""
    rounds = launch(Path(__file__), "time_rounds", 1, timeout=540)
    seconds = {name: statistics.median(times) for name, times in rounds.items()}
    ratio = {
        f"native_over_{name}": statistics.median(a / b for a, b in zip(rounds["native"], rounds[name], strict=True))
        for name in ("bare", "hf_trainer")
    }
    return {
        "model": "llama, 6 layers of 256, vocabulary 4096",
        "tokens_a_step": MICRO * ACCUMULATION * LENGTH,
        "rounds": ROUNDS,
        "steps_a_round": STEPS_A_ROUND,
        "step_seconds": seconds,
        **ratio,
    }


def time_rounds() -> dict[str, list[float]]:
    """On the rank: seconds a step, one figure a round and contender. The first round warms up and is left out."""
    contenders = {"native": native(), "bare": bare(), "hf_trainer": hf_trainer()}
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(ROUNDS + 1):
        for name, run in contenders.items():
            began = time.perf_counter()
            spent = run(STEPS_A_ROUND)
            seconds = (spent if spent is not None else time.perf_counter() - began) / STEPS_A_ROUND
            if number:
                times[name].append(seconds)
    return times


def tokens(step: int) -> Any:
    import torch

    draw = torch.Generator().manual_seed(step)
    return torch.randint(0, int(LLAMA["vocab_size"]), (MICRO * ACCUMULATION, LENGTH + 1), generator=draw)  # type: ignore[call-overload]


def native() -> Any:
    """Steps of the product's engine: loss, norm, clipping, optimizer, everything a training step does."""
    import torch

    from llmtrain_trainer.engines import build_engine
    from llmtrain_trainer.engines.engine import StepBatch

    rows = MICRO * ACCUMULATION
    config = TrainerConfig.model_validate(
        {
            "job": {"name": "bench"},
            "task": "pretrain",
            "engine": "native",
            "device": "cpu",
            "model": {"config": LLAMA},
            "dataset": [{"source": "file:///none"}],
            "training": {
                "globalBatchSize": rows,
                "microBatchSize": MICRO,
                "sequenceLength": LENGTH,
                "maxSteps": 1000,
                "precision": "fp32",
            },
            "mesh": {"stages": [(0, LLAMA["num_hidden_layers"])]},
            "batch": {"globalSize": rows, "microSize": MICRO, "accumulation": ACCUMULATION},
        }
    )
    with tempfile.TemporaryDirectory() as model_dir:
        (Path(model_dir) / "config.json").write_text(json.dumps(LLAMA))
        engine = build_engine(config, Path(model_dir))
    positions = torch.arange(LENGTH).repeat(rows, 1)

    def run(steps: int) -> None:
        for step in range(1, steps + 1):
            ids = tokens(step)
            batch = StepBatch(input_ids=ids[:, :-1], labels=ids[:, 1:], position_ids=positions, packed=False, target_tokens=rows * LENGTH)
            engine.train_step(batch, learning_rate=3e-4, step=step, stop=False)

    return run


def bare() -> Any:
    """The same step as one would write it by hand: Hugging Face's model, cross-entropy, clip_grad_norm_, AdamW."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    kind = dict(LLAMA)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind.pop("model_type"), **kind), attn_implementation="sdpa")
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)

    def run(steps: int) -> None:
        for step in range(1, steps + 1):
            ids = tokens(step)
            optimizer.zero_grad(set_to_none=True)
            total = 0.0
            for micro in ids.chunk(ACCUMULATION):
                logits = model(input_ids=micro[:, :-1], use_cache=False).logits
                loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), micro[:, 1:].flatten()) / ACCUMULATION
                loss.backward()
                total += loss.item()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0).item()
            optimizer.step()

    return run


def hf_trainer() -> Any:
    """HF Trainer with its defaults for such a run; seconds are counted from its first step's begin to its last step's end."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, Trainer, TrainerCallback, TrainingArguments

    kind = dict(LLAMA)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind.pop("model_type"), **kind), attn_implementation="sdpa")

    class Clock(TrainerCallback):  # type: ignore[misc]
        began = ended = 0.0

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.began = self.began or time.perf_counter()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.ended = time.perf_counter()

    class Rows(torch.utils.data.Dataset[dict[str, Any]]):
        def __init__(self, steps: int) -> None:
            self.rows = torch.cat([tokens(step)[:, :-1] for step in range(1, steps + 1)])

        def __len__(self) -> int:
            return len(self.rows)

        def __getitem__(self, index: int) -> dict[str, Any]:
            return {"input_ids": self.rows[index], "labels": self.rows[index]}

    def run(steps: int) -> float:
        clock = Clock()
        arguments = TrainingArguments(
            output_dir="out/bench-hf",
            max_steps=steps,
            per_device_train_batch_size=MICRO,
            gradient_accumulation_steps=ACCUMULATION,
            learning_rate=3e-4,
            weight_decay=0.1,
            max_grad_norm=1.0,
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
            optim="adamw_torch_fused",
        )
        trainer = Trainer(model=model, args=arguments, train_dataset=Rows(steps), callbacks=[clock])
        trainer.log = lambda *_, **__: None  # its rows would fill the screen
        trainer.train()
        return clock.ended - clock.began

    return run


if __name__ == "__main__":
    print(json.dumps(measure(), indent=2))
