"""Whose an object is: anybody can set names and labels, and what is somebody else's is never counted, changed or deleted."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from llmtrain_operator.kube import names
from llmtrain_operator.kube.observe.ownership import controller_of, holder, is_made_for, is_of, labelled, pods_made_for

CONTROLLER = {"apiVersion": "llmtrain.io/v1alpha1", "kind": "LLMTrainJob", "name": "demo", "uid": "u1", "controller": True}
LABELS = {**names.object_labels("demo"), names.LABEL_JOB_UID: "u1"}
POD: dict[str, Any] = {"metadata": {"name": "demo-a2-1", "labels": LABELS, "ownerReferences": [CONTROLLER]}}
Change = Callable[[dict[str, Any]], object]


def changed(change: Change) -> dict[str, Any]:
    found = copy.deepcopy(POD)
    change(found["metadata"])
    return found


def owned(**changes: Any) -> Change:
    return lambda meta: meta.update(ownerReferences=[{**CONTROLLER, **changes}])


def orphaned(**labels: Any) -> Change:
    """Left behind by `kubectl delete --cascade=orphan`, with labels that differ."""
    return lambda meta: meta.update(ownerReferences=[], labels={name: value for name, value in {**LABELS, **labels}.items() if value})


CASES: dict[str, tuple[Change, bool, bool]] = {
    # what was changed: whether it is of this very job, whether it was made for a job of this name
    "nothing": (lambda _: None, True, True),
    "a newer version of the API": (owned(apiVersion="llmtrain.io/v1"), True, True),
    "an earlier job of this name": (owned(uid="u0"), False, True),
    "a job of another name": (owned(name="other", uid="u2"), False, False),
    "another kind": (owned(kind="Job"), False, False),
    "the same kind of another group": (owned(apiVersion="other.io/v1alpha1"), False, False),
    "a group that only begins like ours": (owned(apiVersion="llmtrain.io.example/v1"), False, False),
    "no version": (owned(apiVersion=None), False, False),
    "an owner that does not control": (owned(controller=False), False, True),
    "an owner that says nothing of control": (owned(controller=None), False, True),
    "a word instead of true": (owned(controller="true"), False, True),
    "the second owner controls": (
        lambda meta: meta.update(ownerReferences=[{**CONTROLLER, "uid": "x", "controller": False}, CONTROLLER]),
        True,
        True,
    ),
    "an orphan": (orphaned(), False, True),
    "an orphan without our uid": (orphaned(**{names.LABEL_JOB_UID: None}), False, False),
    "an orphan of another job": (orphaned(**{"llmtrain.io/job": "other"}), False, False),
    "an orphan managed by another": (orphaned(**{"app.kubernetes.io/managed-by": "Helm"}), False, False),
    "no owners and no labels": (lambda meta: (meta.pop("ownerReferences"), meta.pop("labels")), False, False),
    "null owners and labels": (lambda meta: meta.update(ownerReferences=None, labels=None), False, False),
}


@pytest.mark.parametrize("case", CASES)
def test_an_object_belongs_to_its_controller_and_an_orphan_to_the_job_in_all_its_labels(case: str) -> None:
    change, of_this_job, made_for_it = CASES[case]
    found = changed(change)
    assert (is_of(found, "u1"), is_made_for(found, "demo")) == (of_this_job, made_for_it)


@pytest.mark.parametrize("case", CASES)
def test_pods_are_counted_exactly_where_they_were_made_for_the_job(case: str) -> None:
    change, _, made_for_it = CASES[case]
    assert len(pods_made_for([changed(change)], "demo")) == made_for_it


@pytest.mark.parametrize("name", ["demo-a2", "demo-a02-1", "demo-a2-01", "demo-a2-1-x", "demo-a0-1", "other-a2-1", "xdemo-a2-1", "", None])
def test_a_pod_with_a_name_that_the_job_does_not_use_is_not_its_pod(name: str | None) -> None:
    assert pods_made_for([changed(lambda meta: meta.update(name=name))], "demo") == ()


def test_attempt_and_index_come_from_the_name_whatever_the_labels_say() -> None:
    lying = changed(lambda meta: meta["labels"].update({"llmtrain.io/attempt": "9", "llmtrain.io/index": "7"}))
    (pod,) = pods_made_for([lying], "demo")
    assert (pod.attempt, pod.index) == (2, 1)


@pytest.mark.parametrize("found", [{}, {"metadata": None}, {"metadata": {}}])
def test_an_object_without_metadata_is_nobodys(found: dict[str, Any]) -> None:
    assert controller_of(found) is None and labelled(found) is None
    assert not is_of(found, "u1") and not is_made_for(found, "demo") and pods_made_for([found], "demo") == ()


def test_who_holds_a_name_is_told_in_words() -> None:
    assert holder(changed(owned(kind="Deployment", name="web"))) == "Deployment web"
    assert holder({"metadata": {"name": "ltj-demo"}}) == "somebody else"


@pytest.mark.parametrize(("label", "job"), [("demo", "demo"), ("", None), (None, None), (7, None), (["demo"], None)])
def test_a_label_names_a_job_only_as_a_text(label: object, job: str | None) -> None:
    assert labelled({"metadata": {"labels": {"llmtrain.io/job": label}}}) == job
