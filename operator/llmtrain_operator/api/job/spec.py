"""The manifest: one LLMTrainJob."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from llmtrain_operator.api.job.kubernetes import AnnotationKey, LabelKey, LabelValue, Namespace
from llmtrain_operator.api.job.parallelism import Parallelism
from llmtrain_operator.api.job.resilience import Resilience
from llmtrain_operator.api.job.resources import Resources
from llmtrain_operator.api.job.scheduling import Scheduling
from llmtrain_operator.api.job.status import Status
from llmtrain_trainer.config import (
    Checkpoint,
    Dataset,
    Evaluation,
    Mixing,
    Model,
    Output,
    Peft,
    PositiveInt,
    Strict,
    Task,
    Tokenizer,
    Training,
    WeightsFrom,
)
from llmtrain_trainer.config.tables.tasks import DEFAULT_TASK

GROUP = "llmtrain.io"
VERSION = "v1alpha1"
KIND = "LLMTrainJob"
PLURAL = "llmtrainjobs"


Label = Annotated[str, Field(pattern=r"^\S(.*\S)?$", max_length=256)]


class Spec(Strict):
    """What to train, on which data and devices."""

    task: Task = DEFAULT_TASK
    """What the model learns from the data."""

    model: Annotated[Model, Field(examples=[{"source": "hf://owner/name"}])]
    """The model: existing weights from a source, or random weights in the shape of an inline config."""

    tokenizer: Tokenizer | None = None
    """How text becomes tokens. Default: the tokenizer stored with the model's weights."""

    dataset: Annotated[tuple[Dataset, ...], Field(min_length=1, max_length=256)]
    """Training data, mixed by weight."""

    mixing: Mixing | None = None
    """What an epoch of several datasets is. over: it ends when every dataset was read to its end; smaller ones are repeated in it. under:
    it ends before a dataset would be repeated; rows of larger ones are left for the next epoch. concat: every row of every dataset once,
    shuffled together, without weights. Default: as many samples as there are rows, drawn by weight."""

    curriculum: Annotated[tuple[WeightsFrom, ...], Field(max_length=64, examples=[[{"fromStep": 1000, "weights": [0.2, 0.8]}]])] = ()
    """Weights that change over steps, in the order of their steps; a resume continues in them exactly."""

    labels: Annotated[tuple[Label, ...], Field(max_length=1024, examples=[["negative", "positive"]])] = ()
    """Task classify: names of the labels, in the order of the model's outputs. A row has the name, or its place counted from 0. Default:
    those of a model that has a head for labels already, or those that the rows of the training data have, sorted."""

    peft: Peft | None = None
    """Adapters instead of full training."""

    parallelism: Parallelism = Parallelism()
    """How the model is split over the devices; {auto: true} chooses."""

    training: Annotated[Training, Field(examples=[{"globalBatchSize": 64, "sequenceLength": 2048, "maxSteps": 1000}])]
    """Batch, length, precision, optimizer, schedule."""

    evaluation: Evaluation | None = None
    """Loss on held-out data."""

    checkpoint: Checkpoint | None = None
    """Where checkpoints are stored. Without it a failed job restarts from step 0, and the plan says so."""

    resources: Resources = Resources()
    """Nodes, devices and the resources that a pod requests."""

    scheduling: Scheduling = Scheduling()
    """Queue, gang and placement of the pods, and their image."""

    resilience: Resilience = Resilience()
    """What happens when ranks die or hang, the loss is NaN or a node is bad."""

    output: Output = Output()
    """What is written after training: exports and a report."""

    suspend: bool = False
    """true saves a checkpoint, stops the job and frees its devices; false resumes from that checkpoint."""

    managed_by: (
        Annotated[str, Field(pattern=r"^[a-z0-9.-]+/[A-Za-z0-9/._-]+$", max_length=63, examples=["kueue.x-k8s.io/multikueue"])] | None
    ) = None
    """Another controller that runs this job, such as kueue.x-k8s.io/multikueue. Immutable."""

    active_deadline_seconds: PositiveInt | None = None
    """The job fails after it was active for this long. As in a Kubernetes Job, time waiting for nodes and restarting counts, and suspending
    resets the count. Time in a queue, or waiting for another job to release the destination, does not count."""

    startup_deadline_seconds: PositiveInt | None = None
    """An attempt fails if its first step is not done within this time after all its pods were scheduled. Not enforced while the operator
    cannot reach the agents in the pods."""

    ttl_seconds_after_finished: Annotated[int, Field(ge=0, le=1_000_000_000)] | None = None
    """The job is deleted this long after it finished. Default: it is kept."""


class Metadata(Strict):
    """The part of metadata that a person writes; Kubernetes owns the rest."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=52, examples=["llama3-8b-sft"])]
    """RFC 1123 label; at most 52 characters, so that pod names have room for attempt and index."""

    namespace: Namespace = "default"
    """Kubernetes namespace of the job."""

    labels: dict[LabelKey, LabelValue] | None = None
    """Labels of the job, by which it is selected. A value is text: write numbers and true in quotes."""

    annotations: dict[AnnotationKey, Annotated[str, Field(max_length=262_144)]] | None = None
    """Annotations of the job. A value is text: write numbers and true in quotes."""


class LLMTrainJob(Strict):
    """apiVersion llmtrain.io/v1alpha1, kind LLMTrainJob."""

    api_version: Literal["llmtrain.io/v1alpha1"]
    """API group and version of this schema."""

    kind: Literal["LLMTrainJob"]
    """Kind of the object, LLMTrainJob."""

    metadata: Annotated[Metadata, Field(examples=[{"name": "llama3-8b-sft"}])]
    """Name and namespace of the job."""

    spec: Spec
    """What to train, on which data and devices."""

    status: Status | None = None
    """The state that the operator observed last. Only the operator writes it; it is ignored in a manifest."""
