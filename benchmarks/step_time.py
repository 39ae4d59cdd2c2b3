"""Step time of `native` in one process against a bare PyTorch loop and against HF Trainer, on the same model and batches.

Called by benchmarks/trainer.py. The three are timed in turns, round by round, so that a machine whose speed drifts does so for all.
"""

from __future__ import annotations

import json
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from llmtrain_trainer.config import TrainerConfig
from llmtrain_trainer.convert.launch import launch, load_script

MICRO, ACCUMULATION = 4, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """A model and how long it is timed: a large one shows the arithmetic, a small one what stands around it."""

    hidden: int
    layers: int
    length: int
    vocabulary: int
    rounds: int
    steps_a_round: int

    @property
    def shape(self) -> dict[str, Any]:
        return {
            "model_type": "llama",
            "architectures": ["LlamaForCausalLM"],
            "vocab_size": self.vocabulary,
            "hidden_size": self.hidden,
            "intermediate_size": self.hidden * 11 // 4,
            "num_hidden_layers": self.layers,
            "num_attention_heads": 8,
            "num_key_value_heads": 4,
            "max_position_embeddings": self.length,
            "tie_word_embeddings": False,
        }


SIZES = {
    "large": Size(hidden=256, layers=6, length=256, vocabulary=4096, rounds=12, steps_a_round=4),
    "small": Size(hidden=64, layers=4, length=64, vocabulary=512, rounds=15, steps_a_round=40),
}


def measure() -> dict[str, Any]:
    """By size: seconds a step of each, and the medians of the ratios round by round."""
    return {name: _measured(size) for name, size in SIZES.items()}


def _measured(size: Size) -> dict[str, Any]:
    rounds = launch(Path(__file__), "time_rounds", 1, asdict(size), timeout=540)
    seconds = {name: statistics.median(times) for name, times in rounds.items()}
    ratio = {
        f"native_over_{name}": statistics.median(a / b for a, b in zip(rounds["native"], rounds[name], strict=True))
        for name in ("bare", "hf_trainer")
    }
    return asdict(size) | {"tokens_a_step": MICRO * ACCUMULATION * size.length, "step_seconds": seconds} | ratio


def time_rounds(given: dict[str, Any]) -> dict[str, list[float]]:
    """On the rank: seconds a step, one figure a round and contender. The first round warms up and is left out; each round starts with
    another contender."""
    size = Size(**given)
    contenders = {"native": native(size), "bare": bare(size), "hf_trainer": hf_trainer(size)}
    times: dict[str, list[float]] = {name: [] for name in contenders}
    order = list(contenders)
    for number in range(size.rounds + 1):
        for name in order:
            began = time.perf_counter()
            spent = contenders[name](size.steps_a_round)
            seconds = (spent if spent is not None else time.perf_counter() - began) / size.steps_a_round
            if number:
                times[name].append(seconds)
        order = order[1:] + order[:1]
    return times


def tokens(size: Size, step: int) -> Any:
    import torch

    draw = torch.Generator().manual_seed(step)
    return torch.randint(0, size.vocabulary, (MICRO * ACCUMULATION, size.length + 1), generator=draw)


def native(size: Size) -> Any:
    """Steps of the product's engine: loss, norm, clipping, optimizer, everything a training step does."""
    import torch

    from llmtrain_trainer.data.step_batch import StepBatch

    rows = MICRO * ACCUMULATION
    config = TrainerConfig.model_validate(
        {
            "job": {"name": "bench"},
            "task": "pretrain",
            "engine": "native",
            "device": "cpu",
            "model": {"config": size.shape},
            "dataset": [{"source": "file:///none"}],
            "training": {
                "globalBatchSize": rows,
                "microBatchSize": MICRO,
                "sequenceLength": size.length,
                "maxSteps": 1000,
                "precision": "fp32",
            },
            "mesh": {"stages": [(0, size.layers)]},
            "batch": {"globalSize": rows, "microSize": MICRO, "accumulation": ACCUMULATION},
        }
    )
    engine = load_script(Path(__file__).with_name("building.py")).engine_of(config)
    positions = torch.arange(size.length).repeat(rows, 1)

    def run(steps: int) -> None:
        for step in range(1, steps + 1):
            ids = tokens(size, step)
            columns = {"input_ids": ids[:, :-1], "labels": ids[:, 1:], "position_ids": positions}
            batch = StepBatch(columns=columns, packed=False, target_tokens=rows * size.length)
            engine.train_step(batch, learning_rate=3e-4, step=step, stop=False)

    return run


def bare(size: Size) -> Any:
    """The same step as one would write it by hand: Hugging Face's model, cross-entropy, clip_grad_norm_, AdamW."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    kind = size.shape
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind.pop("model_type"), **kind), attn_implementation="sdpa")
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)

    def run(steps: int) -> None:
        for step in range(1, steps + 1):
            ids = tokens(size, step)
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


def hf_trainer(size: Size) -> Any:
    """HF Trainer with its defaults for such a run; seconds are counted from its first step's begin to its last step's end."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, Trainer, TrainerCallback, TrainingArguments

    kind = size.shape
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind.pop("model_type"), **kind), attn_implementation="sdpa")

    class Clock(TrainerCallback):  # type: ignore[misc]
        began = ended = 0.0

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.began = self.began or time.perf_counter()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.ended = time.perf_counter()

    class Rows(torch.utils.data.Dataset[dict[str, Any]]):
        def __init__(self, steps: int) -> None:
            self.rows = torch.cat([tokens(size, step)[:, :-1] for step in range(1, steps + 1)])

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
