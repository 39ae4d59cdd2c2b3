"""prepared.json: the results of preparation."""

from __future__ import annotations

from pathlib import Path

from llmtrain_trainer.config.strict import Strict
from llmtrain_trainer.data.cache import digest
from llmtrain_trainer.data.mixing.course import Course, CourseDataset, CourseStage
from llmtrain_trainer.data.model_facts import ModelFacts
from llmtrain_trainer.data.rows import SetStats
from llmtrain_trainer.run_dir.layout import write_atomically

FILE = "prepared.json"


class PreparedDataset(Strict):
    """One dataset entry after preparation."""

    source: str
    weight: float
    streaming: bool = False
    train: SetStats
    """Stats of the rows; for a streaming dataset, of its first chunk."""

    validation: SetStats | None = None

    def course_part(self, key: int, concat: bool) -> CourseDataset:
        """Its part of a course that begins with it."""
        name = digest(self.train.digest, self.train.length, self.train.rows)
        return CourseDataset(digest=name, weight=self.weight, key=key, rows=self.train.rows if concat else 0)


class Prepared(Strict):
    """Everything the ranks need to know about the data."""

    target_steps: int
    """Optimizer steps of the whole run."""

    train_samples: int
    """Rows of all training sets; of a streaming one, those of its first chunk."""

    epoch_samples: int
    """Samples of one epoch: what training.epochs counts."""

    concat: bool = False
    """Whether all datasets are shuffled as one."""

    stages: tuple[CourseStage, ...] = ()
    """Weights that replace those of the datasets, from samples on."""

    validation_samples: int
    tokens: int
    """Tokens of all training documents, each counted once."""

    targets: int
    """Tokens that are predicted in one pass over all training rows."""

    unigram_entropy: float
    """Unigram entropy of the mixed training targets, nats per token: the loss of a model that knows only the frequency of each token."""

    vocab_size: int
    """Tokens the tokenizer knows, special ones included."""

    model_vocab_size: int
    tokenizer_digest: str
    digest: str
    """Digest of tokenizer, rows and their order, which must be equal on every node."""

    ends: tuple[int, ...] = ()
    """Tokens at the end of documents and answers, at which generation stops. Those of the first dataset come first."""

    labels: tuple[str, ...] = ()
    """What a classifier tells apart, in the order of its outputs; empty in other tasks."""

    datasets: tuple[PreparedDataset, ...]
    model: ModelFacts = ModelFacts()
    """Facts that are compared with a checkpoint."""

    validation_sets: tuple[SetStats, ...] = ()
    warnings: tuple[str, ...] = ()

    def course(self, seed: int) -> Course:
        """The order of samples of a run that begins with these datasets."""
        parts = tuple(dataset.course_part(key, self.concat) for key, dataset in enumerate(self.datasets))
        return Course(seed=seed, parts=parts, concat=self.concat, stages=self.stages)

    def save(self, directory: Path) -> None:
        """Write prepared.json, as the last step of preparation."""
        write_atomically(directory / FILE, self.model_dump_json(by_alias=True, indent=2) + "\n")

    @classmethod
    def load(cls, directory: Path) -> Prepared:
        """From run.prepared. Raises FileNotFoundError before preparation is done."""
        return cls.model_validate_json((directory / FILE).read_text())
