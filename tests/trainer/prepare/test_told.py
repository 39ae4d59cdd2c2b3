"""What is told of rows that were counted, and when that is so much that they are refused: from the counts alone."""

from __future__ import annotations

from typing import Any

import pytest

from llmtrain_trainer.config import Batch, Dataset, Estimate, Identity, Mesh, Model, TrainerConfig, Training
from llmtrain_trainer.config.training import Schedule
from llmtrain_trainer.data.bad_data import BadData
from llmtrain_trainer.data.mixing.order import Mixture
from llmtrain_trainer.data.rows import SetStats
from llmtrain_trainer.prepare.amount import FEWEST_DOCUMENTS, check_warm_up, sentences
from llmtrain_trainer.prepare.mixed import epoch_of, notices, shares, stages
from llmtrain_trainer.prepare.told import MOST_NAMES, MOST_SILENT, by_kind, check

DATASET = Dataset(source="file:///chat.jsonl", format="messages")


def stats(**changes: Any) -> SetStats:
    plain = {"form": "table", "rows": 50, "length": 64, "tokens": 3000, "targets": 1000, "documents": 100, "digest": "x", "found": {}}
    return SetStats.model_validate({name: value for name, value in (plain | changes).items() if name in SetStats.model_fields})


def told(**changes: Any) -> dict[str, str]:
    return dict(by_kind("dataset[0]", stats(**changes)))


def config(task: str = "pretrain", steps: int | None = 100, parameters: int | None = None, **changes: Any) -> TrainerConfig:
    training = Training(
        global_batch_size=8, sequence_length=64, max_steps=steps, epochs=2, schedule=Schedule(warmup_steps=changes.pop("warm_up", 0))
    )
    plain: dict[str, Any] = {
        "job": Identity(name="demo"),
        "task": task,
        "engine": "native",
        "device": "cpu",
        "model": Model(config={"model_type": "llama"}),
        "dataset": (DATASET,),
        "training": training,
        "mesh": Mesh(stages=((0, 1),)),
        "batch": Batch(global_size=8, micro_size=1, accumulation=8),
        "estimate": Estimate(parameters=parameters),
    }
    return TrainerConfig(**(plain | changes))


# ---- notices of one dataset ------------------------------------------------------------------------------------------------


def test_of_data_in_which_nothing_is_odd_nothing_is_told() -> None:
    assert told() == {} and told(found={"answers": 40, "reasoning": 3}) == {}


@pytest.mark.parametrize(
    ("changes", "kind", "sentence"),
    [
        (
            {"prompts_cut": 3, "longest": 90},
            "prompts cut",
            "dataset[0]: 3 of 100 documents are longer than 64 tokens and lost the beginning of their prompt, to make room for the answer "
            "(the longest has 90; raise training.sequenceLength)",
        ),
        (
            {"answers_cut": 2, "longest": 80},
            "answers cut",
            "dataset[0]: 2 of 100 documents are longer than 64 tokens and were cut at their end (the longest has 80; raise "
            "training.sequenceLength)",
        ),
        ({"dropped": 5}, "dropped", "dataset[0]: 5 of 105 documents are empty or have no answer to learn and were left out"),
        (
            {"found": {"reasoning lost": 2, "reasoning": 9}},
            "reasoning lost",
            "dataset[0]: the chat template drops the reasoning of 2 of 9 answers that have some: it is not learned",
        ),
        ({"found": {"empty answer": 4}}, "empty answer", "dataset[0]: 4 answers are empty and are not learned"),
    ],
)
def test_what_is_cut_or_left_out_is_told_with_its_number(changes: dict[str, Any], kind: str, sentence: str) -> None:
    assert told(**changes) == {kind: sentence}


def test_tokens_at_the_end_of_a_stream_are_told_only_where_they_are_many() -> None:
    rows = 150
    for left, is_told in ((505, False), (506, True)):  # 5 % of 10,107 tokens
        found = told(form="stream", tokens=rows * 64 + 1 + left, rows=rows)
        assert ("tokens left" in found) is is_told
        assert not is_told or f"the last {left} of {rows * 64 + 1 + left} tokens fill no row of 64" in found["tokens left"]
    assert "tokens left" not in told(form="table", tokens=10_000, rows=1)


@pytest.mark.parametrize(
    ("count", "shown"), [(1, "(a00)"), (MOST_NAMES, f"a{MOST_NAMES - 1})"), (MOST_NAMES + 3, f"a{MOST_NAMES - 1} and 3 more)")]
)
def test_names_that_stand_for_one_kind_are_listed_up_to_a_number(count: int, shown: str) -> None:
    found = told(found={f"column not read:a{index:02d}": index + 1 for index in range(count)})
    assert shown in found["column not read"] and f": {count} rows have columns" in found["column not read"]


def test_a_kind_that_was_not_found_is_not_told() -> None:
    assert told(found={"empty answer": 0, "column not read:x": 0}) == {}


def test_a_prompt_that_training_never_showed_is_told_with_what_makes_both_the_same() -> None:
    found = {"answers": 10, "asked otherwise:'<think>'": 4}
    assert told(found=found)["asked otherwise"].endswith("give a tokenizer.chatTemplate that writes the same in both places")
    same = told(found={**found, "asked so with:enable_thinking=False": 4})["asked otherwise"]
    assert "other text precedes 4 of 10 learned answers" in same
    assert same.endswith("with enable_thinking=False in chat_template_kwargs they are the same: prompt the trained model with that")
    partly = told(found={**found, "asked so with:enable_thinking=False": 3})["asked otherwise"]
    assert partly.endswith("in both places"), "it does not help all of them"


# ---- refusals --------------------------------------------------------------------------------------------------------------


def refusal(dataset: Dataset = DATASET, **changes: Any) -> str | None:
    try:
        check("dataset[0]", dataset, stats(**changes))
    except BadData as error:
        return str(error)
    return None


def test_data_that_makes_no_row_is_refused_with_what_was_found() -> None:
    stream = refusal(form="stream", rows=0, tokens=30, documents=2)
    assert stream is not None and "it makes no row of 64 tokens (found 2 documents with 30 tokens" in stream
    assert "Give more data or a smaller training.sequenceLength" in stream
    table = refusal(rows=0, tokens=0, documents=0, dropped=7)
    assert table is not None and "7 left out as empty or without an answer to learn" in table and "Check the data and" in table


def test_most_documents_may_not_be_left_out_silently() -> None:
    edge = int(MOST_SILENT * 1000)
    assert refusal(documents=1000 - edge, dropped=edge) is None
    said = refusal(documents=1000 - edge - 1, dropped=edge + 1)
    assert said is not None and f"{edge + 1} of 1000 documents are empty or have no answer to learn" in said


@pytest.mark.parametrize(("lost", "reasoned", "refused"), [(9, 9, True), (8, 9, False), (0, 0, False), (0, 9, False)])
def test_a_template_that_drops_all_reasoning_is_refused(lost: int, reasoned: int, refused: bool) -> None:
    found = {"found": {"reasoning lost": lost, "reasoning": reasoned}}
    assert (refusal(**found) is not None) is refused
    assert refusal(DATASET.model_copy(update={"drop_reasoning": True}), **found) is None, "its way out works"


@pytest.mark.parametrize(("most", "cut", "refused"), [(0.1, 10, False), (0.1, 11, True), (1.0, 100, False), (0.0, 1, True)])
def test_more_prompts_may_not_be_cut_than_the_dataset_allows(most: float, cut: int, refused: bool) -> None:
    said = refusal(DATASET.model_copy(update={"max_cut": most}), prompts_cut=cut, conversations=100, fitting=(80, 200))
    assert (said is not None) is refused
    if said is not None:
        assert "half of them fit into 80 tokens, all into 200" in said and "dataset[0].maxCut: 1 to cut their prompts from the left" in said


# ---- amounts ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("steps", "warm_up", "refused"), [(None, 50, False), (None, 51, True), (100, 51, False)])
def test_a_warm_up_must_end_within_the_steps_that_follow_from_epochs(steps: int | None, warm_up: int, refused: bool) -> None:
    if not refused:
        check_warm_up(config(steps=steps, warm_up=warm_up), 50)
        return
    with pytest.raises(BadData, match=r"warmupSteps is 51: 2 epochs of this data are 50 steps.*Make it at most 50"):
        check_warm_up(config(steps=steps, warm_up=warm_up), 50)


@pytest.mark.parametrize(
    ("task", "documents", "is_told"), [("sft", FEWEST_DOCUMENTS - 1, True), ("sft", FEWEST_DOCUMENTS, False), ("pretrain", 3, False)]
)
def test_few_documents_are_told_for_fine_tuning_alone(task: str, documents: int, is_told: bool) -> None:
    found = [each for each in sentences(config(task), [stats(documents=documents, rows=10_000)], 100) if "documents" in each]
    assert bool(found) is is_told
    if is_told:
        assert found == ["The data has 999 documents; fine-tuning on fewer than about 1,000 rarely gives good results."]


@pytest.mark.parametrize(("steps", "passes"), [(25, None), (28, None), (29, 5), (250, 40)])
def test_more_than_four_passes_over_a_text_are_told(steps: int, passes: int | None) -> None:
    found = list(sentences(config(), [stats(rows=30, tokens=2000), stats(rows=20, tokens=1000)], steps))
    assert found == (
        [f"Training makes {passes} passes over the 3,000 tokens of the data; more than 4 passes over the same text add little."]
        if passes
        else []
    )


@pytest.mark.parametrize(
    ("changes", "is_told"),
    [
        ({"steps": None, "parameters": 2561}, True),
        ({"steps": None, "parameters": 2560}, False),
        ({"steps": 100, "parameters": 1_000_000}, False),
        ({"steps": None, "parameters": None}, False),
        ({"steps": None, "parameters": 1_000_000, "model": Model(source="hf://acme/model")}, False),
        ({"steps": None, "parameters": 1_000_000, "model": Model(source="hf://acme/model", init="random")}, True),
        ({"steps": None, "parameters": 1_000_000, "task": "sft"}, False),
    ],
)
def test_epochs_that_are_few_tokens_for_a_new_model_are_told(changes: dict[str, Any], is_told: bool) -> None:
    found = [each for each in sentences(config(**changes), [stats(rows=10_000)], 100) if "compute-optimal" in each]
    assert bool(found) is is_told
    assert all(each.startswith("2 epochs are 51,200 tokens, ") for each in found)


def test_of_data_that_is_streamed_nothing_is_known() -> None:
    streamed = config("sft", dataset=(DATASET.model_copy(update={"streaming": True}),))
    assert list(sentences(streamed, [stats(documents=1, rows=1)], 10_000)) == []


# ---- mixtures --------------------------------------------------------------------------------------------------------------

PAIR = (DATASET.model_copy(update={"weight": 3.0}), DATASET.model_copy(update={"weight": 1.0}))


@pytest.mark.parametrize(("mixing", "wanted"), [("concat", [30.0, 20.0]), ("over", [3.0, 1.0]), ("under", [3.0, 1.0])])
def test_what_is_drawn_from_each_dataset_is_its_rows_or_its_weight(mixing: str, wanted: list[float]) -> None:
    assert shares(config(dataset=PAIR, mixing=mixing), [stats(rows=30), stats(rows=20)], 100) == wanted


def test_what_a_mixture_repeats_or_leaves_is_told_where_there_are_several() -> None:
    train = [stats(rows=30), stats(rows=20)]
    for mixing in ("over", "under"):
        mixed = config(dataset=PAIR, mixing=mixing)
        (sentence,) = notices(mixed, train, epoch_of(mixed, train))
        assert sentence.startswith(f"mixing {mixing}: an epoch is {epoch_of(mixed, train)} samples: ")
        assert "of the 30 rows of dataset[0]" in sentence and "of the 20 rows of dataset[1]" in sentence
    assert list(notices(config(dataset=PAIR, mixing="concat"), train, 50)) == []
    assert list(notices(config(mixing="over"), train[:1], 30)) == []


def test_over_reads_every_row_of_every_dataset_and_under_none_twice() -> None:
    train, rows = [stats(rows=30), stats(rows=20)], [30, 20]

    def drawn(mixing: str) -> list[int]:
        return list(Mixture([3.0, 1.0]).counts(epoch_of(config(dataset=PAIR, mixing=mixing), train)))

    assert all(count >= there for count, there in zip(drawn("over"), rows, strict=True))
    assert all(count <= there for count, there in zip(drawn("under"), rows, strict=True))
    assert epoch_of(config(dataset=PAIR, mixing="concat"), train) == 50


def test_a_curriculum_counts_samples_where_the_manifest_counts_steps() -> None:
    changed = config(dataset=PAIR, curriculum=({"from_step": 51, "weights": (0.0, 1.0)},))
    assert [stage.at for stage in stages(changed)] == [400]
    assert shares(changed, [stats(rows=500), stats(rows=500)], 100) == [300.0, 500.0]
    assert shares(changed, [stats(rows=500), stats(rows=500)], 75) == [300.0, 300.0]
