"""The table of continuation.py: each field of the TrainerConfig, or a section of fields, and what a change of it means to a resume."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["exactly", "told", "data", "refused"]
"""exactly: whatever it is, the run goes on as if it had been so from the start. data: told, by data_changes.py for all of them at once."""


@dataclass(frozen=True, slots=True)
class Rule:
    """`field` as in the manifest below spec."""

    field: str
    kind: Kind
    why: str


def _exactly(why: str, *fields: str) -> tuple[Rule, ...]:
    return tuple(Rule(field, "exactly", why) for field in fields)


def _told(why: str, *fields: str) -> tuple[Rule, ...]:
    return tuple(Rule(field, "told", why) for field in fields)


def _data(why: str, *fields: str) -> tuple[Rule, ...]:
    return tuple(Rule(field, "data", why) for field in fields)


def _refused(why: str, *fields: str) -> tuple[Rule, ...]:
    return tuple(Rule(field, "refused", why) for field in fields)


RULES: tuple[Rule, ...] = (
    *_exactly("weights and order of samples do not know the layout", "engine", "device", "mesh", "batch", "offload", "deepspeed"),
    *_exactly("it changes memory and speed", "training.microBatchSize", "training.activationCheckpointing", "training.compile"),
    *_exactly("it is about what is said, kept and written", "training.logEverySteps", "evaluation", "checkpoint", "output", "estimate"),
    *_exactly("it is about the processes", "job", "restarts", "hangSeconds", "nonFiniteSteps"),
    *_exactly("the digests of the rows and of the tokenizer say what it made", "dataset"),
    *_exactly("the number of steps that follows from it is compared", "training.maxSteps", "training.epochs"),
    *_exactly("the learning rate that follows from it is compared", "training.schedule"),
    *_exactly("the shape and the weights that it leads to are compared", "model"),
    *_refused("the weights were trained for another task", "task"),
    *_refused("its vocabulary, or the template of its messages, is another one", "tokenizer"),
    *_refused("adapters and whole weights are different checkpoints", "peft"),
    *_refused("the adapters would be others than those of the checkpoint", "peft.method", "peft.rank", "peft.targetModules"),
    *_refused("the adapters would change the model by another measure", "peft.alpha"),
    *_data("which samples come next is told", "training.globalBatchSize", "training.sequenceLength", "training.packing"),
    *_data("which samples come next is told", "evaluation.split", "training.seed"),
    *_told("steps compute in it from here on; weights and moments stay in fp32", "training.precision"),
    *_told("it holds from here on, with the moments of before", "training.optimizer.name", "training.optimizer.learningRate"),
    *_told("it holds from here on, with the moments of before", "training.optimizer.betas", "training.optimizer.epsilon"),
    *_told("it holds from here on", "training.optimizer.weightDecay", "training.gradientClipping", "peft.dropout"),
)
