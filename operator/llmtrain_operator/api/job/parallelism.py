"""How the model is split over the devices."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from llmtrain_trainer.config import EngineName, Offload, Strict
from llmtrain_trainer.config.tables.engines import DEFAULT_ENGINE

Degree = Annotated[int, Field(ge=1, le=4096)]


class Parallelism(Strict):
    """The degrees multiply to the number of devices: pipeline x data x context x tensor. The data degree follows from the others."""

    engine: EngineName | Literal["auto"] = DEFAULT_ENGINE
    """What runs the training steps. native: PyTorch's own parallelism, supports every layout, the default for causal language models.
    accelerate: whole models as replicas (DDP or FSDP2) through Hugging Face's Accelerate.
    auto: chosen from the model, the GPUs and the other fields; the plan gives the reason."""

    auto: bool = False
    """Choose the degrees, the micro-batch size and recomputation from the model and the hardware. Degrees that are set are kept."""

    tensor: Degree | None = None
    """Tensor parallel degree: each matrix is split over this many devices of one node. Must divide the attention heads and the key-value
    heads."""

    pipeline: Degree | None = None
    """Pipeline parallel degree: the layers are split into this many stages."""

    context: Degree | None = None
    """Context parallel degree: each sequence is split over this many devices. Must divide the sequence length; context x tensor must divide
    the attention heads."""

    expert: Degree | None = None
    """Expert parallel degree: the experts of an MoE layer are distributed over this many ranks of data x context. Must divide the number of
    experts and data x context."""

    data: Degree | None = None
    """Data parallel degree. Default: derived from the devices and the other degrees, with which a given value must agree."""

    virtual_stages: Annotated[int, Field(ge=1, le=64)] = 1
    """Pipeline stages per device; above 1 needs schedule interleaved."""

    schedule: Literal["gpipe", "1f1b", "interleaved"] | None = None
    """Pipeline schedule. Default: 1f1b, or interleaved with virtualStages above 1."""

    zero_stage: Annotated[int, Field(ge=0, le=3)] | None = None
    """What is sharded across data-parallel ranks: 0 nothing, 1 the optimizer state, 2 also the gradients, 3 also the weights. Engine native
    shards with FSDP2 and takes 3 or 0; engine accelerate takes 0 (DDP), 2 or 3 (FSDP2)."""

    offload: Offload | None = None
    """What engine deepspeed keeps in host memory."""

    deepspeed: dict[str, Any] | None = None
    """Further keys of the DeepSpeed configuration, for engine deepspeed. A key that a field of the manifest already sets is refused."""
