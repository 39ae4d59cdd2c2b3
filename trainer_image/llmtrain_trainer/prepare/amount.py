"""Whether there is enough data for the requested training, which is known only after tokenisation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from llmtrain_trainer.config.tables.tasks import TASKS
from llmtrain_trainer.config.trainer import TrainerConfig
from llmtrain_trainer.data.bad_data import BadData
from llmtrain_trainer.data.rows import SetStats

MOST_PASSES = 4
"""Passes over the same text up to which it teaches almost as much as new text: Muennighoff et al. 2023."""

TOKENS_PER_PARAMETER = 20
"""Compute-optimal tokens per parameter: Hoffmann et al. 2022 (Chinchilla). The plan gives this advice if training.maxSteps is set."""

FEWEST_DOCUMENTS = 1000
"""Fine-tuning on fewer documents is rarely good: Zhou et al. 2023 (LIMA) used 1,000 chosen by hand."""


def check_warm_up(config: TrainerConfig, steps: int) -> None:
    """Raises BadData if the warm-up does not end within the steps that follow from training.epochs."""
    warm_up = config.training.schedule.warmup_steps
    if config.training.max_steps is not None or warm_up <= steps:
        return
    rule = f"{config.training.epochs:g} epochs of this data are {steps} steps, and the warm-up must end within them"
    way_out = f"Make it at most {steps}, usually 1 to 5 percent of that, or raise training.epochs"
    raise BadData("training.schedule.warmupSteps", warm_up, rule, way_out)


def sentences(config: TrainerConfig, train: Sequence[SetStats], steps: int) -> Iterator[str]:
    """Notices about too little data for so many steps. Each token and document counts once, however often it is seen."""
    if any(dataset.streaming for dataset in config.dataset):
        return
    tokens, documents = sum(stats.tokens for stats in train), sum(stats.documents for stats in train)
    samples = sum(stats.rows for stats in train)
    passes = round(steps * config.training.global_batch_size / max(1, samples))
    if TASKS[config.task].fine_tunes and documents < FEWEST_DOCUMENTS:
        yield f"The data has {documents:,} documents; fine-tuning on fewer than about {FEWEST_DOCUMENTS:,} rarely gives good results."
    if TASKS[config.task].fine_tunes:
        return
    if passes > MOST_PASSES:
        yield (
            f"Training makes {passes:,} passes over the {tokens:,} tokens of the data; "
            f"more than {MOST_PASSES} passes over the same text add little."
        )
    parameters = config.estimate.parameters
    scratch = config.model.config is not None or config.model.init == "random"
    trained = steps * config.training.global_batch_size * config.training.sequence_length
    if config.training.max_steps is None and scratch and parameters and trained < TOKENS_PER_PARAMETER * parameters:
        yield (
            f"{config.training.epochs:g} epochs are {trained:,} tokens, {trained / parameters:.2g} per parameter; "
            f"about {TOKENS_PER_PARAMETER} per parameter are compute-optimal (Hoffmann et al. 2022)."
        )
