"""The contract between the operator and its pods. The operator may import this package and no other part of the trainer."""

from llmtrain_trainer.config.checkpoint import Cadence, Checkpoint, Output
from llmtrain_trainer.config.dataset import Clean, Columns, Csv, Dataset, Evaluation, RowTemplate, Truncate, WeightsFrom
from llmtrain_trainer.config.deepspeed import Offload
from llmtrain_trainer.config.model import Model, Peft, Tokenizer, TokenizerTraining
from llmtrain_trainer.config.place import MOUNTED, place
from llmtrain_trainer.config.rendezvous import RENDEZVOUS_SECRET
from llmtrain_trainer.config.status import CheckpointStatus, ExitCode, GpuMemory, Heartbeat, NodeStatus, Progress, RankSeconds, Verdict
from llmtrain_trainer.config.strict import Duration, Name, PositiveInt, Ratio, Source, StoreUri, Strict, seconds
from llmtrain_trainer.config.tables.engines import EngineName
from llmtrain_trainer.config.tables.mixing import Mixing
from llmtrain_trainer.config.tables.tasks import Task
from llmtrain_trainer.config.trainer import Batch, Estimate, Identity, InPlaceRestarts, Mesh, PipelineSchedule, TrainerConfig
from llmtrain_trainer.config.training import Optimizer, Schedule, Training

__all__ = [
    "RENDEZVOUS_SECRET",
    "MOUNTED",
    "Batch",
    "Cadence",
    "Checkpoint",
    "CheckpointStatus",
    "Clean",
    "Columns",
    "Csv",
    "Dataset",
    "Duration",
    "EngineName",
    "Estimate",
    "Evaluation",
    "ExitCode",
    "GpuMemory",
    "Heartbeat",
    "Identity",
    "Mesh",
    "Mixing",
    "Model",
    "Name",
    "NodeStatus",
    "Offload",
    "Optimizer",
    "Output",
    "Peft",
    "PipelineSchedule",
    "PositiveInt",
    "Progress",
    "RankSeconds",
    "Ratio",
    "InPlaceRestarts",
    "RowTemplate",
    "Schedule",
    "Source",
    "StoreUri",
    "Strict",
    "Task",
    "Tokenizer",
    "TokenizerTraining",
    "Training",
    "TrainerConfig",
    "Truncate",
    "Verdict",
    "WeightsFrom",
    "place",
    "seconds",
]
