"""Which field is read beside which value of another field. A field that some choice does not read is refused beside it, never ignored."""

from __future__ import annotations

from tests.contract.test_every_field_is_read import fields

from llmtrain_operator.api.job.spec import Spec
from llmtrain_operator.manifest.rules.registry import RULES
from llmtrain_operator.manifest.rules.unread import COLUMNS
from llmtrain_trainer.data.sources.wanted import COLUMN_KEYS, PART_KEYS

PLAN = {
    "spec.parallelism.expert": "a model without experts",
    "spec.parallelism.virtualStages": "no pipeline",
    "spec.parallelism.zeroStage": "engines that shard otherwise",
    "spec.parallelism.context": "engine deepspeed",
    "spec.parallelism.offload.optimizer": "stages of ZeRO",
    "spec.parallelism.offload.parameters": "stages of ZeRO",
    "spec.training.compile": "other engines",
    "spec.training.packing": "task pretrain, whose documents are one stream: told by the plan's advice; classify has one text a row",
    "spec.model.attention": "other engines",
    "spec.peft": "engine megatron",
    "spec.peft.targetModules": "names that no layer has",
    "spec.peft.learningRateRatio": "engine deepspeed",
    "spec.dataset.weight": "one dataset: told by the plan's advice",
    "spec.mixing": "one dataset: told by the plan's advice; over and under beside training.maxSteps: refused",
    "spec.curriculum": "one dataset: told by the plan's advice; beside mixing: refused",
    "spec.dataset.csv": "files that are no tables: told by the preparation",
    "spec.evaluation.dataset.csv": "files that are no tables: told by the preparation",
}
"""Fields that the plan or the preparation refuses, or tells of, beside a choice that does not read them, and that choice."""

ALWAYS = {
    "spec": "task model labels dataset training evaluation checkpoint resources scheduling resilience suspend managedBy "
    "activeDeadlineSeconds ttlSecondsAfterFinished parallelism output tokenizer",
    "spec.model": "config init source",
    "spec.tokenizer": "source chatTemplate train",
    "spec.tokenizer.train": "algorithm maxSamples",
    "spec.dataset": "source subset field where format columns template truncate clean maxSamples ignoreColumns controlTokens "
    "badRows streaming",
    "spec.curriculum": "fromStep weights",
    "spec.dataset.clean": "duplicates",
    "spec.dataset.csv": "separator header",
    "spec.evaluation": "dataset everySteps maxSamples",
    "spec.evaluation.dataset": "source subset field where format columns template truncate clean maxSamples ignoreColumns controlTokens "
    "badRows",
    "spec.evaluation.dataset.clean": "duplicates",
    "spec.evaluation.dataset.csv": "separator header",
    "spec.peft": "method rank alpha dropout",
    "spec.parallelism": "engine auto tensor pipeline data",
    "spec.training": "globalBatchSize microBatchSize sequenceLength epochs precision optimizer schedule gradientClipping "
    "activationCheckpointing seed logEverySteps",
    "spec.training.optimizer": "name learningRate betas epsilon weightDecay",
    "spec.training.schedule": "name",
    "spec.checkpoint": "destination secretName every keep keepEverySteps resume",
    "spec.checkpoint.every": "interval",
    "spec.resources": "nodes cpu memory sharedMemory",
    "spec.scheduling": "gang topology priorityClassName nodeSelector tolerations serviceAccountName runtimeClassName labels annotations "
    "env image imagePullSecrets",
    "spec.scheduling.topology": "preferred",
    "spec.resilience": "restarts hang nonFiniteSteps avoidNodes",
    "spec.resilience.restarts": "max window",
    "spec.output": "report",
}
"""Fields that every choice of the others reads."""


def test_the_columns_that_the_trainer_reads_are_those_that_a_format_may_name() -> None:
    read = {(key, name) for keys in (COLUMN_KEYS, PART_KEYS) for name, found in keys.items() for key in found}
    assert read == {(key, name) for key, names in COLUMNS.items() for name in names} - {("tools", name) for name in COLUMNS["tools"]}


def test_every_field_is_read_by_every_choice_or_refused_beside_the_others() -> None:
    """A new field belongs to a rule, to PLAN or to ALWAYS: does every task, format, engine and schedule read it?"""
    always = {f"{section}.{name}" for section, names in ALWAYS.items() for name in names.split()}
    ruled = {f"{rule.at}.{rule.field}".replace("[]", "") for rule in RULES}
    every = {path for path, _ in fields(Spec, "spec")}
    assert every - always - ruled - PLAN.keys() == set()
    assert always | PLAN.keys() <= every, "a field that is gone"
