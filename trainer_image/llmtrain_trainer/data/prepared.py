"""prepared.json: what preparation found and made. Written by prepare, read by the agent, the ranks and the report."""

from __future__ import annotations

from pathlib import Path

from llmtrain_trainer.config.strict import Strict
from llmtrain_trainer.data.cache import digest
from llmtrain_trainer.data.course import Course, Part
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
    """Of a streaming dataset: its first chunk."""

    validation: SetStats | None = None


class Prepared(Strict):
    """Everything the ranks need to know of the data."""

    target_steps: int
    """Optimizer steps of the whole run."""

    train_samples: int
    """Rows of all training sets; a streaming one counts with its first chunk."""

    validation_samples: int
    tokens: int
    """Tokens of all training documents, each counted once."""

    targets: int
    """Tokens that are predicted in one pass over all training rows."""

    unigram_entropy: float
    """Nats a token of the mixed training targets: the loss of a model that knows nothing but how frequent each token is."""

    vocab_size: int
    """Tokens the tokenizer knows, special ones included."""

    model_vocab_size: int
    tokenizer_digest: str
    digest: str
    """Of tokenizer, rows and their order: equal on every node, or they would train on different data."""

    ends: tuple[int, ...] = ()
    """Tokens that documents and answers end in: where generation is to stop. The first dataset's come first."""

    datasets: tuple[PreparedDataset, ...]
    model: ModelFacts = ModelFacts()
    """What a checkpoint of this run is compared with."""

    validation_sets: tuple[SetStats, ...] = ()
    warnings: tuple[str, ...] = ()

    def course(self, seed: int) -> Course:
        """The order of samples of a run that begins with these datasets."""
        named = [(dataset.weight, digest(dataset.train.digest, dataset.train.length, dataset.train.rows)) for dataset in self.datasets]
        return Course(seed=seed, parts=tuple(Part(digest=name, weight=weight, key=key) for key, (weight, name) in enumerate(named)))

    def save(self, directory: Path) -> None:
        """Write prepared.json; the last act of preparation."""
        write_atomically(directory / FILE, self.model_dump_json(by_alias=True, indent=2) + "\n")

    @classmethod
    def load(cls, directory: Path) -> Prepared:
        """From run.prepared. Raises FileNotFoundError before preparation is done."""
        return cls.model_validate_json((directory / FILE).read_text())
