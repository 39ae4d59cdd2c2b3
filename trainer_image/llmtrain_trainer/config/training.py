"""Training settings: batch, sequence length, precision, optimizer, schedule."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, cast

from pydantic import Field, JsonValue

from llmtrain_trainer.config.strict import Decay, PositiveInt, Ratio, Strict

FINE_TUNING = "x-fine-tuning"
"""Key of a field's schema that holds its default in fine-tuning."""


def fine_tuning(value: object) -> Any:
    """Marks a field whose default differs in fine-tuning, which is every task except pretrain.

    The defaults of pretraining are those of published runs of language models (Brown et al. 2020, appendix B; Touvron et al. 2023,
    section 2.3). Those of fine-tuning are those of Hugging Face's Trainer.
    """
    return Field(json_schema_extra={FINE_TUNING: cast("JsonValue", value)})


class Optimizer(Strict):
    """AdamW (Loshchilov and Hutter, 2019)."""

    name: Literal["adamw"] = "adamw"
    """The algorithm; AdamW is the only one."""

    learning_rate: Annotated[float, Field(gt=0, le=10), fine_tuning(5e-5)] = 3e-4
    """Peak rate, reached after the warm-up. Adapters usually take more than full fine-tuning: 1e-4 to 2e-4."""

    betas: Annotated[tuple[Decay, Decay], fine_tuning([0.9, 0.999])] = (0.9, 0.95)
    """Decay of the first and second moments."""

    epsilon: Annotated[float, Field(gt=0, le=1)] = 1e-8
    """Added to the square root of the second moment."""

    weight_decay: Annotated[float, Field(ge=0, le=10), fine_tuning(0.0)] = 0.1
    """Decoupled weight decay of matrices; vectors (norms, biases) are not decayed."""


class Schedule(Strict):
    """Learning rate over the steps."""

    name: Literal["constant", "linear", "cosine", "wsd", "polynomial", "cosineRestarts"] = "cosine"
    """wsd: warm up, stay constant, then decay linearly over the last `decayRatio` of the steps. polynomial: decay with a `power`.
    cosineRestarts: a cosine that starts again at the peak, in `cycles` of equal length."""

    warmup_steps: Annotated[int, Field(ge=0, le=1_000_000_000)] = 0
    """Linear rise from 0 over this many steps."""

    warmup_ratio: Annotated[Ratio, Field(examples=[0.03])] | None = None
    """Instead of warmupSteps: the fraction of the steps over which the rate rises, rounded up to whole steps."""

    min_ratio: Annotated[Ratio, fine_tuning(0.0)] = 0.1
    """Where the decay ends, as a fraction of the peak rate."""

    decay_ratio: Ratio = 0.2
    """wsd only: the fraction of the steps over which the rate decays."""

    power: Annotated[float, Field(gt=0, le=100, examples=[2.0])] = 1.0
    """polynomial only: the rate falls with this power of the steps that are left; 1 is linear."""

    cycles: Annotated[int, Field(ge=1, le=1_000_000, examples=[3])] = 1
    """cosineRestarts only: how often the rate falls from the peak to its end; 1 is cosine."""

    def warm_up(self, target_steps: int) -> int:
        """Steps over which the rate rises in a training of `target_steps`."""
        return self.warmup_steps if self.warmup_ratio is None else math.ceil(self.warmup_ratio * target_steps)


class Training(Strict):
    """Training settings. One optimizer step trains on globalBatchSize sequences of sequenceLength tokens."""

    global_batch_size: Annotated[int, Field(ge=1, le=1_000_000_000, examples=[64])]
    """Sequences per optimizer step, over all replicas. Equals microBatchSize x data-parallel degree x accumulation."""

    micro_batch_size: PositiveInt = 1
    """Sequences per forward pass of a replica. The number of accumulation steps follows from globalBatchSize."""

    sequence_length: Annotated[int, Field(ge=8, le=16_777_216, examples=[2048])]
    """Tokens a sequence."""

    max_steps: PositiveInt | None = None
    """Optimizer steps. Set this or epochs."""

    epochs: Annotated[float, Field(gt=0, le=10_000)] | None = None
    """Passes over the data, converted to steps once the data is prepared. Set this or maxSteps."""

    precision: Literal["bf16", "fp32"] = "bf16"
    """bf16 computes in bfloat16 and keeps weights, accumulated gradients and optimizer states in fp32; frozen weights below adapters in
    bfloat16."""

    optimizer: Optimizer = Optimizer()
    """Optimizer and its hyperparameters."""

    schedule: Schedule = Schedule()
    """How the learning rate changes over the steps."""

    gradient_clipping: Annotated[float, Field(ge=0, le=1e6)] = 1.0
    """Largest norm of the whole model's gradient; 0 turns clipping off."""

    activation_checkpointing: Literal["none", "full"] = "none"
    """full recomputes each layer in the backward pass: about a third more compute, but activations of only one layer at a time."""

    packing: bool = True
    """sft: pack short samples into full sequences; no sample attends to another. Other tasks do not pack."""

    compile: bool = False
    """Compile each layer with torch.compile: slower start, faster steps on a GPU."""

    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 1
    """Seed of random weights, of the data order and of dropout."""

    log_every_steps: PositiveInt = 1
    """Write a row of metrics every this many steps."""
