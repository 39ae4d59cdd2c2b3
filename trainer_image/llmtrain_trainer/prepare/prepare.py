"""Everything that happens before ranks start: model files, tokenizer, tokenised rows.

Results are in the cache under a digest of their inputs; run.prepared holds links to them and, written last, prepared.json.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from llmtrain_trainer.config.dataset import Dataset
from llmtrain_trainer.config.tables.tasks import TASKS, is_packed
from llmtrain_trainer.config.trainer import TrainerConfig
from llmtrain_trainer.data.bad_data import BadData, Unreachable
from llmtrain_trainer.data.cache import build_once, digest, link, locked, make_own
from llmtrain_trainer.data.chunks import chunk_name
from llmtrain_trainer.data.formats.encoding import load_tokenizer
from llmtrain_trainer.data.formats.row_encoder import RowEncoder
from llmtrain_trainer.data.model_facts import ModelFacts
from llmtrain_trainer.data.prepared import Prepared, PreparedDataset
from llmtrain_trainer.data.rows import SetStats, read_stats
from llmtrain_trainer.data.sources.dataset import Row, held_back, in_batches, read_rows
from llmtrain_trainer.data.sources.reading import Reading
from llmtrain_trainer.data.target import target_steps
from llmtrain_trainer.model import generation
from llmtrain_trainer.model.tokenizer_facts import TokenizerFacts
from llmtrain_trainer.prepare import amount, mixed
from llmtrain_trainer.prepare.chunks import write_chunks
from llmtrain_trainer.prepare.entries import DatasetEntry, listed, tail_of
from llmtrain_trainer.prepare.head import labels_in, never_seen, place_head
from llmtrain_trainer.prepare.installed import check_installed
from llmtrain_trainer.prepare.mixed import epoch_of
from llmtrain_trainer.prepare.model_files import place_model
from llmtrain_trainer.prepare.settings import check_settings
from llmtrain_trainer.prepare.tokenizer_place import TokenizerPreparation
from llmtrain_trainer.prepare.told import check, sentences
from llmtrain_trainer.prepare.vocabulary import why_fixed
from llmtrain_trainer.run_dir.layout import RunDir
from llmtrain_trainer.run_dir.notices import tell
from llmtrain_trainer.tasks import rows_writer

__all__ = ["BadData", "Prepared", "Unreachable", "prepare"]

FORM = 4
"""Incremented when the format of the rows on disk changes, so that an older cache is not read."""

READING = "reading.json"
"""File in a directory of rows: the notices of reading them."""

BATCH_CHARACTERS = 1_000_000
"""Characters that are tokenised at once, which takes some hundred megabytes."""

BATCH_DOCUMENTS = 1024

CHOOSING = {"split", "field", "where", "template", "clean", "no_answer", "truncate", "system"}
"""Fields of a dataset that choose or change rows which its first chunk may not have."""

Say = Callable[[str], None]


def prepare(config: TrainerConfig, run: RunDir, cache: Path, say: Say) -> Prepared:
    """Fill run.prepared. Safe to call again and from several processes; what is in the cache is reused.

    Raises BadData if the data cannot be used, and Unreachable if a store or the hub does not answer.
    """
    with locked(run.root / "prepare.lock"):
        _forget(run.prepared)
        return _Preparation(config, run, cache, say).prepared()


@dataclass(frozen=True)
class _Preparation:
    """One call of `prepare`."""

    config: TrainerConfig
    run: RunDir
    cache: Path
    say: Say

    def prepared(self) -> Prepared:
        check_settings(self.config)
        check_installed(self.config)
        model_vocabulary = self._place_model_and_tokenizer()
        train = [self._train(i, entry) for i, entry in enumerate(self._entries)]
        validation = [self._validation(i, entry) for i, entry in enumerate(self._evaluation)]
        if self.config.validation_share:
            validation = [
                self._link_rows("validation", i, self._rows(entry, self.config.validation_share) / "validation")
                for i, entry in enumerate(self._entries)
            ]
        return self._sum_up(train, validation, model_vocabulary)

    @cached_property
    def _entries(self) -> list[DatasetEntry]:
        return listed("dataset", self.config.dataset, self._tell)

    @cached_property
    def _evaluation(self) -> list[DatasetEntry]:
        return listed("evaluation.dataset", self.config.evaluation.dataset if self.config.evaluation else (), self._tell)

    # The tokenizer and the model

    def _place_model_and_tokenizer(self) -> int:
        link(self._tokenizer_directory, self.run.prepared / "tokenizer")
        model = self.run.prepared / "model"
        return place_model(
            self.config.model,
            self._facts,
            model,
            self.cache,
            self.say,
            self._tell,
            why_fixed(self.config),
            self.config.task,
            lambda _: self._labels,
        )

    @cached_property
    def _labels(self) -> tuple[str, ...]:
        """What a classifier tells apart; nothing in other tasks. The model's files are placed by then."""
        if not TASKS[self.config.task].labels:
            return ()
        found = partial(labels_in, self._entries, self.cache, self._tell)
        return place_head(self.config, self.run.prepared / "model", found, self._tell)

    @property
    def _labelled(self) -> TrainerConfig:
        return self.config.model_copy(update={"labels": self._labels})

    @cached_property
    def _facts(self) -> TokenizerFacts:
        return TokenizerFacts.load(self._tokenizer_directory)

    @cached_property
    def _tokenizer(self) -> Any:
        return load_tokenizer(self._tokenizer_directory)

    @cached_property
    def _tokenizer_directory(self) -> Path:
        return TokenizerPreparation(self.config, self._entries, self.cache, self._tell, self.say).directory()

    def _tell(self, sentence: str) -> None:
        self.say(sentence)
        tell(self.run, sentence)

    # Rows

    def _train(self, index: int, entry: DatasetEntry) -> SetStats:
        if entry.dataset.streaming:
            return self._stream(index, entry)
        return self._link_rows("train", index, self._rows(entry, self.config.validation_share) / "train", entry)

    def _validation(self, index: int, entry: DatasetEntry) -> SetStats:
        return self._link_rows("validation", index, self._rows(entry, 0.0) / "train", entry)

    def _link_rows(self, kind: str, index: int, directory: Path, entry: DatasetEntry | None = None) -> SetStats:
        stats = read_stats(directory)
        if entry:
            check(entry.field, entry.dataset, stats)
        link(directory, self.run.prepared / kind / str(index))
        return stats

    def _rows(self, entry: DatasetEntry, split: float) -> Path:
        """The cached directory with train/ and validation/ of one dataset."""
        directory = build_once(
            self.cache / "rows" / self._rows_key(entry, split), lambda draft: self._tokenise(entry, split, draft), self._tell, _read
        )
        for sentence in _read(directory):
            self._tell(sentence)
        return directory

    def _rows_key(self, entry: DatasetEntry, split: float) -> str:
        training = self.config.training.model_dump(include={"sequence_length", "packing"})
        learned = (self.config.task, training, *([self._labels] if self._labels else []))
        settings = entry.dataset.model_dump(include={"ignore_columns", "control_tokens", "roles", "bad_rows", "system", "truncate"})
        return digest(FORM, entry.field, settings, entry.identity(self.cache), self._facts.digest, *learned, split)

    def _tokenise(self, entry: DatasetEntry, split: float, draft: Path) -> None:
        self.say(f"tokenising {entry.dataset.source}")
        reading, writers = Reading(), {}
        encode = RowEncoder(entry.field, entry.dataset, self._tokenizer, self._labelled, reading)
        for name in ("train", "validation"):
            (draft / name).mkdir()
            writers[name] = rows_writer(self.config.task, draft / name, self.config.training, entry.dataset.truncate)
        rows = read_rows(entry.field, entry.dataset, entry.files, reading)
        for batch in in_batches(rows, BATCH_CHARACTERS, BATCH_DOCUMENTS):
            for name, some in _divided(entry, batch, split).items():
                writers[name].add(encode(some))
        reading.check_bad(entry.field, entry.dataset)
        stats = {name: writer.finish() for name, writer in writers.items()}
        entry.unchanged()
        (draft / READING).write_text(json.dumps([*reading.sentences(entry.field), *_of_tails(entry, split)]))
        self.say(
            f"{entry.dataset.source}: {stats['train'].documents} documents, {stats['train'].tokens} tokens, {stats['train'].rows} rows"
        )

    def _stream(self, index: int, entry: DatasetEntry) -> SetStats:
        """Write the first chunk, so that bad data and the entropy are known before the ranks start."""
        directory = self.cache / "streams" / self._rows_key(entry, 0.0)
        make_own(directory.parent)
        make_own(directory)
        link(directory, self.run.prepared / "train" / str(index))
        next(write_chunks(entry.field, entry.dataset, self.config, directory, self._tokenizer_directory, self._tell), None)
        first = directory / chunk_name(0)
        if not first.exists():
            raise BadData(f"{entry.field}.source", entry.dataset.source, "there is no document in it", "Check the files")
        stats = read_stats(first)
        check(entry.field, entry.dataset, stats)
        return stats

    # The sum

    def _sum_up(self, train: Sequence[SetStats], validation: Sequence[SetStats], model_vocabulary: int) -> Prepared:
        samples = sum(stats.rows for stats in train)
        _check_enough(self.config, samples, validation)
        ends = tuple(dict.fromkeys(token for stats in train for token in stats.ends))
        epoch = 0 if any(dataset.streaming for dataset in self.config.dataset) else epoch_of(self.config, train)
        steps = target_steps(self.config, epoch)
        amount.check_warm_up(self.config, steps)
        counts = [self._counts(i, entry) for i, entry in enumerate(self._entries)]
        about_data = (*self._sentences(train, validation), *never_seen(self._labels, counts, self.config.dataset))
        warnings = (*about_data, *self._place_generation(ends), *amount.sentences(self.config, train, steps))
        warnings = (*warnings, *mixed.notices(self.config, train, epoch))
        for warning in warnings:
            self._tell(warning)
        prepared = Prepared(
            target_steps=steps,
            train_samples=samples,
            epoch_samples=epoch,
            concat=self.config.mixing == "concat",
            stages=mixed.stages(self.config),
            validation_samples=sum(stats.rows for stats in validation),
            tokens=sum(stats.tokens for stats in train),
            targets=sum(stats.targets for stats in train),
            unigram_entropy=_entropy(mixed.shares(self.config, train, steps), counts),
            vocab_size=self._facts.size,
            model_vocab_size=model_vocabulary,
            tokenizer_digest=self._facts.digest,
            model=ModelFacts.of(self.config.model, self.run.prepared / "model", self.config.training.seed),
            ends=ends,
            digest=self._digest(train, validation),
            datasets=tuple(
                PreparedDataset(source=entry.dataset.source, weight=entry.dataset.weight, streaming=entry.dataset.streaming, train=stats)
                for entry, stats in zip(self._entries, train, strict=True)
            ),
            validation_sets=tuple(validation),
            labels=self._labels,
            warnings=warnings,
        )
        for sentence in mixed.reading(prepared, self.config):
            self.say(sentence)
        prepared.save(self.run.prepared)
        return prepared

    def _digest(self, train: Sequence[SetStats], validation: Sequence[SetStats]) -> str:
        """Of what is trained on. Only the first chunk of a stream is there, so what chooses its later rows counts too."""
        streams = {i: chosen for i, dataset in enumerate(self.config.dataset) if dataset.streaming and (chosen := _chosen(dataset))}
        weights = [dataset.weight for dataset in self.config.dataset]
        sets = ([stats.digest for stats in train], [stats.digest for stats in validation])
        mixing = [self.config.model_dump(include={"mixing", "curriculum"})] if self.config.mixing or self.config.curriculum else []
        return digest(self._facts.digest, *sets, weights, *([streams] if streams else []), *mixing)

    def _sentences(self, train: Sequence[SetStats], validation: Sequence[SetStats]) -> Iterator[str]:
        """Notices about the data. Held-out documents are included in the notices of their dataset."""
        made = [*zip(self._entries, train, strict=True)]
        if not self.config.validation_share:
            made += zip(self._evaluation, validation, strict=True)
        return (sentence for entry, stats in made for sentence in sentences(entry.field, stats))

    def _place_generation(self, ends: Sequence[int]) -> Iterator[str]:
        model = self.run.prepared / "model"
        before = generation.named_ends(model)
        generation.write_generation(model, self._facts, ends, labels=bool(self._labels))
        return generation.sentences(self.config, before, ends, generation.token_names(self._tokenizer_directory))

    def _counts(self, index: int, entry: DatasetEntry) -> np.ndarray[Any, Any]:
        directory = self.run.prepared / "train" / str(index)
        counts: np.ndarray[Any, Any] = np.load((directory / chunk_name(0) if entry.dataset.streaming else directory) / "counts.npy")
        return counts


def _read(directory: Path) -> list[str]:
    """The sentences on a directory of rows, once its stats are read too. Raises ValueError or OSError where another version wrote it."""
    for name in ("train", "validation"):
        read_stats(directory / name)
    found = json.loads((directory / READING).read_text())
    if not isinstance(found, list):
        raise ValueError(f"{READING} holds no list of sentences")
    return found


def _chosen(dataset: Dataset) -> dict[str, Any]:
    """Settings that choose or change rows, where they are not the defaults."""
    return dataset.model_dump(mode="json", include=CHOOSING, exclude_defaults=True)


def _forget(prepared: Path) -> None:
    """Remove the files and links of an earlier preparation of this run, never what the links point to."""
    for old in (*prepared.glob("*.json"), *(entry for name in ("model", "train", "validation") for entry in prepared.glob(f"{name}/*"))):
        old.unlink()


def _divided(entry: DatasetEntry, rows: Sequence[Row], split: float) -> dict[str, list[Row]]:
    """Which rows are trained on and which are held out."""
    if entry.holds_tails_back(split):
        pairs = [tail_of(row, entry.dataset.columns.text, split) for row in rows]
        return {"train": [before for before, _ in pairs], "validation": [after for _, after in pairs]}
    held = [held_back(entry.dataset, row, split) for row in rows]
    return {
        "train": [row for row, is_held in zip(rows, held, strict=True) if not is_held],
        "validation": [row for row, is_held in zip(rows, held, strict=True) if is_held],
    }


def _of_tails(entry: DatasetEntry, split: float) -> Iterator[str]:
    if entry.holds_tails_back(split):
        count = f"{len(entry.files)} text files are" if len(entry.files) > 1 else "One text file is"
        yield f"{entry.field}: {count} too few to hold out whole texts, so the last {split:.3g} of each is the validation data."


def _check_enough(config: TrainerConfig, samples: int, validation: Sequence[SetStats]) -> None:
    size, length = config.training.global_batch_size, config.training.sequence_length
    if samples < size and not any(dataset.streaming for dataset in config.dataset):
        rule = f"the data makes {samples} rows of {length} tokens, fewer than one global batch"
        packed = ", packing: false" if is_packed(config.task, config.training.packing) else ""
        more = packed if TASKS[config.task].fine_tunes else ", a smaller sequenceLength"
        raise BadData("training.globalBatchSize", size, rule, f"Give more data{more} or a smaller globalBatchSize")
    if validation and not any(stats.rows for stats in validation):
        rule = f"the {sum(s.documents for s in validation)} documents held out make no row of {length} tokens"
        raise BadData("evaluation.split", config.evaluation and config.evaluation.split, rule, "Raise it, or give evaluation.dataset")


def _entropy(weights: Sequence[float], counts: Sequence[np.ndarray[Any, Any]]) -> float:
    """-sum p ln p of the tokens' frequencies, datasets mixed by weight."""
    mixture = np.zeros(max(len(some) for some in counts))
    for weight, some in zip(weights, counts, strict=True):
        mixture[: len(some)] += weight * some / max(1, some.sum())
    shares = mixture[mixture > 0] / mixture.sum()
    return float(-(shares * np.log(shares)).sum())
