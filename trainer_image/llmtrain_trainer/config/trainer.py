"""TrainerConfig: everything a pod receives, as one JSON document. It is the contract between operator and trainer.

Written by the operator's `plan/trainer_config.py` from a Spec and its Plan; read by the agent and the ranks.
It parses text, reads no file and does not import torch.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from llmtrain_trainer.config.checkpoint import Checkpoint, Output
from llmtrain_trainer.config.dataset import Dataset, Evaluation, WeightsFrom
from llmtrain_trainer.config.deepspeed import Offload
from llmtrain_trainer.config.model import Model, Peft, Tokenizer
from llmtrain_trainer.config.strict import PositiveInt, Strict
from llmtrain_trainer.config.tables.engines import EngineName
from llmtrain_trainer.config.tables.mixing import Mixing
from llmtrain_trainer.config.tables.tasks import Task
from llmtrain_trainer.config.training import Training

PipelineSchedule = Literal["gpipe", "1f1b", "interleaved"]


class Identity(Strict):
    """Which run this is."""

    name: str
    """metadata.name of the job."""

    namespace: str = "default"
    """metadata.namespace of the job."""

    attempt: Annotated[int, Field(ge=0)] = 0
    """Number of this attempt. A later attempt has a higher number, which fences the checkpoints of an earlier one."""


class Mesh(Strict):
    """The resolved layout. Rank order, outer to inner: pp, dp, cp, tp; so tp neighbours share a node."""

    nodes: PositiveInt = 1
    """Nodes of the gang, with one agent each."""

    procs_per_node: PositiveInt = 1
    """Ranks on each node, with one GPU each, or as CPU processes."""

    pp: PositiveInt = 1
    """Pipeline parallel degree: number of stages that the layers are split into."""

    dp: PositiveInt = 1
    """Data parallel degree: replicas of the model."""

    cp: PositiveInt = 1
    """Context parallel degree: number of ranks that a sequence is split over."""

    tp: PositiveInt = 1
    """Tensor parallel degree: number of ranks that each matrix is split over."""

    ep: PositiveInt = 1
    """Expert parallel degree; its groups lie within dp x cp."""

    zero_stage: Annotated[int, Field(ge=0, le=3)] = 3
    """What is sharded over dp: 0 nothing, 1 optimizer states, 2 also gradients, 3 also weights."""

    schedule: PipelineSchedule = "1f1b"
    """Order of the micro-batches through the pipeline."""

    stages: tuple[tuple[int, int], ...]
    """Half-open ranges of layers, one per pipeline stage in model order; pp x virtual stages of them. Stage i is on pp rank i mod pp."""

    @property
    def world_size(self) -> int:
        """Number of ranks."""
        return self.pp * self.dp * self.cp * self.tp


class Batch(Strict):
    """global_size = micro_size x dp x accumulation, in sequences."""

    global_size: PositiveInt
    """Sequences per optimizer step, over all replicas."""

    micro_size: PositiveInt
    """Sequences per forward pass of a replica."""

    accumulation: PositiveInt
    """Micro-batches per step of a replica."""


class Estimate(Strict):
    """What the plan expects, so that the report can compare it with measurements."""

    parameters: int | None = None
    """Parameters of the model, adapters not counted."""

    trainable_parameters: int | None = None
    """Parameters that get gradients: all of them, or the adapters."""

    flops_per_token: float | None = None
    """Model FLOPs per trained token, forward and backward, recomputation not counted."""

    peak_flops_per_device: float | None = None
    """Dense peak of the device in the training precision, FLOP/s; None if unknown (CPU): MFU is then not reported."""

    memory_bytes_per_rank: int | None = None
    """Expected peak memory of the rank that needs most."""

    tokens_per_second: float | None = None
    """Expected training speed, over all devices."""

    advice: tuple[str, ...] = ()
    """The plan's advice, one sentence each."""


class InPlaceRestarts(Strict):
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
    """The training task."""

    engine: EngineName
    """The engine that runs the steps; never auto here."""

    device: Literal["cpu", "cuda"]
    """cpu: gloo between CPU processes; cuda: NCCL, one rank per GPU."""

    model: Model
    """The network, as in the manifest."""

    tokenizer: Tokenizer | None = None
    """How text becomes tokens, as in the manifest."""

    dataset: tuple[Dataset, ...]
    """Training data, as in the manifest."""

    mixing: Mixing | None = None
    """What an epoch of several datasets is, as in the manifest."""

    curriculum: tuple[WeightsFrom, ...] = ()
    """Weights that change over steps, as in the manifest."""

    labels: tuple[str, ...] = ()
    """Names of the labels that are learned, as in the manifest; preparation finds those that it leaves out."""

    peft: Peft | None = None
    """Adapters, as in the manifest."""

    training: Training
    """Training settings, as in the manifest; `batch` holds the resolved sizes."""

    evaluation: Evaluation | None = None
    """Evaluation on held-out data, as in the manifest."""

    checkpoint: Checkpoint | None = None
    """Where checkpoints are stored, as in the manifest."""

    output: Output = Output()
    """Exports and report, as in the manifest."""

    mesh: Mesh
    """The layout the plan chose."""

    batch: Batch
    """The batch sizes the plan chose."""

    offload: Offload | None = None
    """What engine deepspeed offloads, as in the manifest."""

    deepspeed: dict[str, Any] | None = None
    """Further keys of DeepSpeed's configuration, as in the manifest; none of them repeats another field."""

    estimate: Estimate = Estimate()
    """What the plan expects of this run."""

    restarts: InPlaceRestarts = InPlaceRestarts()
    """Budget for restarting ranks in place."""

    non_finite_steps: PositiveInt = 3
    """End training after this many consecutive steps whose loss or gradient norm is not finite."""

    hang_seconds: Annotated[float, Field(gt=0)] | None = None
    """Restart the ranks when no step has finished for this long; None: derived from the step time (10 x median, at least 300 s)."""

    @property
    def validation_share(self) -> float:
        """Share of the training documents that is held out."""
        return self.evaluation.split if self.evaluation and not self.evaluation.dataset else 0.0
