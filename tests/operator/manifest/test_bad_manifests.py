"""Every bad manifest is refused in exactly the words beside it: field, value, rule, way out. UPDATE_GOLDEN=1 writes the words anew.

plan-*.yaml parse and are refused by the plan; all others are refused by parsing, and by the CRD too.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import pytest

from llmtrain_operator.manifest.parse import ManifestError, parse_manifest
from llmtrain_operator.manifest.problem import PlanError, Problem

BAD = sorted((Path(__file__).parents[1] / "bad").glob("*.yaml"))


def refusals(manifest: Path) -> tuple[Problem, ...]:
    """What parsing says, or else what the plan says, its shape read from spec.model.config."""
    try:
        job = parse_manifest(manifest.read_text())
    except ManifestError as error:
        assert not manifest.name.startswith("plan-"), f"a plan-level manifest must parse: {error}"
        return error.problems
    assert manifest.name.startswith("plan-"), "parsing found nothing wrong"
    from llmtrain_operator.plan.model.families import shape_of
    from llmtrain_operator.plan.plan import plan

    try:
        config = job.spec.model.config
        plan(job, shape_of(config) if config else None)
    except PlanError as error:
        return error.problems
    return ()


def text(problems: Iterable[Problem]) -> str:
    return "".join(f"{problem}\n" for problem in problems)


@pytest.mark.parametrize("manifest", BAD, ids=lambda path: path.stem)
def test_a_bad_manifest_is_refused_in_these_words(manifest: Path) -> None:
    golden = manifest.with_suffix(".txt")
    said = text(refusals(manifest))
    assert said, "nothing was refused"
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(said)
    assert said.splitlines() == golden.read_text().splitlines()


@pytest.mark.parametrize("manifest", BAD, ids=lambda path: path.stem)
def test_a_refusal_names_field_rule_and_way_out(manifest: Path) -> None:
    for problem in refusals(manifest):
        assert problem.field.split(".")[0].split("[")[0] in {"manifest", "apiVersion", "kind", "metadata", "spec", "suspend"}
        assert problem.field in str(problem)
        assert len(problem.rule.split()) >= 2 and len(problem.way_out.split()) >= 2
        assert "\n" not in str(problem) and len(str(problem)) <= 600


def test_there_are_at_least_sixty() -> None:
    assert len(BAD) >= 60
    assert sum(not manifest.name.startswith("plan-") for manifest in BAD) >= 40


def test_no_golden_is_left_behind() -> None:
    goldens = {golden.stem for golden in (Path(__file__).parents[1] / "bad").glob("*.txt")}
    assert goldens == {manifest.stem for manifest in BAD}
