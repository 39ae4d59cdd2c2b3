"""The objective of each task. One file an objective; engines ask here."""

from __future__ import annotations

from llmtrain_trainer.config.tables.tasks import Task
from llmtrain_trainer.objectives.causal_lm import CausalLm
from llmtrain_trainer.objectives.classification import Classification
from llmtrain_trainer.objectives.objective import Objective

OBJECTIVES: dict[Task, Objective] = {"pretrain": CausalLm(), "sft": CausalLm(), "classify": Classification()}
