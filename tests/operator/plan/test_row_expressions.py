"""`where`, `template` and inline chat templates are compiled by the plan, which runs nothing of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from llmtrain_operator.manifest.problem import PlanError
from llmtrain_operator.plan.checks.chat_template import fault
from llmtrain_operator.plan.plan import Plan

Planned = Callable[..., Plan]

FINE = (
    *("9**(9**9) > n", "'x' * 30000000000 == text", "1 / 0 > n", "a in range(10 ** 12)", "a is null or b is defined"),
    *("rating | int > 3", "meta.good and tags | length > 2", "(a ~ b) | tojson | length < 9", "a if b else c"),
)

WRONG = {
    "rating >": "unexpected 'end of template'",
    "a; b": "chunk after expression",
    "{{ a }}": "expected token ':'",
    "a == 'x": "unexpected char",
    "a is odd_one": "No test named 'odd_one'",
    "a | random": "No filter named 'random'",
    "(" * 2000 + "n" + ")" * 2000: "nested too deep",
    "not " * 900 + "n": "nested too deep",
}


def dataset(**given: Any) -> dict[str, Any]:
    return {"dataset": [{"source": "s3://b/d", "format": "text", **given}]}


@pytest.mark.parametrize("where", FINE)
def test_what_can_be_compiled_is_left_to_preparation_and_constants_are_not_computed(planned: Planned, where: str) -> None:
    planned(**dataset(where=where, template={"text": "{{ (" + where + ") }}"}))


@pytest.mark.parametrize("where", WRONG, ids=lambda text: text[:20])
def test_what_cannot_be_compiled_is_refused_with_its_field(planned: Planned, where: str) -> None:
    for field, given in (("where", {"where": where}), ("template.text", {"template": {"text": "{{ " + where + " }}"}})):
        if field == "template.text" and where in ("rating >", "a; b", "{{ a }}"):
            continue
        with pytest.raises(PlanError) as raised:
            planned(**dataset(**given))
        assert f"spec.dataset[0].{field} is " in str(raised.value)
        assert WRONG[where] in str(raised.value)


def test_those_of_validation_data_are_looked_at_too(planned: Planned) -> None:
    with pytest.raises(PlanError, match=r"spec\.evaluation\.dataset\[0\]\.where is a >: it is not a valid expression"):
        planned(**dataset(), evaluation={"dataset": [{"source": "s3://b/e", "where": "a >"}]})


@pytest.mark.parametrize("constant", ["9**(9**9)", "'x' * 30000000000", "[0] * 30000000000", "range(9) | list * 30000000000"])
def test_a_chat_template_is_not_run_either(constant: str) -> None:
    assert fault("{{ messages }}{{ " + constant + " }}{% if " + constant + " %}{% endif %}") is None
