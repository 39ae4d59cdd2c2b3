"""The tokenizer of a run: trained on the job's documents, or loaded from files."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from itertools import islice, pairwise
from pathlib import Path
from queue import Full, Queue
from typing import Any, TypeVar

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from llmtrain_trainer.config.model import TokenizerTraining
from llmtrain_trainer.data.bad_data import BadData
from llmtrain_trainer.data.blame import first_line

Texts = Callable[[], Iterable[str]]
"""Yields all texts from the start at each call."""

LONGEST_WORD = 4096
"""Longest run of letters without white space that is trained on as one word: training time grows with its square."""

_LONG = re.compile(rf"\S{{{LONGEST_WORD}}}(?=\S)")

TEXTS_AT_ONCE = 64
"""That wait for the library in one list."""

T = TypeVar("T")

END, PAD, UNKNOWN = "<|end|>", "<|pad|>", "<|unknown|>"


def train(settings: TokenizerTraining, texts: Texts) -> PreTrainedTokenizerFast:
    """A tokenizer trained on all texts; only with bpe no text is unknown.

    bpe and wordpiece depend on the texts alone. The scores of unigram also depend on the hash order inside the library, so two
    trainings can differ: prepare/tokenizer_store.py keeps the first one.
    """
    backend = _TRAIN[settings.algorithm](settings, texts)
    unknown = None if settings.algorithm == "bpe" else UNKNOWN
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token=END, pad_token=PAD, unk_token=unknown, clean_up_tokenization_spaces=False
    )


def cut(text: str) -> list[str]:
    """A text in pieces without words longer than LONGEST_WORD; one piece if it has none."""
    ends = [0, *(found.end() for found in _LONG.finditer(text)), len(text)]
    return [text[start:end] for start, end in pairwise(ends)]


def load(directory: Path, field: str, source: str) -> Any:
    """The tokenizer of a local directory. Raises BadData if there is none that the library can read."""
    try:
        if (directory / "tokenizer_config.json").exists():
            # Left out, trust_remote_code makes it ask at a terminal.
            return AutoTokenizer.from_pretrained(directory, use_fast=True, trust_remote_code=False)
        return PreTrainedTokenizerFast(tokenizer_file=str(directory / "tokenizer.json"))
    except Exception as error:  # the library raises many types for the same fault
        raise BadData(
            field, source, f"no tokenizer can be loaded from it ({first_line(error)})", "Give a directory or repository with tokenizer.json"
        ) from error


def _train_bpe(settings: TokenizerTraining, texts: Texts) -> Tokenizer:
    """Byte level (Radford et al., 2019): the alphabet is the 256 bytes."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    if settings.vocab_size < len(alphabet) + 3:
        rule, way_out = "byte-level bpe needs the 256 bytes, 2 special tokens and at least one merge", f"Give at least {len(alphabet) + 3}"
        raise BadData("tokenizer.train.vocabSize", settings.vocab_size, rule, f"{way_out}, or another algorithm")
    trainer = trainers.BpeTrainer(
        vocab_size=settings.vocab_size,
        min_frequency=settings.min_frequency,
        special_tokens=[END, PAD],
        initial_alphabet=alphabet,
        show_progress=False,
    )
    _feed(tokenizer, texts(), trainer)
    return tokenizer


def _train_wordpiece(settings: TokenizerTraining, texts: Texts) -> Tokenizer:
    """As BERT's (Devlin et al., 2019), but cased: pieces inside a word begin with ##."""
    special = [END, PAD, UNKNOWN]
    alphabet = _alphabet(texts(), settings.vocab_size // 4)
    # The library numbers characters in hash order; naming all of them first makes the result a function of the texts.
    named = special + [form for character in alphabet for form in (character, f"##{character}")]
    trainer = trainers.WordPieceTrainer(
        vocab_size=settings.vocab_size,
        min_frequency=settings.min_frequency,
        special_tokens=named,
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        show_progress=False,
    )
    draft = _wordpiece(models.WordPiece(unk_token=UNKNOWN))
    _feed(draft, texts(), trainer)
    trained = _wordpiece(models.WordPiece(vocab=draft.get_vocab(), unk_token=UNKNOWN))
    trained.add_special_tokens(special)
    return trained


def _feed(tokenizer: Tokenizer, texts: Iterable[str], trainer: Any) -> None:
    """Train on texts that are read on this thread: the library reads on one of its own, where a template of rows has no bounds."""
    waiting: Queue[list[str] | BaseException | None] = Queue(maxsize=4)
    with ThreadPoolExecutor(1) as pool:
        training = pool.submit(tokenizer.train_from_iterator, _received(waiting), trainer)
        try:
            for some in _in_lists(texts):
                _put(waiting, some, training)
            _put(waiting, None, training)
        except BaseException as error:
            _put(waiting, error, training)
            raise
        training.result()


def _in_lists(texts: Iterable[str]) -> Iterator[list[str]]:
    remaining = iter(texts)
    while some := list(islice(remaining, TEXTS_AT_ONCE)):
        yield some


def _put(waiting: Queue[T], value: T, training: Future[None]) -> None:
    """Returns too once the training has ended, which takes nothing more."""
    while not training.done():
        with suppress(Full):
            waiting.put(value, timeout=0.1)
            return


def _received(waiting: Queue[list[str] | BaseException | None]) -> Iterator[str]:
    """Raises what ended the reading, so that nothing is trained on a part of the texts."""
    while (found := waiting.get()) is not None:
        if isinstance(found, BaseException):
            raise RuntimeError("the texts could not be read") from found
        yield from found


def _alphabet(texts: Iterable[str], most: int) -> list[str]:
    """The most frequent characters, in an order that depends on nothing else."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    characters = sorted((c for c in counts if not c.isspace()), key=lambda c: (-counts[c], c))
    return sorted(characters[:most])


def _wordpiece(model: Any) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False, strip_accents=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


def _train_unigram(settings: TokenizerTraining, texts: Texts) -> Tokenizer:
    """As SentencePiece's (Kudo, 2018): spaces become a visible mark, so decoding restores them."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=settings.vocab_size, special_tokens=[END, PAD, UNKNOWN], unk_token=UNKNOWN, show_progress=False
    )
    _feed(tokenizer, texts(), trainer)
    return tokenizer


_TRAIN: dict[str, Callable[[TokenizerTraining, Texts], Tokenizer]] = {
    "bpe": _train_bpe,
    "wordpiece": _train_wordpiece,
    "unigram": _train_unigram,
}
