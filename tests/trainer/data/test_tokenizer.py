"""Training tokenizers."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmtrain_trainer.config import TokenizerTraining
from llmtrain_trainer.data.bad_data import BadData
from llmtrain_trainer.data.formats.encoding import load_tokenizer
from llmtrain_trainer.prepare import tokenizer as tokenizers

TEXTS = [f"def add_{i}(first, second):\n    return first + second + {i}  # grüße\n" for i in range(40)]


@pytest.mark.parametrize("algorithm", ["bpe", "wordpiece", "unigram"])
def test_a_trained_tokenizer_survives_the_disk_and_decodes_what_it_encoded(algorithm: str, tmp_path: object) -> None:
    trained = tokenizers.train(TokenizerTraining(algorithm=algorithm, vocab_size=320), lambda: TEXTS)  # type: ignore[arg-type]
    trained.save_pretrained(tmp_path)
    loaded = load_tokenizer(tmp_path)  # type: ignore[arg-type]
    ids = loaded(TEXTS[7])["input_ids"]
    assert ids == trained(TEXTS[7])["input_ids"]
    assert max(ids) < len(loaded) <= 320
    assert loaded.eos_token_id is not None
    assert "".join(loaded.decode(ids).split()) == "".join(TEXTS[7].split())


def test_byte_level_bpe_knows_every_text() -> None:
    trained = tokenizers.train(TokenizerTraining(algorithm="bpe", vocab_size=300), lambda: TEXTS)
    text = "日本語 😀 \x00 tab\t"
    assert trained.decode(trained(text)["input_ids"]) == text


@pytest.mark.parametrize("algorithm", ["wordpiece", "unigram"])
def test_an_unknown_character_becomes_the_unknown_token(algorithm: str) -> None:
    trained = tokenizers.train(TokenizerTraining(algorithm=algorithm, vocab_size=320), lambda: TEXTS)  # type: ignore[arg-type]
    assert trained.unk_token_id in trained("日")["input_ids"]


SCRIPT = """
import hashlib, sys
from llmtrain_trainer.config import TokenizerTraining
from llmtrain_trainer.prepare import tokenizer
texts = [f"word{i % 13} and thing{i % 7} are {i}" for i in range(200)]
for algorithm in ("bpe", "wordpiece"):
    trained = tokenizer.train(TokenizerTraining(algorithm=algorithm, vocab_size=320), lambda: texts)
    print(hashlib.sha256(trained.backend_tokenizer.to_str().encode()).hexdigest())
"""


@pytest.mark.processes
def test_two_processes_train_the_same_tokenizer() -> None:
    """The library orders by random hashes; nodes that disagree would train on different tokens."""
    printed = [subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True).stdout for _ in range(2)]
    assert printed[0] == printed[1]
    assert len(printed[0].split()) == 2


def test_bpe_smaller_than_the_bytes_is_refused() -> None:
    with pytest.raises(BadData, match=r"tokenizer\.train\.vocabSize is 100: byte-level bpe needs the 256 bytes, 2 special tokens"):
        tokenizers.train(TokenizerTraining(algorithm="bpe", vocab_size=100), lambda: TEXTS)


def test_wordpiece_spends_at_most_half_of_its_tokens_on_single_characters() -> None:
    rare = "".join(chr(0x4E00 + i) for i in range(2000))
    trained = tokenizers.train(TokenizerTraining(algorithm="wordpiece", vocab_size=200), lambda: [*TEXTS, rare])
    assert len(trained) <= 200
    assert trained.unk_token_id not in trained("return first")["input_ids"]


def test_code_that_comes_with_a_tokenizer_is_not_run_and_nobody_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A person at a terminal, or a pipe that says yes, would have been asked."""
    trained = tokenizers.train(TokenizerTraining(vocab_size=300), lambda: TEXTS)
    trained.save_pretrained(tmp_path)
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    code = {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": ["tokenizer_own.Own", None]}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings | code))
    (tmp_path / "tokenizer_own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Own: pass\n")
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    with pytest.raises(BadData, match="no tokenizer can be loaded from it"):
        tokenizers.load(tmp_path, "tokenizer.source", "file:///t")
    assert not (tmp_path / "ran").exists()


def test_texts_are_read_on_this_thread_whoever_trains() -> None:
    read_on: set[int] = set()

    def texts() -> Iterator[str]:
        for i in range(500):
            read_on.add(threading.get_ident())
            yield f"word{i} other {i % 7}"

    for algorithm in ("bpe", "wordpiece", "unigram"):
        tokenizers.train(TokenizerTraining.model_validate({"algorithm": algorithm, "vocabSize": 300}), texts)
    assert read_on == {threading.get_ident()}


@pytest.mark.parametrize("good", [0, 1, 10_000])
def test_an_error_of_a_text_ends_the_training_and_is_the_one_that_is_raised(good: int) -> None:
    def texts() -> Iterator[str]:
        yield from (f"word{i}" for i in range(good))
        raise BadData("dataset[0].source", "row 7", "it is odd", "Correct it")

    with pytest.raises(BadData, match="row 7: it is odd"):
        tokenizers.train(TokenizerTraining.model_validate({"vocabSize": 300}), texts)
