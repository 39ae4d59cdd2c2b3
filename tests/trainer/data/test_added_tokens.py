"""Tokens that were added to a tokenizer: the rows that an embedding gets for them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from model_place import FACTS, Place
from small_model import FAMILIES, SMALL, write_model
from transformers import AutoModelForCausalLM

from llmtrain_trainer.model.tokenizer_facts import TokenizerFacts

ADDED = FACTS.model_copy(update={"highest_id": 519, "highest_token": "<|new|>", "highest_own_id": 499, "added": 20})


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("tied", [True, False])
def test_added_tokens_get_rows_that_are_the_mean_of_the_others(place: Place, family: str, tied: bool) -> None:
    write_model(FAMILIES[family] | {"tie_word_embeddings": tied}, place.source)
    assert place.prepare(facts=ADDED) == 520
    assert place.notes == [
        "model.source: the embedding has 512 rows, and tokens were added to the tokenizer up to id 519 (<|new|>): it gets 8 new rows, "
        "the mean of the others to start with, and is exported with vocab_size 520."
    ]
    network = AutoModelForCausalLM.from_pretrained(place.source)
    network.resize_token_embeddings(520)  # draws new rows from so narrow a distribution around the mean that they are the mean
    read, theirs = place.read(), dict(network.named_parameters())
    assert read.keys() == theirs.keys()
    for name, weight in read.items():
        torch.testing.assert_close(weight, theirs[name].detach(), atol=1e-3 if weight.shape[0] == 520 else 0, rtol=0)
        assert weight.shape[0] != 520 or torch.equal(weight[512:], weight[:512].mean(0).expand(8, -1))
    assert json.loads((place.source / "config.json").read_text())["vocab_size"] == 512
    assert place.prepare() == 512 and place.notes == [] and all(weight.shape[0] != 520 for weight in place.read().values())


def test_a_random_model_of_a_source_gets_rows_for_added_tokens(place: Place) -> None:
    write_model({}, place.source)
    assert place.prepare(facts=ADDED, init="random") == 520
    assert "it gets 8 new rows, drawn like the others" in place.notes[0]
    assert json.loads((place.model / "config.json").read_text())["vocab_size"] == 520


def test_rows_are_added_for_added_tokens_alone(place: Place) -> None:
    write_model({}, place.source)
    assert "has 512 rows. Make the embedding larger" in place.refused(facts=ADDED.model_copy(update={"highest_own_id": 512}))
    assert "token id is 900000" in place.refused(facts=ADDED.model_copy(update={"highest_id": 900_000}))
    assert "and the embedding has 512 rows; because. Make" in place.refused(facts=ADDED, fixed="because")
    assert "Set vocab_size to at least 520" in place.refused(facts=ADDED, source=None, config=SMALL)


def test_facts_of_an_older_version_are_completed(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.WordLevel({"a": 0, "b": 7}, "a"))
    backend.add_tokens(["<new>", "b"])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend)
    tokenizer.save_pretrained(tmp_path)
    TokenizerFacts.save(tokenizer, tmp_path)
    facts, file = TokenizerFacts.load(tmp_path), tmp_path / "llmtrain.json"
    assert (facts.highest_id, facts.highest_token, facts.highest_own_id, facts.added) == (7, "b", 0, 2)
    older = {key: value for key, value in json.loads(file.read_text()).items() if not key.startswith(("highest", "added"))}
    file.write_text(json.dumps(older))
    assert TokenizerFacts.load(tmp_path) == facts
