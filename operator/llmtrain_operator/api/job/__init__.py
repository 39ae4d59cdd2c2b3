"""The manifest as frozen types, one file per section. Defaults are here and in llmtrain_trainer.config, nowhere else."""

from llmtrain_operator.api.job.parallelism import Parallelism
from llmtrain_operator.api.job.resilience import Resilience, Restarts
from llmtrain_operator.api.job.resources import Resources
from llmtrain_operator.api.job.scheduling import Scheduling, Toleration, Topology
from llmtrain_operator.api.job.spec import GROUP, KIND, PLURAL, VERSION, LLMTrainJob, Metadata, Spec
from llmtrain_operator.api.job.status import Condition, Status
from llmtrain_operator.api.phases import Phase

__all__ = [
    "GROUP",
    "KIND",
    "PLURAL",
    "VERSION",
    "Condition",
    "LLMTrainJob",
    "Metadata",
    "Parallelism",
    "Phase",
    "Resilience",
    "Resources",
    "Restarts",
    "Scheduling",
    "Spec",
    "Status",
    "Toleration",
    "Topology",
]
