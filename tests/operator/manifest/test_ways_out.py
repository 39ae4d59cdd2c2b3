"""The way out of a refusal works: done to the manifest, it keeps the rule and breaks no other.

Most ways out are read from their words. ways_out.yaml says the others: for a manifest of bad/ a list of changes, each a mapping of path to
value, null to leave the field out.
"""

from __future__ import annotations

import copy
import random
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from llmtrain_operator.cli.manifest import with_setting
from llmtrain_operator.manifest.document import Document, read_document
from llmtrain_operator.manifest.parse import ManifestError, parse_document
from llmtrain_operator.manifest.problem import PlanError, Problem
from llmtrain_operator.plan.model.families import shape_of
from llmtrain_operator.plan.plan import plan

HERE = Path(__file__).parent
BAD = sorted((HERE.parent / "bad").glob("*.yaml"))
SAID: Mapping[str, list[dict[str, Any]]] = yaml.safe_load((HERE / "ways_out.yaml").read_text())
WORD = r"[A-Za-z0-9][\w./-]*"
Change = dict[str, Any]
FOLLOWS = {
    ("spec.training.globalBatchSize", "it must be a multiple of microBatchSize x data-parallel degree (N x N = N)"),
    ("spec.parallelism", "it must divide the N devices (N x N)"),
}
"""Sums over several fields, which whoever changes one of them meets next."""


def tree_of(manifest: Path) -> Any:
    """None where the text is no YAML: its way out is to correct a line."""
    try:
        return read_document(manifest.read_text()).value
    except ManifestError:
        return None


def problems(tree: Any, planned: bool) -> tuple[Problem, ...]:
    try:
        job = parse_document(Document(copy.deepcopy(tree), {}))
        if not planned:
            return ()
        config = job.spec.model.config
        plan(job, shape_of(config) if config else None)
    except (ManifestError, PlanError) as error:
        return error.problems
    return ()


def key(problem: Problem) -> tuple[str, str]:
    """Which rule was broken where, whatever the numbers."""
    return problem.field, re.sub(r"[\d.]+", "N", problem.rule)


def ways(problem: Problem) -> Iterator[Change]:
    """What the words of a way out say, as far as they follow a pattern."""
    field, text = problem.field, problem.way_out
    section = field.rpartition(".")[0]
    if found := _value(text.split(", which ")[0]):
        yield from ({field: value} for value in ([found] if found.startswith("[") else re.split(r", | or ", found)))
    elif found := re.match(rf"Write (spec\.{WORD})$", text):
        yield {field: None, found[1]: problem.value}
    elif found := re.match(rf"Write (spec\.{WORD}(?:\[\d+\][\w.]*)?): (.*)$", text):
        yield {field: None, found[1]: found[2]}
    elif found := re.match(rf"(?:Write|Add) ({WORD}): (\{{.*\}}|\[.*\]|{WORD}|'[^']*')", text):
        yield {f"{section}.{found[1]}" if section else found[1]: found[2]}
    elif text.startswith(("Remove it", "Leave it out")):
        yield {field: None}
        return
    if found := re.search(r"[Ll]eave ([A-Za-z]+) out", text):
        yield {(field if field.endswith(f".{found[1]}") else f"{section}.{found[1]}"): None}
    if found := re.search(r"or (?:use )?engine (native|deepspeed)", text):
        yield {"spec.parallelism.engine": found[1]}


PATTERNS = (
    rf"(?:Use|Write) at most ({WORD})",
    rf"(?:Use|Give|Give it) at least ({WORD})",
    r"Use a multiple of (\d+)",
    r"Use (\d+(?:, \d+)*(?: or \d+)?)(?=$|,| to | stages|\s*$)",
    rf"Use ({WORD}(?:, {WORD})* or {WORD}|{WORD})(?=$|,)",
    r"Write (\[.*\])$",
    rf"Write ((?!spec\.){WORD}(?:://\S+)?)(?: or more| or less| without quotes)?$",
    r'Put it in quotes: (".*")$',
)


def _value(text: str) -> str | None:
    """One value, or several with commas and `or` between them."""
    return next((found[1] for pattern in PATTERNS if (found := re.match(pattern, text))), None)


def changed(tree: Any, change: Change) -> Any:
    for path, value in change.items():
        tree = with_setting(tree, f"{path}={'null' if value is None else value}")
    return tree


CASES = [(path, tree) for path in BAD if isinstance(tree := tree_of(path), dict)]


@pytest.mark.parametrize(("manifest", "tree"), CASES, ids=[path.stem for path, _ in CASES])
def test_every_way_out_keeps_the_rule_and_breaks_no_other(manifest: Path, tree: Any) -> None:
    planned = manifest.stem.startswith("plan-")
    before = problems(tree, planned)
    given = SAID.get(manifest.stem)
    tried = 0
    for problem in before:
        for change in given if given is not None else ways(problem):
            tried += 1
            left = {key(other) for other in problems(changed(tree, change), planned)}
            assert key(problem) not in left, f"{problem}\n{change} leads to the same refusal"
            assert left - FOLLOWS <= {key(other) for other in before}, f"{problem}\n{change} is refused next: {left}"
        if given is not None:
            break
    assert tried, f"nothing was tried for: {[str(problem) for problem in before]}. Say in ways_out.yaml what the way out means."


def test_no_way_out_is_left_behind() -> None:
    assert SAID.keys() <= {path.stem for path in BAD}


def test_every_number_in_a_way_out_is_right_whatever_the_layout() -> None:
    """Layouts drawn by a fixed seed: the number that a refusal names, written, keeps the rule."""
    dice = random.Random(14)
    base = tree_of(HERE.parent / "bad" / "plan-14-batch-not-divided.yaml")
    tried = 0
    for _ in range(120):
        degrees = {name: dice.choice((1, 2, 3, 4, 6, 8)) for name in ("tensor", "pipeline", "context", "data") if dice.random() < 0.4}
        tree = copy.deepcopy(base)
        tree["spec"]["parallelism"] = {**degrees, "engine": dice.choice(("native", "native", "deepspeed", "megatron", "accelerate"))}
        tree["spec"]["training"] |= {"globalBatchSize": dice.choice((1, 7, 16, 60)), "sequenceLength": dice.choice((100, 1000, 1030))}
        tree["spec"]["training"]["microBatchSize"] = dice.choice((1, 3))
        for problem in problems(tree, planned=True):
            for change in ways(problem):
                tried += 1
                left = {key(other) for other in problems(changed(tree, change), planned=True)}
                assert key(problem) not in left, f"{problem}\n{change} leads to the same refusal of {tree['spec']['parallelism']}"
    assert tried > 200
