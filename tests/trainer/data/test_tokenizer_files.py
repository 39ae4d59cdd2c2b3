"""Tokenizers and chat templates that cannot be used as they are: what a person is told, and that the way out works."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import chat_kinds as kinds
import pytest
from small_job import Job, config_of, sentence

from llmtrain_trainer.config import TokenizerTraining, TrainerConfig
from llmtrain_trainer.data.bad_data import BadData
from llmtrain_trainer.prepare import tokenizer as tokenizers
from llmtrain_trainer.prepare import tokenizer_checks
from llmtrain_trainer.run_dir.notices import told

ROWS = [{"text": sentence(i)} for i in range(60)]


def refusal(job: Job, config: TrainerConfig) -> str:
    with pytest.raises(BadData) as raised:
        job.prepare(config)
    return str(raised.value)


def chat(job: Job, template: str | None = kinds.CHATML, edit: Callable[[Path], None] = lambda _: None, **tokenizer: Any) -> TrainerConfig:
    """A job of conversations with a tokenizer whose directory `edit` changes."""
    directory = job.root / "tok"
    kinds.tokenizer(template).save_pretrained(directory)
    edit(directory)
    turns = [[{"role": "user", "content": f"What {i}?"}, {"role": "assistant", "content": f"four {i}"}] for i in range(9)]
    dataset = {"source": job.rows_file("chat.jsonl", [{"messages": some} for some in turns]), "format": "messages"}
    training = {"sequenceLength": 64, "packing": False}
    return config_of([dataset], task="sft", training=training, tokenizer={"source": f"file://{directory}", **tokenizer})


def with_setting(**changes: Any) -> Callable[[Path], None]:
    def edit(directory: Path) -> None:
        path = directory / "tokenizer_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return edit


def with_tokenizer_json(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    def edit(directory: Path) -> None:
        path = directory / "tokenizer.json"
        found = json.loads(path.read_text())
        change(found)
        path.write_text(json.dumps(found))

    return edit


@pytest.mark.parametrize("name", ["eos_token", "bos_token", "pad_token", "unk_token"])
def test_a_special_token_that_the_vocabulary_lacks_is_refused_and_both_ways_out_work(job: Job, name: str) -> None:
    said = refusal(job, chat(job, edit=with_setting(**{name: "<|nope|>"})))
    assert f"spec.tokenizer.source is file://{job.root}/tok: its {name} is <|nope|>, which is not in the vocabulary" in said
    assert job.prepare(chat(job, edit=with_setting(**{name: "<|im_end|>"}))).train_samples == 9

    def add(directory: Path) -> None:
        with_setting(**{name: "<|nope|>"})(directory)
        token = {"content": "<|nope|>", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
        with_tokenizer_json(lambda found: found["added_tokens"].append({"id": 400, **token}))(directory)

    assert job.prepare(chat(job, edit=add)).train_samples == 9


def test_a_tokenizer_without_an_end_token_is_named_as_the_manifest_names_it(job: Job) -> None:
    said = refusal(job, chat(job, edit=with_setting(eos_token=None)))
    assert said.startswith(f"spec.tokenizer.source is file://{job.root}/tok: the tokenizer in it has no end token (eos_token)")
    assert str(job.cache) not in said
    assert job.prepare(chat(job, edit=with_setting(eos_token="<|im_end|>"))).train_samples == 9


def test_token_ids_beyond_all_use_are_refused_before_the_library_reads_them(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[Path] = []
    monkeypatch.setattr(tokenizers, "load", lambda directory, *_: loaded.append(directory))

    def in_vocabulary(found: dict[str, Any]) -> None:
        found["model"]["vocab"]["zz"] = 2**31 - 2

    def added(found: dict[str, Any]) -> None:
        found["added_tokens"][-1]["id"] = 2**31 - 2

    for edit in (with_tokenizer_json(in_vocabulary), with_tokenizer_json(added), with_setting(added_tokens_decoder={"2147483646": {}})):
        assert f"the id 2147483646, and ids end at {tokenizer_checks.HIGHEST_ID}" in refusal(job, chat(job, edit=edit))
    assert loaded == []


def test_a_tokenizer_that_makes_other_tokens_each_time_is_refused(job: Job) -> None:
    edit = with_tokenizer_json(lambda found: found["model"].update(dropout=0.1))
    assert "has a dropout in the model" in refusal(job, chat(job, edit=edit))


def test_words_without_end_are_cut_before_a_tokenizer_is_trained_on_them(job: Job) -> None:
    word = "x" * (5 * tokenizers.LONGEST_WORD + 7)
    assert [len(piece) for piece in tokenizers.cut(f"a {word} b")] == [tokenizers.LONGEST_WORD + 2] + 4 * [tokenizers.LONGEST_WORD] + [9]
    assert "".join(tokenizers.cut(f"a {word} b")) == f"a {word} b"
    assert tokenizers.cut(sentence(1)) == [sentence(1)]
    job.prepare(config_of([{"source": job.rows_file("w.jsonl", [*ROWS, {"text": word}])}]))
    assert any("1 document holds words of more than 4,096 letters without white space, which were cut" in line for line in told(job.run))


def test_what_a_library_is_given_to_train_on_holds_no_longer_word(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    longest: list[int] = []
    train = tokenizers.train

    def counted(settings: TokenizerTraining, texts: tokenizers.Texts) -> Any:
        longest.append(max(len(word) for text in texts() for word in text.split()))
        return train(settings, texts)

    monkeypatch.setattr(tokenizers, "train", counted)
    job.prepare(config_of([{"source": job.rows_file("w.jsonl", [*ROWS, {"text": "y" * 100_000}])}]))
    assert longest == [tokenizers.LONGEST_WORD]


BROKEN = {
    "syntax": ("{% for m in messages %}{{ m.content }", "unexpected '}' in its line 1"),
    "filter": ("{% for m in messages %}\n{{ m.content | shout }}{% endfor %}", "No filter named 'shout' in its line 2"),
    "function": ("{% for m in messages %}{{ say(m.content) }}{% endfor %}", "'say' is undefined"),
    "prompt": (
        "{% if add_generation_prompt %}{{ nope.x }}{% endif %}{% for m in messages %}{{ m.content }}{% endfor %}",
        "'nope' is undefined",
    ),
    "variable": ("{{ settings.x }}{% for m in messages %}{{ m.content }}{% endfor %}", "'settings' is undefined"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_template_is_told_of_itself_and_no_row_is_blamed(job: Job, name: str) -> None:
    template, why = BROKEN[name]
    said = refusal(job, chat(job, template))
    assert said.startswith(f"spec.tokenizer.source is file://{job.root}/tok: its chat template can write no conversation ({why}).")
    assert "row" not in said
    given = refusal(job, chat(job, chatTemplate=template))
    assert given.startswith("spec.tokenizer.chatTemplate is ")
    assert given.endswith(f"the template can write no conversation ({why}). Correct the template.")
    assert job.prepare(chat(job, template, chatTemplate=kinds.CHATML)).train_samples == 9


NO_JSON: dict[str, tuple[str, bytes, str]] = {
    "a byte order mark": ("tokenizer_config.json", b"\xef\xbb\xbf{}", "begins with a byte order mark, which the tokenizers library"),
    "a pointer": ("tokenizer.json", b"version https://git-lfs.github.com/spec/v1\n", "is a pointer of Git LFS, not the file itself"),
    "a page": ("tokenizer.json", b"\n<html>", "is not JSON. It looks like a web page or a store's error message"),
    "half a file": ("tokenizer.json", b'{"version": ', "is not JSON (Expecting value: line 1 column 13 (char 12)). Copy the file again"),
    "UTF-16": ("tokenizer_config.json", "{}".encode("utf-16"), "is not JSON ('utf-8' codec can't decode byte 0xff"),
    "a list": ("tokenizer_config.json", b"[]", "is no JSON object. Copy the file again"),
    "nothing": ("special_tokens_map.json", b"", "is not JSON (Expecting value"),
}


@pytest.mark.parametrize("name", NO_JSON)
def test_a_file_that_is_no_json_is_named_with_the_way_out(job: Job, name: str) -> None:
    """Before, "Give a directory or repository with tokenizer.json" was said, which is there."""
    file, content, why = NO_JSON[name]
    said = refusal(job, chat(job, edit=lambda directory: (directory / file).write_bytes(content) and None))
    assert said.startswith(f"spec.tokenizer.source is file://{job.root}/tok: {file} in it {why}")


def test_a_vocabulary_of_no_tokens_is_refused_as_the_library_does(job: Job) -> None:
    edit = with_tokenizer_json(lambda found: found["model"].update(vocab=[1, 2]))
    assert "no tokenizer can be loaded from it" in refusal(job, chat(job, edit=edit))
    assert "has no end token" in refusal(job, chat(job, edit=with_setting(eos_token="")))


def test_a_template_that_refuses_one_conversation_names_its_row(job: Job) -> None:
    template = "{% if messages | length < 3 %}{{ raise_exception('a system message is needed') }}{% endif %}"
    said = refusal(job, chat(job, template))
    assert "chat.jsonl row 1: the chat template refuses the conversation (a system message is needed)" in said


def test_a_template_that_writes_no_answer_is_refused(job: Job) -> None:
    said = refusal(job, chat(job, "Hello!"))
    assert "9 left out as empty or without an answer to learn; " in said
    assert "the chat template leaves out the text of 9 turns" in said


def test_the_built_in_template_is_told_of(job: Job) -> None:
    job.prepare(chat(job, None))
    assert any("the tokenizer has no chat template; 9 conversations are written in a plain form" in line for line in told(job.run))
    job.prepare(chat(job, None, chatTemplate=kinds.CHATML))
    assert not any("has no chat template" in line for line in job.said)


def test_ids_of_more_digits_than_python_reads_are_refused(job: Job) -> None:
    edit = with_setting(added_tokens_decoder={"9" * 5000: {"content": "x"}})
    assert "ids end at" in refusal(job, chat(job, edit=edit))
