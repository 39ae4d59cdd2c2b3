"""Format tokens: ids that were made before, learned as their labels say."""

from __future__ import annotations

from typing import Any

import chat_kinds as kinds
import pytest
from small_job import Job, config_of

from llmtrain_trainer.config import Dataset
from llmtrain_trainer.config.tables.tasks import Task
from llmtrain_trainer.data.bad_data import BadData
from llmtrain_trainer.data.formats.encoding import Encoded
from llmtrain_trainer.data.formats.ids import IdEncoder
from llmtrain_trainer.data.sources.readers import Row
from llmtrain_trainer.run_dir.notices import told


def encoded(values: dict[str, Any], task: Task = "sft", **dataset: Any) -> Encoded:
    given = Dataset.model_validate({"source": "file:///x", "format": "tokens", **dataset})
    return IdEncoder("dataset[0]", given, kinds.tokenizer(None), task)([Row("f row 1", values)])[0]


def test_what_labels_repeat_is_learned_and_nothing_is_added() -> None:
    found = encoded({"input_ids": [5, 9, 7], "labels": [-100, 9, 7]})
    assert (found.ids.tolist(), found.loss_mask.tolist(), found.conversation) == ([5, 9, 7], [False, True, True], True)
    assert encoded({"input_ids": [5, 9, 7]}).loss_mask.all()
    assert encoded({"input_ids": "[5, 9, 7]", "labels": "[-100, -100, 7]"}).loss_mask.tolist() == [False, False, True]


def test_padding_is_left_out_and_own_names_of_columns_are_read() -> None:
    values = {"tokens": [5, 9, 0, 0], "target": [-100, 9, -100, -100], "attention_mask": [1, 1, 0, 0]}
    found = encoded(values, columns={"ids": "tokens", "labels": "target"})
    assert (found.ids.tolist(), found.loss_mask.tolist()) == ([5, 9], [False, True])


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"input_ids": [5, 900000]}, "it holds the id 900000, which the tokenizer does not have"),
    ({"input_ids": [5, -1]}, "it holds the id -1, which the tokenizer does not have"),
    ({"input_ids": [5, 1.5]}, "column input_ids is a list, not a list of token ids"),
    ({"input_ids": [True]}, "not a list of token ids"),
    ({"input_ids": "5 9"}, "column input_ids is text, not a list of token ids"),
    ({"input_ids": [5, 9], "labels": [9]}, "column labels has 1 numbers beside 2 ids"),
    ({"input_ids": [5, 9, 7], "labels": [9, 7, -100]}, "labels[0] is 9 and input_ids[0] is 5. Write labels that are the ids themselves"),
    ({"text": "a"}, "Set dataset[0].format to text"),
]


@pytest.mark.parametrize(("row", "message"), REFUSED, ids=[message[:40] for _, message in REFUSED])
def test_ids_that_cannot_be_trained_on_are_refused_with_the_row(row: dict[str, Any], message: str) -> None:
    with pytest.raises(BadData) as raised:
        encoded(row)
    assert message in str(raised.value)
    assert "f row 1" in str(raised.value)


def test_pretraining_learns_every_token_so_that_labels_that_leave_some_out_are_refused() -> None:
    with pytest.raises(BadData, match=r"dataset\[0\]\.source is f row 1: labels leaves tokens out with -100.*Set task to sft, or remove"):
        encoded({"input_ids": [5, 9, 7], "labels": [-100, 9, 7]}, task="pretrain")
    padded = {"input_ids": [5, 9, 0], "labels": [5, 9, -100], "attention_mask": [1, 1, 0]}
    assert encoded(padded, task="pretrain").ids.tolist() == [5, 9]


def test_ids_make_the_rows_that_their_conversations_make(job: Job) -> None:
    turns = [{"role": "user", "content": "What?"}, {"role": "assistant", "content": "Four."}]
    made, document = kinds.encode(kinds.CHATML, {"messages": turns})
    made.save_pretrained(job.root / "tok")
    ids = document.ids.tolist()
    labels = [number if learned else -100 for number, learned in zip(ids, document.loss_mask.tolist(), strict=True)]
    settings: dict[str, Any] = {"task": "sft", "tokenizer": {"source": f"file://{job.root / 'tok'}"}, "training": {"sequenceLength": 64}}
    rows = job.rows_file("a.jsonl", [{"messages": turns}] * 40), job.rows_file("b.jsonl", [{"input_ids": ids, "labels": labels}] * 40)
    chats, tokens = (
        job.prepare(config_of([{"source": source, "format": form}], **settings))
        for source, form in zip(rows, ("messages", "tokens"), strict=True)
    )
    assert tokens.datasets[0].train.digest == chats.datasets[0].train.digest
    assert tokens.ends == chats.ends
    assert not any("not read" in line for line in told(job.run))
