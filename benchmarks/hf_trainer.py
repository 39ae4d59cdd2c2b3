"""What a plain Hugging Face Trainer computes from given weights and rows. Called by benchmarks/parity.py."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from peft.optimizers import create_loraplus_optimizer
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, Trainer, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from llmtrain_trainer.config import Peft, Training


def train(
    weights: Path, rows: Sequence[dict[str, torch.Tensor]], training: Training, adapter: Path | None = None, peft: Peft | None = None
) -> tuple[list[float], list[float]]:
    """(losses, gradient norms), one a step, as the Trainer logs them: its own loop, loss, AdamW, clipping and counting of targets.

    `weights`: directory of a published model. `rows`: {input_ids, labels} [length], in the order of training, labels not shifted; or
    input_ids and a label [], for sequence classification. `adapter`: directory of one in peft's files, which peft trains then.
    """
    labelled = not rows[0]["labels"].ndim
    # With several micro-batches of labelled documents the Trainer trains on the sum of their mean losses.
    accumulation = 1 if labelled else training.global_batch_size // training.micro_batch_size
    settings = training.optimizer
    with tempfile.TemporaryDirectory() as directory:
        arguments = TrainingArguments(
            output_dir=directory,
            max_steps=len(rows) // training.global_batch_size,
            per_device_train_batch_size=training.global_batch_size // accumulation,
            gradient_accumulation_steps=accumulation,
            train_sampling_strategy="sequential",
            optim="adamw_torch",
            learning_rate=settings.learning_rate,
            adam_beta1=settings.betas[0],
            adam_beta2=settings.betas[1],
            adam_epsilon=settings.epsilon,
            weight_decay=settings.weight_decay,
            max_grad_norm=training.gradient_clipping,
            lr_scheduler_type="constant",
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
        )
        kind = AutoModelForSequenceClassification if labelled else AutoModelForCausalLM
        model = kind.from_pretrained(weights, dtype=torch.float32)
        optimizer = None
        if adapter is not None and peft is not None:
            model = PeftModel.from_pretrained(model, str(adapter), is_trainable=True)
            optimizer = _loraplus(model, training, peft.learning_rate_ratio)
        trainer = Trainer(model=model, args=arguments, train_dataset=_Rows(rows), optimizers=(optimizer, None))
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    logged = [entry for entry in trainer.state.log_history if "loss" in entry]
    return [entry["loss"] for entry in logged], [entry["grad_norm"] for entry in logged]


def _loraplus(model: PeftModel, training: Training, ratio: float) -> torch.optim.Optimizer | None:
    """peft's own optimizer with two learning rates; None where there is one."""
    settings = training.optimizer
    if ratio == 1:
        return None
    kwargs = {"betas": settings.betas, "eps": settings.epsilon, "loraplus_weight_decay": settings.weight_decay}
    return create_loraplus_optimizer(model, torch.optim.AdamW, lr=settings.learning_rate, loraplus_lr_ratio=ratio, **kwargs)


class _Rows(torch.utils.data.Dataset[dict[str, Any]]):
    def __init__(self, rows: Sequence[dict[str, torch.Tensor]]) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return self._rows[index]
