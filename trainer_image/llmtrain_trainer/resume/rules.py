"""What a change of each field or section of the TrainerConfig means for a resume."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["exactly", "told", "data", "refused"]
"""exactly: the run resumes as if the field had always had this value. told: a notice. data: one notice for all of them (data_changes.py).
refused: the run cannot resume."""


@dataclass(frozen=True, slots=True)
class ResumeRule:
    """`field`: path below spec in the manifest."""

    field: str
    kind: Kind
    why: str


def _exactly(why: str, *fields: str) -> tuple[ResumeRule, ...]:
    return tuple(ResumeRule(field, "exactly", why) for field in fields)


def _told(why: str, *fields: str) -> tuple[ResumeRule, ...]:
    return tuple(ResumeRule(field, "told", why) for field in fields)


def _data(why: str, *fields: str) -> tuple[ResumeRule, ...]:
    return tuple(ResumeRule(field, "data", why) for field in fields)


def _refused(why: str, *fields: str) -> tuple[ResumeRule, ...]:
    return tuple(ResumeRule(field, "refused", why) for field in fields)


RULES: tuple[ResumeRule, ...] = (
    *_exactly("weights and order of samples do not depend on the layout", "engine", "device", "mesh", "batch", "offload", "deepspeed"),
    *_exactly("it changes memory and speed", "training.microBatchSize", "training.activationCheckpointing", "training.compile"),
    *_exactly(
        "it affects only output, evaluation and checkpoints", "training.logEverySteps", "evaluation", "checkpoint", "output", "estimate"
    ),
    *_exactly("it affects only the processes", "job", "restarts", "hangSeconds", "nonFiniteSteps"),
    *_exactly("the digests of the rows and of the tokenizer are compared", "dataset"),
    *_exactly("the number of steps that follows from it is compared", "training.maxSteps", "training.epochs"),
    *_exactly("the learning rate that follows from it is compared", "training.schedule"),
    *_exactly("the shape and the weights that it leads to are compared", "model"),
    *_refused("the weights were trained for another task", "task"),
    *_refused("each output of the head stands for one of them, in this order", "labels"),
    *_refused("its vocabulary or its chat template differs", "tokenizer"),
    *_refused("a checkpoint holds either adapters or the full weights", "peft"),
    *_refused("the adapters would not match those of the checkpoint", "peft.method", "peft.rank", "peft.targetModules"),
    *_refused("the adapters would be scaled differently", "peft.alpha"),
    *_data("which samples come next is told", "training.globalBatchSize", "training.sequenceLength", "training.packing"),
    *_data("which samples come next is told", "evaluation.split", "training.seed", "mixing"),
    *_told("steps to come draw by it", "curriculum"),
    *_told("it applies from this step on; weights and moments stay in fp32", "training.precision"),
    *_told(
        "it applies from this step on, with the moments of the checkpoint", "training.optimizer.name", "training.optimizer.learningRate"
    ),
    *_told("it applies from this step on, with the moments of the checkpoint", "training.optimizer.betas", "training.optimizer.epsilon"),
    *_told("it applies from this step on", "training.optimizer.weightDecay", "training.gradientClipping"),
    *_told("it applies from this step on", "peft.dropout", "peft.learningRateRatio"),
)
