"""What the plan says of several datasets."""

from __future__ import annotations

from collections.abc import Callable

from llmtrain_operator.api.job import LLMTrainJob
from llmtrain_operator.plan.plan import Plan
from llmtrain_operator.plan.trainer_config import trainer_config

TWO = [{"source": "file:///data/a.jsonl"}, {"source": "file:///data/b.jsonl"}]
STAGE = {"fromStep": 10, "weights": [0, 1]}


def test_the_plan_says_what_an_epoch_is(planned: Callable[..., Plan]) -> None:
    (said,) = [line for line in planned(dataset=TWO, mixing="concat").advice if line.startswith("mixing")]
    assert "every row of every dataset once" in said


def test_settings_of_one_dataset_have_no_effect(planned: Callable[..., Plan]) -> None:
    found = planned(mixing="concat").advice
    assert "spec.mixing has no effect: there is one dataset." in found
    assert "spec.curriculum has no effect: there is one dataset." in planned(curriculum=[{"fromStep": 5, "weights": [1]}]).advice
    assert not any("no effect" in line for line in planned(dataset=TWO, mixing="concat").advice)


def test_a_stage_after_the_last_step_is_told(planned: Callable[..., Plan]) -> None:
    late = {"fromStep": 1001, "weights": [1, 1]}
    found = planned(dataset=TWO, curriculum=[STAGE, late]).advice
    assert "spec.curriculum[1] begins at step 1001 and is never reached: training.maxSteps is 1000." in found


def test_the_trainer_is_given_both(job: Callable[..., LLMTrainJob], planned: Callable[..., Plan]) -> None:
    given = {"dataset": TWO, "curriculum": [STAGE]}
    made = trainer_config(job(**given), planned(**given), 0)
    assert [(stage.from_step, stage.weights) for stage in made.curriculum] == [(10, (0.0, 1.0))]
    assert trainer_config(job(dataset=TWO, mixing="concat"), planned(dataset=TWO, mixing="concat"), 0).mixing == "concat"
