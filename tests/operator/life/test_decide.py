"""The order of the policies. What each of them decides: tests/operator/life/policies."""

from __future__ import annotations

import inspect
from types import FunctionType, ModuleType
from typing import get_type_hints

from llmtrain_operator.life.attempt import AttemptView
from llmtrain_operator.life.decide import POLICIES
from llmtrain_operator.life.decision import Decision
from llmtrain_operator.life.policies import contention, ended, failed, placement, starting

MODULES = (contention, ended, failed, placement, starting)


def test_each_policy_stands_in_the_order_once() -> None:
    written = [found for module in MODULES for found in vars(module).values() if inspect.isfunction(found) and _is_policy(found, module)]
    assert set(POLICIES) == set(written) and len(POLICIES) == len(written) > 20


def test_what_ends_a_job_for_good_comes_before_what_starts_it() -> None:
    order = [policy.__name__ for policy in POLICIES]
    assert order.index("going_away") == 0, "a job that is deleted is touched by nobody"
    assert order.index("finished") < order.index("suspended") < order.index("failed") < order.index("starts")
    assert order.index("ending") < order.index("starts"), "two attempts never run at once"
    assert order[-1] == "under_way", "the only one that always decides"


def _is_policy(found: FunctionType, module: ModuleType) -> bool:
    """Whether it is public, was written there, and takes a gang alone."""
    own = found.__module__ == module.__name__ and not found.__name__.startswith("_")
    return own and get_type_hints(found) == {"gang": AttemptView, "return": Decision | None}
