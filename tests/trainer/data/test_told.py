"""What preparation tells of the data and what it refuses, and what an export is told of where answers end."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import chat_kinds as kinds
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_job import Job, config_of

from llmtrain_trainer.config import TrainerConfig
from llmtrain_trainer.data.bad_data import BadData
from llmtrain_trainer.data.formats.encoding import load_tokenizer
from llmtrain_trainer.data.prepared import Prepared
from llmtrain_trainer.data.rows import open_rows
from llmtrain_trainer.data.sources.arrow import without_nulls
from llmtrain_trainer.model.generation import end_in, name_end
from llmtrain_trainer.model.tokenizer_facts import TokenizerFacts
from llmtrain_trainer.run_dir.notices import told


def chat(job: Job, rows: list[dict[str, Any]], template: str | None = kinds.CHATML, length: int = 64, **changes: Any) -> TrainerConfig:
    """A job on these rows with a tokenizer that knows the control tokens of `template`."""
    kinds.tokenizer(template).save_pretrained(job.root / "tok")
    source = job.rows_file("chat.jsonl", rows)
    given = {"task": "sft", "tokenizer": {"source": f"file://{job.root / 'tok'}"}, **changes.pop("spec", {})}
    training = {"sequenceLength": length, "packing": False, "globalBatchSize": 8}
    return config_of([{"source": source, "format": "messages", **changes}], training=training, **given)


def but_size(sentences: Sequence[str]) -> tuple[str, ...]:
    """Without the one that says how little data a test has."""
    return tuple(sentence for sentence in sentences if not sentence.startswith("The data has "))


def turns(question: str, answer: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def targets(job: Job) -> list[str]:
    """What each row teaches."""
    rows = open_rows(job.run.prepared / "train" / "0")
    tokenizer = load_tokenizer(job.run.prepared / "tokenizer")
    return [tokenizer.decode(some[some != -100].tolist()) for some in rows.take(np.arange(len(rows)))["labels"]]


def long_prompts(long: int, of: int) -> list[dict[str, Any]]:
    return [turns("What? " * (60 if i < long else 1), f"answer {i}") for i in range(of)]


def test_prompts_that_fill_the_row_are_cut_and_told_of_and_every_answer_is_learned(job: Job) -> None:
    prepared = job.prepare(chat(job, long_prompts(8, 20)))
    assert sorted(targets(job)) == sorted(f"answer {i}<|im_end|>" for i in range(20))
    (sentence,) = but_size(told(job.run))
    assert sentence.startswith("dataset[0]: 8 of 20 documents are longer than 64 tokens and lost the beginning of their prompt")
    assert "raise training.sequenceLength" in sentence
    assert but_size(prepared.warnings) == (sentence,)


def test_more_than_half_of_the_prompts_cut_is_refused_and_both_ways_out_work(job: Job) -> None:
    rows = long_prompts(12, 20)
    with pytest.raises(BadData, match=r"training\.sequenceLength is 64: 12 of 20 conversations have a prompt .* all into (\d+)") as raised:
        job.prepare(chat(job, rows))
    longest = int(str(raised.value).partition("all into ")[2].partition(")")[0])
    assert but_size(job.prepare(chat(job, rows, length=longest)).warnings) == ()
    job.prepare(chat(job, rows, maxCut=1))
    assert sorted(targets(job)) == sorted(f"answer {i}<|im_end|>" for i in range(20))


def test_what_was_told_is_told_again_from_the_cache(job: Job) -> None:
    config = chat(job, long_prompts(8, 20))
    first = job.prepare(config).warnings
    job.run.notices.unlink()
    assert job.prepare(config).warnings == first == told(job.run)


def test_reasoning_that_a_template_drops_of_all_answers_is_refused_and_both_ways_out_work(job: Job) -> None:
    rows = [turns("What?", f"<think>\nbecause {i}\n</think>\nfour") for i in range(9)]
    with pytest.raises(BadData, match="drops the reasoning of all 9 answers"):
        job.prepare(chat(job, rows, kinds.STRIPPED))
    assert "drops the reasoning of 9 of 9 answers" in job.prepare(chat(job, rows, kinds.STRIPPED, dropReasoning=True)).warnings[0]
    tokenizer = {"source": f"file://{job.root / 'tok'}", "chatTemplate": kinds.CHATML}
    job.prepare(chat(job, rows, kinds.STRIPPED, spec={"tokenizer": tokenizer}))
    assert "because 3" in targets(job)[3]


def test_tools_that_the_template_does_not_write_are_told_of_with_their_count(job: Job) -> None:
    tools = [{"type": "function", "function": {"name": "get", "parameters": {}}}]
    prepared = job.prepare(chat(job, [{**turns("What?", f"four {i}"), "tools": tools} for i in range(9)]))
    assert but_size(prepared.warnings) == (
        "dataset[0]: 9 rows have tools, which the chat template does not write: they are not trained on",
    )


def test_rows_without_anything_to_learn_are_left_out_and_told_of(job: Job) -> None:
    silent = {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "bad", "weight": 0}]}
    prepared = job.prepare(chat(job, [*[turns("What?", f"four {i}") for i in range(9)], silent, turns("What?", "")]))
    assert but_size(prepared.warnings) == (
        "dataset[0]: 2 of 11 documents are empty or have no answer to learn and were left out",
        "dataset[0]: 1 answers are empty and are not learned",
    )


def test_nulls_that_arrow_fills_in_become_no_text_and_columns_it_did_not_read_are_told_of(job: Job) -> None:
    def row(i: int) -> dict[str, Any]:
        call = {"type": "function", "function": {"name": "get", "arguments": {"city": "Oslo"} if i % 2 else {"unit": "C"}}}
        asked = [{"role": "user", "content": "What?"}, {"role": "assistant", "tool_calls": [call]}, {"role": "tool", "content": "7"}]
        return {"messages": [*asked, {"role": "assistant", "content": "Seven."}], "notes": "n", "nothing": None}

    config = chat(job, [turns("x", "y")], kinds.HYBRID, length=128)
    path = job.root / "files" / "chat.parquet"
    pq.write_table(pa.Table.from_pylist([row(i) for i in range(9)]), path)
    dataset = config.dataset[0].model_copy(update={"source": f"file://{path}"})
    prepared = job.prepare(config.model_copy(update={"dataset": (dataset,)}))
    assert not any("None" in text or "null" in text for text in targets(job))
    assert '{"name": "get", "arguments": {"city": "Oslo"}}' in targets(job)[1]
    assert but_size(prepared.warnings) == (
        "dataset[0]: 9 rows have columns that are not read (notes); name them in dataset[0].ignoreColumns if that is intended",
    )


def test_maps_of_arrow_become_objects() -> None:
    assert without_nulls({"arguments": [("city", "Oslo"), ("unit", None)], "kept": [None, 1]}) == {
        "arguments": {"city": "Oslo"},
        "kept": [None, 1],
    }


def with_begin(job: Job) -> dict[str, Any]:
    """A tokenizer that puts its begin token before every text."""
    from tokenizers import processors

    made = kinds.tokenizer(None)
    begin = made.convert_tokens_to_ids("<bos>")
    made.backend_tokenizer.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", begin)])
    made.save_pretrained(job.root / "begin")
    return {"source": f"file://{job.root / 'begin'}"}


@pytest.mark.parametrize(
    ("task", "dataset"),
    [
        ("pretrain", {}),
        ("sft", {}),
        ("sft", {"format": "promptCompletion"}),
        ("sft", {"format": "messages"}),
    ],
)
def test_every_document_begins_as_the_tokenizer_begins_texts(job: Job, task: str, dataset: dict[str, Any]) -> None:
    rows = [{"text": f"four {i}", "prompt": "What?", "completion": f"four {i}", **turns("What?", f"four {i}")} for i in range(40)]
    training = {"sequenceLength": 16 if task == "pretrain" else 32, "packing": False, "globalBatchSize": 2}
    source = job.rows_file("rows.jsonl", rows)
    prepared = job.prepare(config_of([{"source": source, **dataset}], task=task, tokenizer=with_begin(job), training=training))
    tokenizer = load_tokenizer(job.run.prepared / "tokenizer")
    rows_made = open_rows(job.run.prepared / "train" / "0")
    inputs, _, _ = rows_made.take(np.arange(len(rows_made))).values()
    if task == "sft":
        assert (inputs[:, 0] == tokenizer.bos_token_id).all()
    else:
        starts = np.flatnonzero(inputs.ravel() == tokenizer.eos_token_id) + 1
        assert (inputs.ravel()[starts[starts < inputs.size]] == tokenizer.bos_token_id).all()
        assert inputs[0, 0] == tokenizer.bos_token_id
    assert prepared.ends == (tokenizer.eos_token_id,)


def test_empty_documents_are_passed_over_where_the_tokenizer_has_a_begin_token_too(job: Job) -> None:
    rows = [{"text": ""}, *[{"text": f"four {i}"} for i in range(40)]]
    prepared = job.prepare(config_of([{"source": job.rows_file("rows.jsonl", rows)}], tokenizer=with_begin(job)))
    assert prepared.datasets[0].train.documents == 40
    assert any("1 of 41 rows are null or empty and were passed over" in line for line in told(job.run))


def test_generation_ends_where_answers_end(job: Job) -> None:
    config = chat(job, [turns("What?", f"four {i}") for i in range(9)])
    prepared = job.prepare(config)
    tokenizer = load_tokenizer(job.run.prepared / "tokenizer")
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert prepared.ends == (end,)
    said = json.loads((job.run.prepared / "model" / "generation_config.json").read_text())
    assert said["eos_token_id"] == [end, tokenizer.eos_token_id]
    assert said["pad_token_id"] == tokenizer.pad_token_id
    tokenizer.save_pretrained(job.root / "export")
    name_end(job.root / "export", prepared.ends)
    assert load_tokenizer(job.root / "export").eos_token == "<|im_end|>"


def test_converted_files_end_where_answers_end(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"eos_token_id": 7}))
    end_in(tmp_path, (9,))
    assert json.loads((tmp_path / "generation_config.json").read_text()) == {"eos_token_id": [9, 7]}


def test_a_template_that_writes_the_end_token_keeps_it(job: Job) -> None:
    prepared = job.prepare(chat(job, [turns("What?", f"four {i}") for i in range(9)], kinds.BRACKETS))
    kinds.tokenizer(kinds.BRACKETS).save_pretrained(job.root / "export")
    name_end(job.root / "export", prepared.ends)
    assert load_tokenizer(job.root / "export").eos_token == "<|end|>"
    assert Prepared.load(job.run.prepared).ends == (kinds.tokenizer(None).eos_token_id,)


def test_an_adapter_is_told_where_its_base_does_not_stop(job: Job) -> None:
    config = chat(job, [turns("What?", f"four {i}") for i in range(9)], spec={"peft": {}, "output": {"export": ["adapter"]}})
    assert but_size(job.prepare(config).warnings) == (
        "output.export: answers end in <|im_end|>, at which the base model's own generation_config.json does not stop; "
        "with the adapter pass eos_token_id to generate()",
    )


def test_the_source_of_a_model_stays_as_it_was(job: Job, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text(json.dumps({"model_type": "llama", "vocab_size": 512, "eos_token_id": 7}))
    (model / "generation_config.json").write_text(json.dumps({"eos_token_id": [7, 8], "temperature": 0.6}))
    config = chat(job, [turns("What?", f"four {i}") for i in range(9)], spec={"model": {"source": f"file://{model}", "init": "random"}})
    ends = job.prepare(config).ends
    said = json.loads((job.run.prepared / "model" / "generation_config.json").read_text())
    assert said["eos_token_id"] == [*ends, kinds.tokenizer(None).eos_token_id, 7, 8]
    assert said["temperature"] == 0.6
    assert json.loads((model / "generation_config.json").read_text())["eos_token_id"] == [7, 8]


def test_another_template_for_tools_makes_another_tokenizer(tmp_path: Path) -> None:
    found = set()
    for name, template in (("a", kinds.HYBRID), ("b", kinds.HEADERS)):
        made = kinds.tokenizer(None)
        made.chat_template = {"default": kinds.CHATML, "tool_use": template}
        made.save_pretrained(tmp_path / name)
        TokenizerFacts.save(made, tmp_path / name)
        found.add(TokenizerFacts.load(tmp_path / name).digest)
    assert len(found) == 2
