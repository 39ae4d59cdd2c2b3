"""All that happens before ranks start: model files, tokenizer, tokenised rows. Called by the agent and by `llmtrain-trainer prepare`.

What it makes lies in the cache under a digest of what went in; run.prepared holds links to it and, written last, prepared.json.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from llmtrain_trainer.config.dataset import Dataset
from llmtrain_trainer.config.trainer import TrainerConfig
from llmtrain_trainer.data.bad_data import BadData, Unreachable
from llmtrain_trainer.data.cache import build_once, digest, link, locked
from llmtrain_trainer.data.encoding import Encoder, load_tokenizer
from llmtrain_trainer.data.files import File
from llmtrain_trainer.data.formats import PLAIN_TEMPLATE, plain_texts
from llmtrain_trainer.data.model_files import TOKENIZER, local_files, place_model
from llmtrain_trainer.data.prepared import Prepared, PreparedDataset
from llmtrain_trainer.data.rows import SetStats, read_stats
from llmtrain_trainer.data.sources import dataset_files, held_back, in_batches, read_rows
from llmtrain_trainer.data.streaming import chunk_name, write_chunks
from llmtrain_trainer.data.tokenizer_facts import TokenizerFacts
from llmtrain_trainer.notices import tell
from llmtrain_trainer.run_dir import RunDir
from llmtrain_trainer.tasks import formats, rows_writer

__all__ = ["BadData", "Prepared", "Unreachable", "prepare"]

FORM = 1
"""Raised when the rows on disk change their form, so that an older cache is not read."""

BATCH_CHARACTERS = 1_000_000
"""Text that is tokenised at once: some hundred megabytes while it lasts."""

BATCH_DOCUMENTS = 1024

Say = Callable[[str], None]


def prepare(config: TrainerConfig, run: RunDir, cache: Path, say: Say) -> Prepared:
    """Fill run.prepared. Safe to call again and from several processes; what the cache holds already is not made again.

    Raises BadData where the data cannot be used and Unreachable where a store or the hub does not answer.
    """
    with locked(run.root / "prepare.lock"):
        _forget(run.prepared)
        return _Preparation(config, run, cache, say).prepared()


@dataclass(frozen=True)
class _Entry:
    """A dataset entry with its files."""

    field: str
    dataset: Dataset
    files: Sequence[File]

    @property
    def identity(self) -> list[object]:
        kept = self.dataset.model_dump(include={"format", "columns", "max_samples"})
        return [kept, [file.identity for file in self.files]]


@dataclass(frozen=True)
class _Preparation:
    """One call of `prepare`."""

    config: TrainerConfig
    run: RunDir
    cache: Path
    say: Say

    def prepared(self) -> Prepared:
        _check_settings(self.config)
        model_vocabulary = self._place_model_and_tokenizer()
        train = [self._train(i, entry) for i, entry in enumerate(self._entries)]
        validation = [self._validation(i, entry) for i, entry in enumerate(self._evaluation)]
        if self._split:
            validation = [
                self._link_rows("validation", i, self._rows(entry, self._split) / "validation") for i, entry in enumerate(self._entries)
            ]
        return self._sum_up(train, validation, model_vocabulary)

    @cached_property
    def _entries(self) -> list[_Entry]:
        return _listed("dataset", self.config.dataset)

    @cached_property
    def _evaluation(self) -> list[_Entry]:
        return _listed("evaluation.dataset", self.config.evaluation.dataset if self.config.evaluation else ())

    @property
    def _split(self) -> float:
        evaluation = self.config.evaluation
        return evaluation.split if evaluation and not evaluation.dataset else 0.0

    # The tokenizer and the model

    def _place_model_and_tokenizer(self) -> int:
        link(self._tokenizer_directory, self.run.prepared / "tokenizer")
        return place_model(self.config.model, self._facts, self.run.prepared / "model", self.cache, self.say)

    @cached_property
    def _facts(self) -> TokenizerFacts:
        return TokenizerFacts.load(self._tokenizer_directory)

    @cached_property
    def _tokenizer(self) -> Any:
        return load_tokenizer(self._tokenizer_directory)

    @cached_property
    def _tokenizer_directory(self) -> Path:
        settings = self.config.tokenizer
        template = settings.chat_template if settings else None
        fallback = PLAIN_TEMPLATE if self.config.task != "pretrain" else None
        if settings and settings.train:
            key = digest("trained", settings.train.model_dump(), template, fallback, [entry.identity for entry in self._entries])
            return build_once(self.cache / "tokenizers" / key, lambda draft: self._train_tokenizer(draft, template or fallback))
        source, field, revision = self._tokenizer_source()
        files = local_files(field, source, revision, TOKENIZER, self.cache)
        if not any(path.name == "tokenizer.json" or path.suffix == ".model" or path.name.startswith("vocab.") for path in files):
            way_out = "Give tokenizer.source a directory or repository with tokenizer.json, or tokenizer.train"
            raise BadData(field, source, "there is no tokenizer in it", way_out)
        key = digest(
            "loaded", [(path.name, path.stat().st_size, path.stat().st_mtime_ns, str(path.resolve())) for path in files], template, fallback
        )
        return build_once(
            self.cache / "tokenizers" / key, lambda draft: self._load_tokenizer(draft, files, field, source, template, fallback)
        )

    def _tokenizer_source(self) -> tuple[str, str, str | None]:
        settings, model = self.config.tokenizer, self.config.model
        if settings and settings.source:
            return settings.source, "tokenizer.source", None
        if model.source:
            return model.source, "model.source", model.revision
        raise BadData(
            "tokenizer", "not set", "a model made from model.config brings no tokenizer", "Set tokenizer.source or tokenizer.train"
        )

    def _train_tokenizer(self, draft: Path, template: str | None) -> None:
        from llmtrain_trainer.tasks import tokenizer as tokenizers

        assert self.config.tokenizer and self.config.tokenizer.train
        settings = self.config.tokenizer.train
        self.say(f"training a {settings.algorithm} tokenizer of {settings.vocab_size} tokens")
        trained = tokenizers.train(settings, lambda: self._texts(settings.max_samples))
        trained.chat_template = template
        _save_tokenizer(trained, draft)

    def _load_tokenizer(
        self, draft: Path, files: Sequence[Path], field: str, source: str, template: str | None, fallback: str | None
    ) -> None:
        from llmtrain_trainer.tasks import tokenizer as tokenizers

        for path in files:
            link(path, draft / path.name)
        tokenizer = tokenizers.load(draft, field, source)
        for path in files:
            (draft / path.name).unlink()
        tokenizer.chat_template = template or tokenizer.chat_template or fallback
        _save_tokenizer(tokenizer, draft)

    def _texts(self, most: int | None) -> Iterator[str]:
        """Texts of all datasets in turns, so that a limit leaves no dataset out."""
        by_entry = [
            (plain_texts(entry.field, entry.dataset, row) for row in read_rows(entry.field, entry.dataset, entry.files))
            for entry in self._entries
        ]
        documents = (texts for some in zip_longest(*by_entry) for texts in some if texts is not None)
        return (text for texts in islice(documents, most) for text in texts)

    # Rows

    def _train(self, index: int, entry: _Entry) -> SetStats:
        if entry.dataset.streaming:
            return self._stream(index, entry)
        return self._link_rows("train", index, self._rows(entry, self._split) / "train", entry)

    def _validation(self, index: int, entry: _Entry) -> SetStats:
        return self._link_rows("validation", index, self._rows(entry, 0.0) / "train", entry)

    def _link_rows(self, kind: str, index: int, directory: Path, entry: _Entry | None = None) -> SetStats:
        stats = read_stats(directory)
        if entry:
            _check_rows(entry, stats)
        link(directory, self.run.prepared / kind / str(index))
        return stats

    def _rows(self, entry: _Entry, split: float) -> Path:
        """The cached directory with train/ and validation/ of one dataset."""
        return build_once(self.cache / "rows" / self._rows_key(entry, split), lambda draft: self._tokenise(entry, split, draft))

    def _rows_key(self, entry: _Entry, split: float) -> str:
        training = self.config.training.model_dump(include={"sequence_length", "packing"})
        return digest(FORM, entry.identity, self._facts.digest, self.config.task, training, split)

    def _tokenise(self, entry: _Entry, split: float, draft: Path) -> None:
        self.say(f"tokenising {entry.dataset.source}")
        encoder = Encoder(entry.field, entry.dataset, self._tokenizer)
        writers = {}
        for name in ("train", "validation"):
            (draft / name).mkdir()
            writers[name] = rows_writer(self.config.task, draft / name, self.config.training)
        for batch in in_batches(read_rows(entry.field, entry.dataset, entry.files), BATCH_CHARACTERS, BATCH_DOCUMENTS):
            held = [held_back(entry.dataset, row, split) for row in batch]
            documents = encoder(batch)
            writers["validation"].add(d for d, is_held in zip(documents, held, strict=True) if is_held)
            writers["train"].add(d for d, is_held in zip(documents, held, strict=True) if not is_held)
        stats = {name: writer.finish() for name, writer in writers.items()}
        self.say(
            f"{entry.dataset.source}: {stats['train'].documents} documents, {stats['train'].tokens} tokens, {stats['train'].rows} rows"
        )

    def _stream(self, index: int, entry: _Entry) -> SetStats:
        """Write the first chunk, so that bad data and the entropy are known before the ranks start."""
        directory = self.cache / "streams" / self._rows_key(entry, 0.0)
        directory.mkdir(parents=True, exist_ok=True)
        link(directory, self.run.prepared / "train" / str(index))
        next(write_chunks(entry.field, entry.dataset, self.config, directory, self._tokenizer_directory), None)
        first = directory / chunk_name(0)
        if not first.exists():
            raise BadData(f"{entry.field}.source", entry.dataset.source, "there is no document in it", "Check the files")
        stats = read_stats(first)
        _check_rows(entry, stats)
        return stats

    # The sum

    def _sum_up(self, train: Sequence[SetStats], validation: Sequence[SetStats], model_vocabulary: int) -> Prepared:
        samples = sum(stats.rows for stats in train)
        _check_enough(self.config, samples, validation)
        warnings = tuple(_warnings(self._entries, train, self.config.training.sequence_length))
        for warning in warnings:
            self.say(warning)
            tell(self.run, warning)
        prepared = Prepared(
            target_steps=_target_steps(self.config, samples),
            train_samples=samples,
            validation_samples=sum(stats.rows for stats in validation),
            tokens=sum(stats.tokens for stats in train),
            targets=sum(stats.targets for stats in train),
            unigram_entropy=_entropy(self.config.dataset, [self._counts(i, entry) for i, entry in enumerate(self._entries)]),
            vocab_size=self._facts.size,
            model_vocab_size=model_vocabulary,
            tokenizer_digest=self._facts.digest,
            digest=digest(
                self._facts.digest, [s.digest for s in train], [s.digest for s in validation], [d.weight for d in self.config.dataset]
            ),
            datasets=tuple(
                PreparedDataset(source=entry.dataset.source, weight=entry.dataset.weight, streaming=entry.dataset.streaming, train=stats)
                for entry, stats in zip(self._entries, train, strict=True)
            ),
            validation_sets=tuple(validation),
            warnings=warnings,
        )
        prepared.save(self.run.prepared)
        return prepared

    def _counts(self, index: int, entry: _Entry) -> np.ndarray[Any, Any]:
        directory = self.run.prepared / "train" / str(index)
        counts: np.ndarray[Any, Any] = np.load((directory / chunk_name(0) if entry.dataset.streaming else directory) / "counts.npy")
        return counts


def _forget(prepared: Path) -> None:
    """Take away what an earlier preparation of this run left: its files and links, never what they point to."""
    for old in (*prepared.glob("*.json"), *(entry for name in ("model", "train", "validation") for entry in prepared.glob(f"{name}/*"))):
        old.unlink()


def _listed(field: str, datasets: Sequence[Dataset]) -> list[_Entry]:
    return [_Entry(f"{field}[{i}]", dataset, dataset_files(f"{field}[{i}]", dataset)) for i, dataset in enumerate(datasets)]


def _save_tokenizer(tokenizer: Any, directory: Path) -> None:
    tokenizer.save_pretrained(directory)
    TokenizerFacts.save(tokenizer, directory)


def _check_settings(config: TrainerConfig) -> None:
    accepted = formats(config.task)
    evaluated = config.evaluation.dataset if config.evaluation else ()
    for field, dataset in [*_fields("dataset", config.dataset), *_fields("evaluation.dataset", evaluated)]:
        if dataset.format not in accepted:
            raise BadData(
                f"{field}.format", dataset.format, f"task {config.task} reads {' or '.join(accepted)}", "Change the format or the task"
            )
    if any(dataset.streaming for dataset in evaluated):
        raise BadData("evaluation.dataset.streaming", "true", "validation data is read many times", "Leave streaming out")
    if not any(dataset.streaming for dataset in config.dataset):
        return
    if config.training.max_steps is None:
        raise BadData("training.maxSteps", "not set", "the end of a streaming dataset is not known", "Set training.maxSteps")
    if config.evaluation and config.evaluation.split and not evaluated:
        way_out = "Give evaluation.dataset, or leave streaming out"
        raise BadData(
            "evaluation.split",
            config.evaluation.split,
            "a streaming dataset is not whole before training, so none of it can be held back",
            way_out,
        )


def _fields(field: str, datasets: Iterable[Dataset]) -> list[tuple[str, Dataset]]:
    return [(f"{field}[{i}]", dataset) for i, dataset in enumerate(datasets)]


def _check_rows(entry: _Entry, stats: SetStats) -> None:
    if stats.rows:
        return
    found = f"{stats.documents} documents with {stats.tokens} tokens, {stats.dropped} left out as empty or without an answer"
    way_out = "Give more data or a smaller training.sequenceLength"
    raise BadData(f"{entry.field}.source", entry.dataset.source, f"it makes no row of {stats.length} tokens (found {found})", way_out)


def _check_enough(config: TrainerConfig, samples: int, validation: Sequence[SetStats]) -> None:
    size, length = config.training.global_batch_size, config.training.sequence_length
    if samples < size and not any(dataset.streaming for dataset in config.dataset):
        rule = f"the data makes {samples} rows of {length} tokens, fewer than one global batch"
        raise BadData("training.globalBatchSize", size, rule, "Give more data, a smaller globalBatchSize or a smaller sequenceLength")
    if validation and not any(stats.rows for stats in validation):
        rule = f"the {sum(s.documents for s in validation)} documents held back make no row of {length} tokens"
        raise BadData("evaluation.split", config.evaluation and config.evaluation.split, rule, "Raise it, or give evaluation.dataset")


def _target_steps(config: TrainerConfig, samples: int) -> int:
    """maxSteps, or enough steps to see every row `epochs` times."""
    if config.training.max_steps is not None:
        return config.training.max_steps
    if config.training.epochs is None:
        raise BadData("training.maxSteps", "not set", "the length of the training is not known", "Set training.maxSteps or training.epochs")
    return math.ceil(Fraction(repr(config.training.epochs)) * samples / config.training.global_batch_size)


def _warnings(entries: Sequence[_Entry], train: Sequence[SetStats], length: int) -> Iterator[str]:
    for entry, stats in zip(entries, train, strict=True):
        if stats.truncated:
            yield f"{entry.field}: {stats.truncated} documents are longer than {length} tokens and were cut"
        if stats.dropped:
            yield f"{entry.field}: {stats.dropped} documents are empty or have no answer within {length} tokens and were left out"


def _entropy(datasets: Sequence[Dataset], counts: Sequence[np.ndarray[Any, Any]]) -> float:
    """-sum p ln p of the tokens' frequencies, datasets mixed by weight."""
    mixed = np.zeros(max(len(some) for some in counts))
    for dataset, some in zip(datasets, counts, strict=True):
        mixed[: len(some)] += dataset.weight * some / max(1, some.sum())
    shares = mixed[mixed > 0] / mixed.sum()
    return float(-(shares * np.log(shares)).sum())
