"""Batches: equal in every layout, exact after a resume, packed without leaks."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_job import Job, config_of, sentence

from llmtrain_trainer.config import TrainerConfig
from llmtrain_trainer.data.formats.encoding import load_tokenizer
from llmtrain_trainer.data.samples import Samples, open_samples
from llmtrain_trainer.data.step_batch import StepBatch


def in_layout(config: TrainerConfig, dp: int, micro: int) -> TrainerConfig:
    """The same job over other replicas; its global batch stays."""
    size = config.batch.global_size
    batch = config.batch.model_copy(update={"micro_size": micro, "accumulation": size // (dp * micro)})
    return config.model_copy(update={"mesh": config.mesh.model_copy(update={"dp": dp}), "batch": batch})


def replicas(job: Job, config: TrainerConfig) -> list[Samples]:
    return [open_samples(job.run.prepared, config, replica) for replica in range(config.mesh.dp)]


def global_rows(config: TrainerConfig, parts: list[StepBatch]) -> torch.Tensor:
    """All rows of a step in the order of consumption, [global, 3, length]."""
    stacked = [torch.stack([part["input_ids"], part["labels"], part["position_ids"]], dim=1) for part in parts]
    by_replica = torch.stack(stacked).unflatten(1, (config.batch.accumulation, config.batch.micro_size))
    return by_replica.transpose(0, 1).flatten(0, 2)


@pytest.fixture
def mixed(job: Job) -> TrainerConfig:
    """Two datasets and a validation split, prepared."""
    datasets = [{"source": job.text_file("a.jsonl", 80), "weight": 0.7}, {"source": job.text_file("b.jsonl", 40, 300), "weight": 0.3}]
    config = config_of(datasets, evaluation={"split": 0.2, "maxSamples": 21})
    job.prepare(config)
    return config


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30)
@given(layout=st.sampled_from([(1, 8), (1, 1), (2, 1), (2, 4), (4, 2), (8, 1)]), step=st.integers(1, 400))
def test_every_layout_sees_the_same_samples_in_the_same_order(job: Job, mixed: TrainerConfig, layout: tuple[int, int], step: int) -> None:
    expected = open_samples(job.run.prepared, in_layout(mixed, 1, 8), 0).step_batch(8 * (step - 1))
    config = in_layout(mixed, *layout)
    parts = [samples.step_batch(8 * (step - 1)) for samples in replicas(job, config)]
    assert torch.equal(global_rows(config, parts), global_rows(in_layout(mixed, 1, 8), [expected]))
    assert {part.target_tokens for part in parts} == {int((expected["labels"] != -100).sum())}


def test_a_resume_at_any_step_goes_on_with_the_undisturbed_stream(job: Job, mixed: TrainerConfig) -> None:
    undisturbed = open_samples(job.run.prepared, mixed, 1)
    stream = [undisturbed.step_batch(8 * (step - 1))["input_ids"] for step in range(1, 30)]
    resumed = open_samples(job.run.prepared, mixed, 1)
    assert all(torch.equal(resumed.step_batch(8 * (step - 1))["input_ids"], stream[step - 1]) for step in (29, 17, 18))


def test_one_epoch_of_the_only_dataset_sees_each_row_once(job: Job) -> None:
    config = config_of([{"source": job.text_file(count=100)}])
    steps = job.prepare(config).train_samples // 8
    samples = open_samples(job.run.prepared, in_layout(config, 1, 8), 0)
    rows = torch.cat([samples.step_batch(8 * (step - 1))["input_ids"] for step in range(1, steps + 1)])
    assert len(torch.unique(rows, dim=0)) == steps * 8


def test_evaluation_reads_the_same_rows_in_every_layout_and_fills_up_the_last_batch(job: Job, mixed: TrainerConfig) -> None:
    seen = []
    for dp, micro in ((1, 8), (2, 2), (8, 1)):
        config = in_layout(mixed, dp, micro)
        batches = zip(*(samples.evaluation_batches() for samples in replicas(job, config)), strict=True)
        rows = [(global_rows(config, list(parts)), parts) for parts in batches]
        assert all(part.target_tokens == int((whole[:, 1] != -100).sum()) for whole, parts in rows for part in parts)
        seen.append(torch.cat([whole for whole, _ in rows]))
    assert torch.equal(seen[0], seen[1])
    assert torch.equal(seen[0], seen[2])
    assert len(seen[0]) == 24
    assert int((seen[0][:, 1] != -100).any(dim=1).sum()) == 21


def chat_rows(count: int) -> list[dict[str, Any]]:
    def turns(i: int) -> list[dict[str, str]]:
        pairs = [({"role": "user", "content": sentence(i)[: 5 + i % 20]}, {"role": "assistant", "content": f"Answer {i}"})] * (1 + i % 3)
        return [turn for pair in pairs for turn in pair]

    return [{"messages": turns(i)} for i in range(count)]


def chat_config(job: Job, packing: bool, length: int = 128, **changes: Any) -> TrainerConfig:
    dataset = [{"source": job.rows_file("chat.jsonl", chat_rows(60)), "format": "messages", **changes}]
    return config_of(dataset, task="sft", training={"sequenceLength": length, "packing": packing})


def samples_of(batch: StepBatch) -> set[tuple[tuple[int, ...], tuple[int, ...]]]:
    """(inputs, labels) of each sample: rows are split where positions start again, and each part ends with its last target."""
    found = set()
    for inputs, labels, positions in zip(batch["input_ids"], batch["labels"], batch["position_ids"], strict=True):
        starts = [*(positions == 0).nonzero().flatten().tolist(), len(positions)]
        for start, stop in pairwise(starts):
            targets = (labels[start:stop] != -100).nonzero()
            if len(targets):  # padding has none
                span = slice(start, start + int(targets[-1]) + 1)
                found.add((tuple(inputs[span].tolist()), tuple(labels[span].tolist())))
    return found


def test_packed_rows_hold_the_same_samples_as_rows_of_their_own(job: Job) -> None:
    found, rows = {}, {}
    for packing in (True, False):
        config = chat_config(job, packing)
        rows[packing] = job.prepare(config).train_samples
        samples = open_samples(job.run.prepared, in_layout(config, 1, 8), 0)
        batches = [samples.step_batch(8 * (step - 1)) for step in range(1, rows[packing] // 8 + 2)]
        assert all(batch.packed is packing for batch in batches)
        found[packing] = set().union(*map(samples_of, batches))
    assert found[True] == found[False]
    assert len(found[True]) == rows[False] == 60
    assert rows[True] < 30


def test_attention_made_from_position_ids_never_crosses_into_another_sample(job: Job) -> None:
    """Each sample's tokens are its own text: the segment ids that positions give have exactly one conversation each."""
    config = chat_config(job, packing=True)
    job.prepare(config)
    tokenizer = load_tokenizer(job.run.prepared / "tokenizer")
    batch = open_samples(job.run.prepared, in_layout(config, 1, 8), 0).step_batch(0)
    segments = (batch["position_ids"] == 0).cumsum(dim=1)
    visible = (segments[:, :, None] == segments[:, None, :]).tril()
    conversations = 0
    for row in range(8):
        for place in (batch["labels"][row] == tokenizer.eos_token_id).nonzero().flatten().tolist():
            context = tokenizer.decode(batch["input_ids"][row][visible[row, place]].tolist())
            answers = {part.split("<|end|>")[0] for part in context.split("Assistant:\n")[1:]}
            assert context.startswith("User:\n")
            assert len(answers) == 1  # every turn of one conversation gives the same answer, other conversations another
            conversations += 1
    assert conversations > 20
    crossing = (segments[:, 1:] != segments[:, :-1]) & (batch["labels"][:, :-1] != -100)
    assert not (
        crossing & (batch["labels"][:, :-1] == batch["input_ids"][:, 1:]) & (batch["labels"][:, :-1] != tokenizer.eos_token_id)
    ).any()


def test_labels_are_the_next_token_of_the_same_sample_or_none(job: Job) -> None:
    config = chat_config(job, packing=True)
    job.prepare(config)
    eos = load_tokenizer(job.run.prepared / "tokenizer").eos_token_id
    batch = open_samples(job.run.prepared, in_layout(config, 1, 8), 0).step_batch(0)
    inside = batch["position_ids"][:, 1:] != 0
    labels, following = batch["labels"][:, :-1], batch["input_ids"][:, 1:]
    assert torch.equal(labels[inside & (labels != -100)], following[inside & (labels != -100)])
    assert set(labels[~inside & (labels != -100)].tolist()) == {eos}


def test_targets_are_the_answers_and_their_end_tokens_alone(job: Job) -> None:
    config = chat_config(job, packing=True)
    job.prepare(config)
    tokenizer = load_tokenizer(job.run.prepared / "tokenizer")
    batch = open_samples(job.run.prepared, in_layout(config, 1, 8), 0).step_batch(0)
    learned = tokenizer.decode(batch["labels"][batch["labels"] != -100].tolist())
    assert re.fullmatch(r"(Answer \d+<\|end\|>)+", learned)


def test_too_long_samples_are_cut_and_counted(job: Job) -> None:
    config = chat_config(job, packing=True, length=48, maxCut=1)
    prepared = job.prepare(config)
    stats = prepared.datasets[0].train
    assert stats.truncated > 0
    assert stats.documents + stats.dropped == 60
    assert stats.truncated == stats.answers_cut
    assert any(f"{stats.truncated} of 60 documents are longer than 48 tokens and were cut at their end" in line for line in job.said)
    assert prepared.targets == stats.targets
