"""What the mixture of the datasets comes to, once their rows are counted: samples of an epoch, passes over each dataset. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from llmtrain_trainer.config.trainer import TrainerConfig
from llmtrain_trainer.data.mixing.course import Course, CourseDataset, CourseStage
from llmtrain_trainer.data.mixing.course_index import CourseIndex
from llmtrain_trainer.data.mixing.epoch import epoch_samples
from llmtrain_trainer.data.mixing.order import Mixture
from llmtrain_trainer.data.prepared import Prepared
from llmtrain_trainer.data.rows import SetStats


def epoch_of(config: TrainerConfig, train: Sequence[SetStats]) -> int:
    """Samples of one epoch."""
    return epoch_samples(config.mixing, [stats.rows for stats in train], [dataset.weight for dataset in config.dataset])


def stages(config: TrainerConfig) -> tuple[CourseStage, ...]:
    """The curriculum by samples instead of steps."""
    size = config.training.global_batch_size
    return tuple(CourseStage(at=(stage.from_step - 1) * size, weights=stage.weights) for stage in config.curriculum)


def shares(config: TrainerConfig, train: Sequence[SetStats], steps: int) -> list[float]:
    """How much of the training is drawn from each dataset, as weights."""
    if config.mixing == "concat":
        return [float(stats.rows) for stats in train]
    weights = [dataset.weight for dataset in config.dataset]
    if not config.curriculum:
        return weights
    parts = tuple(CourseDataset(digest=str(i), weight=weight, key=i) for i, weight in enumerate(weights))
    course = Course(seed=0, parts=parts, stages=stages(config))
    return [float(count) for count in CourseIndex(course).counts(steps * config.training.global_batch_size)]


def notices(config: TrainerConfig, train: Sequence[SetStats], epoch: int) -> Iterator[str]:
    """What `mixing` repeats or leaves for the next epoch."""
    if config.mixing not in ("over", "under") or len(train) == 1:
        return
    drawn = Mixture([dataset.weight for dataset in config.dataset]).counts(epoch)
    counted = enumerate(zip(drawn, train, strict=True))
    each = ", ".join(f"{count} samples of the {stats.rows} rows of dataset[{i}]" for i, (count, stats) in counted)
    yield f"mixing {config.mixing}: an epoch is {epoch} samples: {each}."


def reading(prepared: Prepared, config: TrainerConfig) -> Iterator[str]:
    """How often the run reads each of several datasets."""
    if len(prepared.datasets) == 1 or any(dataset.streaming for dataset in prepared.datasets):
        return
    samples = prepared.target_steps * config.training.global_batch_size
    counts = CourseIndex(prepared.course(config.training.seed)).counts(samples)
    times = ", ".join(
        f"dataset[{i}] {n / each.train.rows:.3g} times" for i, (n, each) in enumerate(zip(counts, prepared.datasets, strict=True))
    )
    yield f"{prepared.target_steps} steps are {samples} samples, of epochs of {prepared.epoch_samples}: they read {times}"
