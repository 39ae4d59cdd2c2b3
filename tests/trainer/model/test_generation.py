"""Where generation ends: which tokens the files beside a model name, and in which order."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llmtrain_trainer.data.bad_data import BadData
from llmtrain_trainer.model.generation import FILE, check_generation, end_in, name_end, name_pad, named_ends, token_names, write_generation
from llmtrain_trainer.model.tokenizer_facts import TokenizerFacts

ADDED = [{"id": 2, "content": "</s>"}, {"id": 7, "content": "<|im_end|>"}, {"id": 9, "content": "é"}]


def facts(**changes: Any) -> TokenizerFacts:
    known: dict[str, Any] = {"eos_token_id": 2, "bos_token_id": None, "size": 10, "highest_id": 9, "highest_token": "é", "digest": ""}
    return TokenizerFacts(**known | changes)


def put(directory: Path, **files: dict[str, Any]) -> Path:
    for name, content in files.items():
        (directory / f"{name}.json").write_text(json.dumps(content))
    return directory


def said(directory: Path, name: str = FILE) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((directory / name).read_text())
    return found


@pytest.mark.parametrize(
    ("ends", "eos", "before", "expected"),
    [
        ((7,), 2, None, [7, 2]),
        ((), 2, None, [2]),
        ((2,), 2, 2, [2]),
        ((7, 9), 2, [2, 5], [7, 9, 2, 5]),
        ((7,), None, 5, [7, 5]),
        ((), None, None, []),
        ((0,), 0, 0, [0]),
    ],
)
def test_what_training_taught_comes_first_and_what_the_model_had_stays(
    tmp_path: Path, ends: tuple[int, ...], eos: int | None, before: Any, expected: list[int]
) -> None:
    put(tmp_path, generation_config={} if before is None else {"eos_token_id": before}, config={"eos_token_id": 99} if before else {})
    assert write_generation(tmp_path, facts(eos_token_id=eos), ends) == expected
    named = said(tmp_path).get("eos_token_id")
    assert named == (expected if len(expected) > 1 else expected[0] if expected else None)


def test_the_model_s_config_is_asked_where_it_has_no_file_of_its_own(tmp_path: Path) -> None:
    put(tmp_path, config={"eos_token_id": 5, "bos_token_id": 1})
    assert named_ends(tmp_path) == [5]
    assert write_generation(tmp_path, facts(), (7,)) == [7, 2, 5]
    assert said(tmp_path) == {"eos_token_id": [7, 2, 5], "pad_token_id": 2, "bos_token_id": 1}


@pytest.mark.parametrize(
    ("tokenizer", "model", "labels", "pad"),
    [(3, 4, False, 3), (None, 4, False, 4), (None, None, False, 2), (None, 4, True, 2), (0, 4, True, 0)],
)
def test_the_padding_is_the_tokenizer_s_then_the_model_s_then_the_end(
    tmp_path: Path, tokenizer: int | None, model: int | None, labels: bool, pad: int
) -> None:
    put(tmp_path, generation_config={} if model is None else {"pad_token_id": model})
    write_generation(tmp_path, facts(pad_token_id=tokenizer), (), labels=labels)
    assert said(tmp_path)["pad_token_id"] == pad


def test_what_else_the_model_said_of_generation_stays(tmp_path: Path) -> None:
    put(tmp_path, generation_config={"temperature": 0.6, "eos_token_id": 2})
    write_generation(tmp_path, facts(), (7,))
    assert said(tmp_path)["temperature"] == 0.6


def test_ends_of_a_conversion_are_put_before_those_that_are_named(tmp_path: Path) -> None:
    put(tmp_path, generation_config={"eos_token_id": [2, 5], "top_p": 0.9})
    end_in(tmp_path, (5, 7))
    assert said(tmp_path) == {"eos_token_id": [5, 7, 2], "top_p": 0.9}
    end_in(tmp_path, ())
    assert said(tmp_path)["eos_token_id"] == [5, 7, 2]


@pytest.mark.parametrize("odd", ["</s>", [2, "x"], 1.5, True, [None]])
@pytest.mark.parametrize("key", ["eos_token_id", "pad_token_id", "bos_token_id"])
def test_an_end_that_is_no_token_id_is_refused_with_its_file(tmp_path: Path, key: str, odd: Any) -> None:
    put(tmp_path, config={key: odd})
    with pytest.raises(BadData, match=rf"its config\.json does not say where generation ends .*{key} is"):
        check_generation(tmp_path, "model.source", "file:///model")


@pytest.mark.parametrize("fine", [{}, {"eos_token_id": None}, {"eos_token_id": 2}, {"eos_token_id": [2, 5], "pad_token_id": 0}])
def test_token_ids_or_none_are_fine(tmp_path: Path, fine: dict[str, Any]) -> None:
    check_generation(put(tmp_path, config=fine), "model.source", "file:///model")


@pytest.mark.parametrize(
    ("settings", "ends", "eos"),
    [
        ({"eos_token": "</s>"}, (7,), "<|im_end|>"),
        ({"eos_token": {"content": "</s>"}}, (7, 2), {"content": "</s>"}),
        ({"eos_token": "</s>"}, (2,), "</s>"),
        ({"eos_token": "</s>"}, (99,), "</s>"),
        ({"eos_token": "</s>"}, (), "</s>"),
        ({"eos_token": "</s>", "chat_template": "{{ eos_token }}"}, (7,), "</s>"),
        ({}, (9,), "é"),
    ],
    ids=["another", "known among them", "the same", "without a name", "none", "written by the template", "none before"],
)
def test_an_exported_tokenizer_ends_in_what_was_taught(tmp_path: Path, settings: dict[str, Any], ends: tuple[int, ...], eos: Any) -> None:
    put(tmp_path, tokenizer_config=settings, tokenizer={"added_tokens": ADDED})
    name_end(tmp_path, ends)
    assert said(tmp_path, "tokenizer_config.json").get("eos_token") == eos


def test_a_template_of_its_own_file_that_writes_the_end_keeps_it(tmp_path: Path) -> None:
    put(tmp_path, tokenizer_config={"eos_token": "</s>"}, tokenizer={"added_tokens": ADDED})
    (tmp_path / "chat_template.jinja").write_text("{{ message }}{{ eos_token }}")
    name_end(tmp_path, (7,))
    assert said(tmp_path, "tokenizer_config.json")["eos_token"] == "</s>"


@pytest.mark.parametrize(("pad", "had", "named"), [(7, None, "<|im_end|>"), (7, "</s>", "</s>"), (99, None, None), (None, None, None)])
def test_a_classifier_s_tokenizer_names_the_padding_that_its_model_does(
    tmp_path: Path, pad: int | None, had: str | None, named: str | None
) -> None:
    settings = {} if had is None else {"pad_token": had}
    put(tmp_path, tokenizer_config=settings, tokenizer={"added_tokens": ADDED}, config={} if pad is None else {"pad_token_id": pad})
    name_pad(tmp_path)
    assert said(tmp_path, "tokenizer_config.json").get("pad_token") == named


def test_a_tokenizer_without_added_tokens_has_no_names(tmp_path: Path) -> None:
    assert token_names(tmp_path) == {}
    assert token_names(put(tmp_path, tokenizer={"added_tokens": ADDED})) == {2: "</s>", 7: "<|im_end|>", 9: "é"}
