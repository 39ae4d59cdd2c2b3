"""TrainerConfig: everything a pod is told, as one JSON document. THE contract between whoever plans and whoever trains.

Written by the operator's `plan/trainer_config.py` from a Spec and its Plan; read by the agent and the ranks.
It takes text, touches no file and imports no torch.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from llmtrain_trainer.config.checkpoint import Checkpoint, Output
from llmtrain_trainer.config.dataset import Dataset, Evaluation
from llmtrain_trainer.config.deepspeed import Offload
from llmtrain_trainer.config.engines import EngineName
from llmtrain_trainer.config.model import Model, Peft, Tokenizer
from llmtrain_trainer.config.strict import PositiveInt, Strict
from llmtrain_trainer.config.training import Training

Task = Literal["pretrain", "sft"]
PipelineSchedule = Literal["gpipe", "1f1b", "interleaved"]


class Identity(Strict):
    """Which run this is."""

    name: str
    """metadata.name of the job."""

    namespace: str = "default"
    """metadata.namespace of the job."""

    attempt: Annotated[int, Field(ge=0)] = 0
    """Number of this gang. A later attempt has a higher number; it fences checkpoints of an earlier one."""


class Mesh(Strict):
    """The resolved layout. Rank order, outer to inner: pp, dp, cp, tp; so tp neighbours share a node."""

    nodes: PositiveInt = 1
    """Nodes of the gang, one agent each."""

    procs_per_node: PositiveInt = 1
    """Ranks on each node; one GPU each, or one CPU process."""

    pp: PositiveInt = 1
    """Pipeline parallel degree: stages the layers are cut into."""

    dp: PositiveInt = 1
    """Data parallel degree: replicas of the model."""

    cp: PositiveInt = 1
    """Context parallel degree: devices that share a sequence."""

    tp: PositiveInt = 1
    """Tensor parallel degree: devices that share each matrix."""

    ep: PositiveInt = 1
    """Expert parallel degree; its groups lie within dp x cp."""

    zero_stage: Annotated[int, Field(ge=0, le=3)] = 3
    """What dp shards: 0 nothing, 1 optimizer, 2 and gradients, 3 and weights."""

    schedule: PipelineSchedule = "1f1b"
    """Order of the micro-batches through the pipeline."""

    stages: tuple[tuple[int, int], ...]
    """Half-open ranges of layers, one a pipeline stage in model order; pp x virtual stages of them. Stage i lives on pp rank i mod pp."""

    @property
    def world_size(self) -> int:
        """Number of ranks."""
        return self.pp * self.dp * self.cp * self.tp


class Batch(Strict):
    """global_size = micro_size x dp x accumulation, in sequences."""

    global_size: PositiveInt
    """Sequences an optimizer step, over all replicas."""

    micro_size: PositiveInt
    """Sequences a forward pass, per replica."""

    accumulation: PositiveInt
    """Micro-batches a step, per replica."""


class Estimate(Strict):
    """What the plan expects, so that the report can hold it against what was measured."""

    parameters: int | None = None
    """Weights of the model, adapters not counted."""

    trainable_parameters: int | None = None
    """Weights that get gradients: all of them, or the adapters."""

    flops_per_token: float | None = None
    """Model FLOPs of one trained token, forward and backward, recomputation not counted."""

    peak_flops_per_device: float | None = None
    """Dense peak of the device in the training precision, FLOP/s; None where unknown (CPU), then MFU is not reported."""

    memory_bytes_per_rank: int | None = None
    """Expected peak of the fullest rank."""

    tokens_per_second: float | None = None
    """Expected training speed, all devices together."""

    advice: tuple[str, ...] = ()
    """What the plan told, one sentence each."""


class Restarts(Strict):
    """The agent's budget for restarting ranks in place."""

    max: Annotated[int, Field(ge=0)] = 20
    """Restarts allowed within the window."""

    window_seconds: Annotated[float, Field(gt=0)] = 86_400.0
    """Only restarts within this time count."""


class TrainerConfig(Strict):
    """One run, fully decided: nothing is left to choose in the pod."""

    job: Identity
    """Which job and which attempt of it."""

    task: Task
    """What the model learns from the data."""

    engine: EngineName
    """What runs the steps; never auto here."""

    device: Literal["cpu", "cuda"]
    """cpu: gloo between CPU processes; cuda: NCCL, one rank a GPU."""

    model: Model
    """The network, as in the manifest."""

    tokenizer: Tokenizer | None = None
    """How text becomes tokens, as in the manifest."""

    dataset: tuple[Dataset, ...]
    """Training data, as in the manifest."""

    peft: Peft | None = None
    """Adapters, as in the manifest."""

    training: Training
    """How it is trained, as in the manifest; `batch` holds the resolved sizes."""

    evaluation: Evaluation | None = None
    """Loss on held-out data, as in the manifest."""

    checkpoint: Checkpoint | None = None
    """Where training is kept, as in the manifest."""

    output: Output = Output()
    """Exports and report, as in the manifest."""

    mesh: Mesh
    """The layout the plan chose."""

    batch: Batch
    """The batch arithmetic the plan resolved."""

    offload: Offload | None = None
    """What engine deepspeed keeps off the device, as in the manifest."""

    deepspeed: dict[str, Any] | None = None
    """More keys of DeepSpeed's configuration, as in the manifest; none of them says what another field says."""

    estimate: Estimate = Estimate()
    """What the plan expects of this run."""

    restarts: Restarts = Restarts()
    """Budget for restarting ranks in place."""

    non_finite_steps: PositiveInt = 3
    """End training after this many steps in a row whose loss or gradient norm is not finite."""

    hang_seconds: Annotated[float, Field(gt=0)] | None = None
    """Restart the ranks when no step ended for this long; None: learned from the step time (10 x median, at least 300 s)."""

    @property
    def validation_share(self) -> float:
        """Share of the training documents that is held back."""
        return self.evaluation.split if self.evaluation and not self.evaluation.dataset else 0.0
