"""How the model is cut over the devices."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from llmtrain_trainer.config import EngineName, Offload, Strict
from llmtrain_trainer.config.engines import DEFAULT_ENGINE

Degree = Annotated[int, Field(ge=1, le=4096)]


class Parallelism(Strict):
    """Degrees multiply to the number of devices: pipeline x data x context x tensor. The data degree is what is left."""

    engine: EngineName | Literal["auto"] = DEFAULT_ENGINE
    """What runs the steps. native: PyTorch's own parallelism, every layout, the default for causal language models. auto: picked from
    the model, the GPUs and what else is asked for, with the reason in the plan."""

    auto: bool = False
    """Choose the degrees, the micro-batch and recomputation from the model and the hardware. Degrees given beside it are kept."""

    tensor: Degree | None = None
    """Tensor parallel degree: each matrix over this many devices of one node. Divides the attention heads and the key-value heads."""

    pipeline: Degree | None = None
    """Pipeline parallel degree: the layers in this many stages."""

    context: Degree | None = None
    """Context parallel degree: each sequence over this many devices. Divides the sequence, and with tensor the attention heads."""

    expert: Degree | None = None
    """Expert parallel degree: the experts of a mixture over this many devices, taken from data x context. Divides both."""

    data: Degree | None = None
    """Data parallel degree. Derived when left out; when given it must agree with the devices."""

    virtual_stages: Annotated[int, Field(ge=1, le=64)] = 1
    """Pipeline stages a device holds; above 1 needs schedule interleaved."""

    schedule: Literal["gpipe", "1f1b", "interleaved"] | None = None
    """Pipeline schedule. Default: 1f1b, or interleaved with virtualStages above 1."""

    zero_stage: Annotated[int, Field(ge=0, le=3)] | None = None
    """What the data-parallel ranks share out: 0 nothing, 1 optimizer, 2 gradients too, 3 weights too. native shards by FSDP2: 3 or 0."""

    offload: Offload | None = None
    """What engine deepspeed keeps off the device."""

    deepspeed: dict[str, Any] | None = None
    """More keys for the DeepSpeed configuration, with engine deepspeed. A key that says what another field says is refused."""
