"""The tokenizer of a run as a directory of the cache: trained on the job's documents, or made from files."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from llmtrain_trainer.checkpoint.store.destination import open_store
from llmtrain_trainer.checkpoint.store.errors import StoreError
from llmtrain_trainer.config.mounts import resolve
from llmtrain_trainer.config.tables.chat_templates import ALPACA_TEMPLATE, CHAT_TEMPLATES, text_of
from llmtrain_trainer.config.tables.tasks import TASKS
from llmtrain_trainer.config.trainer import TrainerConfig
from llmtrain_trainer.data.bad_data import BadData, Unreachable
from llmtrain_trainer.data.blame import blamed_on
from llmtrain_trainer.data.cache import Told, build_once, digest, file_digest, link
from llmtrain_trainer.data.formats.encoding import load_tokenizer
from llmtrain_trainer.data.formats.rendering import PLAIN_TEMPLATE
from llmtrain_trainer.data.sources.readers import MARK
from llmtrain_trainer.model.tokenizer_facts import TokenizerFacts
from llmtrain_trainer.prepare.entries import DatasetEntry, texts
from llmtrain_trainer.prepare.model_files import TOKENIZER, local_files
from llmtrain_trainer.prepare.tokenizer_checks import check_ids, check_json, check_loaded
from llmtrain_trainer.prepare.tokenizer_store import TokenizerStore

FORM = 3
"""Incremented when the format of a kept tokenizer changes, so that an older cache is not read."""

_CONTROL_TOKEN = re.compile(r"<\|\w+\|>|<\w+_of_turn>|<\uff5c[\w\u2581]+\uff5c>")

Say = Callable[[str], None]


@dataclass(frozen=True)
class TokenizerPreparation:
    """Where the tokenizer of a job comes from and goes to."""

    config: TrainerConfig
    entries: Sequence[DatasetEntry]
    cache: Path
    told: Told
    """Receives notices."""

    say: Say
    """Takes what happens."""

    def directory(self) -> Path:
        """The directory with tokenizer.json and its facts. Raises BadData, Unreachable."""
        settings = self.config.tokenizer
        directory = self._trained() if settings and settings.train else self._loaded()
        if settings and settings.chat_template and settings.chat_template in CHAT_TEMPLATES:
            self._tell_of_letters(settings.chat_template, directory)
        return directory

    def _tell_of_letters(self, name: str, directory: Path) -> None:
        """A template written for another tokenizer may write control tokens that this one does not have."""
        known = load_tokenizer(directory).get_vocab()
        lacking = [token for token in dict.fromkeys(_CONTROL_TOKEN.findall(CHAT_TEMPLATES[name])) if token not in known]
        if lacking:
            self.told(
                f"tokenizer.chatTemplate: {name} writes {', '.join(lacking)}, which the tokenizer does not have as tokens: they are "
                "written in letters."
            )

    @property
    def _template(self) -> str | None:
        settings = self.config.tokenizer
        return text_of(settings.chat_template) if settings and settings.chat_template else None

    @property
    def _fallback(self) -> str | None:
        if not TASKS[self.config.task].fine_tunes or TASKS[self.config.task].labels:
            return None
        return ALPACA_TEMPLATE if any(dataset.format == "alpaca" for dataset in self.config.dataset) else PLAIN_TEMPLATE

    def _begun(self, tokenizer: Any) -> str | None:
        """The fallback, with the begin token if the tokenizer puts it before every text."""
        from llmtrain_trainer.data.formats.encoding import has_habitual_bos

        begin = "{{ bos_token }}" if has_habitual_bos(tokenizer) else ""
        return self._fallback and begin + self._fallback

    # Trained

    def _trained(self) -> Path:
        """The tokenizer of the checkpoint that the run resumes from comes first, then one that another node trained on the same data."""
        assert self.config.tokenizer and self.config.tokenizer.train
        recipe = digest(self.config.tokenizer.train.model_dump(), self._template, self._fallback)
        key = digest(FORM, "trained", recipe, [entry.identity(self.cache) for entry in self.entries])
        if self.config.checkpoint is None:
            return build_once(self.cache / "tokenizers" / key, self._train, self.told, TokenizerFacts.load)
        destination = self.config.checkpoint.destination
        try:
            kept = TokenizerStore(open_store(resolve(destination)))
            of_data, of_checkpoint = kept.of_data(key), kept.of_checkpoint(self.config.checkpoint.resume, recipe)
            if of_checkpoint is not None and of_checkpoint != of_data:
                short = of_checkpoint[:12]
                self.told(f"The tokenizer is the one of the checkpoints ({short}), which was trained on data that has changed since.")
            name = of_checkpoint or of_data
            if name is None:
                directory = build_once(self.cache / "tokenizers" / key, self._train, self.told, TokenizerFacts.load)
                name = kept.keep(directory, TokenizerFacts.load(directory).digest, recipe, key)
            return self._fetched(kept, name)
        except StoreError as error:
            raise Unreachable("checkpoint.destination", destination, error) from error

    def _fetched(self, kept: TokenizerStore, name: str) -> Path:
        def fetch(draft: Path) -> None:
            self.say(f"taking the tokenizer {name} that is kept in {kept.store.uri()}")
            kept.fetch(name, draft)

        return build_once(self.cache / "tokenizers" / digest(FORM, "kept", name), fetch, self.told, TokenizerFacts.load)

    def _train(self, draft: Path) -> None:
        from llmtrain_trainer.prepare import tokenizer as tokenizers

        assert self.config.tokenizer and self.config.tokenizer.train
        settings = self.config.tokenizer.train
        self.say(f"training a {settings.algorithm} tokenizer of {settings.vocab_size} tokens")
        source = _Remembered(lambda: texts(self.entries, settings.max_samples), tokenizers.cut)
        with blamed_on("tokenizer.train", settings.algorithm, "training it on the data fails", "Try another algorithm or vocabSize"):
            try:
                trained = tokenizers.train(settings, source)
            except BaseException:
                if source.error is not None:
                    raise source.error from None
                raise
            trained.chat_template = self._template or self._fallback
            _save(trained, draft)
        if source.cut:
            documents = "1 document holds" if source.cut == 1 else f"{source.cut} documents hold"
            self.told(
                f"tokenizer.train: {documents} words of more than {tokenizers.LONGEST_WORD:,} letters without white space, which were "
                "cut to train the tokenizer."
            )
        for entry in self.entries:
            entry.unchanged()

    # Loaded

    def _loaded(self) -> Path:
        source, field, revision = self._source()
        files = local_files(field, source, revision, TOKENIZER, self.cache)
        if not any(path.name == "tokenizer.json" or path.suffix == ".model" or path.name.startswith("vocab.") for path in files):
            way_out = "Give tokenizer.source a directory or repository with tokenizer.json, or tokenizer.train"
            raise BadData(field, source, "there is no tokenizer in it", way_out)
        with blamed_on(field, source, "its files cannot be read", "Check the files and their permissions"):
            contents = [(path.name, file_digest(path)) for path in files]
        key = digest(FORM, "checked", contents, self._template, self._fallback)
        load = partial(self._load, files=files, field=field, source=source)
        return build_once(self.cache / "tokenizers" / key, load, self.told, TokenizerFacts.load)

    def _source(self) -> tuple[str, str, str | None]:
        settings, model = self.config.tokenizer, self.config.model
        if settings and settings.source:
            return settings.source, "tokenizer.source", None
        if model.source:
            return model.source, "model.source", model.revision
        raise BadData(
            "tokenizer", "not set", "a model made from model.config brings no tokenizer", "Set tokenizer.source or tokenizer.train"
        )

    def _load(self, draft: Path, files: Sequence[Path], field: str, source: str) -> None:
        from llmtrain_trainer.prepare import tokenizer as tokenizers

        check_json(field, source, files)
        check_ids(field, source, files)
        for path in files:
            link(path, draft / path.name)
        way_out = "Give a directory or repository with a tokenizer.json that the tokenizers library reads"
        with blamed_on(field, source, "no tokenizer can be loaded from it", way_out):
            tokenizer = tokenizers.load(draft, field, source)
        check_loaded(field, source, tokenizer, files)
        for path in files:
            (draft / path.name).unlink()
        own = tokenizer.chat_template
        tokenizer.chat_template = self._template or (own.removeprefix(MARK) if isinstance(own, str) else own) or self._begun(tokenizer)
        with blamed_on(field, source, "the tokenizer in it cannot be used", way_out, passing=(OSError,)):
            _save(tokenizer, draft)


class _Remembered:
    """Texts from the start at each call, split into pieces. The library that reads them may lose an error of one; it is kept here."""

    def __init__(self, start: Callable[[], Iterator[str]], in_pieces: Callable[[str], Sequence[str]]) -> None:
        self._start, self._in_pieces = start, in_pieces
        self.error: BaseException | None = None
        self.cut = 0
        """Number of texts that were split."""

    def __call__(self) -> Iterator[str]:
        self.cut = 0
        try:
            for text in self._start():
                pieces = self._in_pieces(text)
                self.cut += len(pieces) > 1
                yield from pieces
        except GeneratorExit:
            raise
        except BaseException as error:
            self.error = error
            raise


def _save(tokenizer: Any, directory: Path) -> None:
    tokenizer.save_pretrained(directory)
    TokenizerFacts.save(tokenizer, directory)
