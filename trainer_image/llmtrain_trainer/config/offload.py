"""Where engine deepspeed keeps what does not fit on the device."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from llmtrain_trainer.config.strict import Strict

Place = Literal["none", "cpu", "nvme"]


class Offload(Strict):
    """ZeRO offload, with engine deepspeed: memory for time."""

    optimizer: Place = "none"
    """Optimizer states, and the step itself, in host memory or on a disk. cpu needs zeroStage 1 or more, nvme needs 3."""

    parameters: Place = "none"
    """Shares of the weights, fetched layer by layer. Needs zeroStage 3."""

    path: Annotated[str, Field(pattern=r"^/.+", max_length=1024, examples=["/local/nvme"])] | None = None
    """Directory on a fast local disk of each node, for nvme."""
