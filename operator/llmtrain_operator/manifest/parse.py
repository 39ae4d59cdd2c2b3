"""Manifest text -> LLMTrainJob, or all its problems at once. Later code never meets a wrong type.

The manifest is read as the API server reads it: defaults are filled in, null means absent, numbers are not quoted, field names are exact.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Set
from functools import cache
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from llmtrain_operator.api.job import GROUP, KIND, VERSION, LLMTrainJob
from llmtrain_operator.manifest import suggestions
from llmtrain_operator.manifest.bounds import excesses
from llmtrain_operator.manifest.document import Document, ManifestError, Path, dotted, read_document
from llmtrain_operator.manifest.problem import Problem
from llmtrain_operator.manifest.rules.registry import RULES
from llmtrain_operator.manifest.rules.rule import Rule
from llmtrain_operator.manifest.schema import Schema, below, defaulted, for_task, structural
from llmtrain_operator.manifest.unknown_fields import unknown

__all__ = ["ManifestError", "parse_document", "parse_manifest", "parse_object"]

Placed = tuple[Path, Problem]
MOST_TOLD = 50
"""Most problems of single fields that are reported at once."""

_OF_KUBERNETES = {
    *("uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"),
    *("selfLink", "managedFields", "finalizers", "ownerReferences", "generateName"),
}
"""Metadata that Kubernetes owns or checks by itself."""

Given = dict[str, Any]


def parse_manifest(text: str) -> LLMTrainJob:
    """One YAML document -> a job. Raises ManifestError with every problem, in the order of the text."""
    return parse_document(read_document(text))


def parse_object(manifest: object) -> LLMTrainJob:
    """An object from the API server, which has checked its metadata, -> a job. Raises ManifestError with every problem."""
    return parse_document(Document(_with_known_metadata(manifest), {}))


def _with_known_metadata(manifest: object) -> object:
    """Without labels, annotations, and what a later Kubernetes may have: the API server has checked them, and nothing here reads them."""
    metadata = manifest.get("metadata") if isinstance(manifest, dict) else None
    if not isinstance(manifest, dict) or not isinstance(metadata, dict):
        return manifest
    return {**manifest, "metadata": {name: metadata[name] for name in ("name", "namespace") if name in metadata}}


@cache
def manifest_schema() -> Schema:
    """The structural schema of the whole manifest, with examples."""
    return structural(LLMTrainJob)


def parse_document(document: Document) -> LLMTrainJob:
    """A document, whose value may have been changed since it was read, -> a job. Raises ManifestError with every problem, in the order of
    the document's marks."""
    _refuse(_envelope(document.value), document)
    given = _read(document.value)
    _refuse(excesses(given), document)
    manifest = json.loads(json.dumps(given))  # keys are text
    stored = defaulted(manifest, manifest_schema())
    seen = for_task(stored, manifest_schema(), task_of(stored))
    try:
        job = LLMTrainJob.model_validate_json(json.dumps(seen), strict=True, by_alias=True, by_name=False)
    except ValidationError as error:
        found, touched = _of_fields(error.errors(include_url=False, include_context=False), manifest, seen)
        _refuse([*found, *_of_rules(manifest, stored, touched)], document)
        raise
    _refuse(_of_rules(manifest, stored, ()), document)
    return job


def task_of(manifest: Given) -> object:
    """spec.task, or None."""
    spec = manifest.get("spec")
    return spec.get("task") if isinstance(spec, dict) else None


def _read(manifest: Given) -> Given:
    """The part that a person writes: without status, and without metadata that Kubernetes owns."""
    given = {name: value for name, value in manifest.items() if name != "status"}
    metadata = given.get("metadata")
    if isinstance(metadata, dict):
        given["metadata"] = {name: value for name, value in metadata.items() if name not in _OF_KUBERNETES}
    return given


def _refuse(found: Iterable[Placed], document: Document) -> None:
    """Raise ManifestError with the problems found, if any, in the order of the text."""
    ordered = sorted(found, key=lambda placed: document.position(placed[0]))
    if ordered:
        raise ManifestError(problem for _, problem in ordered)


def _envelope(manifest: object) -> Iterator[Placed]:
    """Problems if this is not an LLMTrainJob. Further problems of another kind would only be noise."""
    if not isinstance(manifest, dict):
        yield (), Problem("manifest", suggestions.shown(manifest), "it must be a mapping", f"Start with apiVersion: {GROUP}/{VERSION}")
        return
    for name, right in (("apiVersion", f"{GROUP}/{VERSION}"), ("kind", KIND)):
        given = manifest.get(name)
        if given != right:
            value = "missing" if given is None else suggestions.shown(given)
            yield (name,), Problem(name, value, f"it must be {right}", f"Write {name}: {right}")


def _of_fields(errors: list[ErrorDetails], manifest: Given, seen: Given) -> tuple[list[Placed], set[Path]]:
    """Problems of single fields, one per field; and the paths for which rules over several fields should not be evaluated."""
    schema = manifest_schema()
    found: dict[Path, Problem] = {}
    touched: set[Path] = set()
    required: list[Path] = []
    for error in errors:
        if len(found) == MOST_TOLD:
            rule = f"only the first {MOST_TOLD} are shown"
            found[()] = Problem("manifest", f"{len(errors)} problems", rule, "Fix them, then validate it again")
            return list(found.items()), {()}
        path = _known(error["loc"], schema, error["type"] == "extra_forbidden")
        if error["type"] == "extra_forbidden":
            rule, way_out, target = unknown(path, error["input"], schema)
            found[path] = Problem(dotted(path), suggestions.shown(error["input"]), rule, way_out)
            touched |= {target} if target else set()
        elif error["type"] == "missing":
            required.append(path)
        elif path not in found and not _is_echo(error, schema):
            found[path] = _of_value(path, error, _given(manifest, seen, path), schema)
            touched.add(path)
    for path in required:
        if not any(meant[: len(path)] == path for meant in touched):  # else the problem of a misspelt field covers it
            found[path] = Problem(dotted(path), "missing", *suggestions.missing(path, below(schema, path) or {}))
    return list(found.items()), touched | set(required)


def _known(loc: tuple[int | str, ...], schema: Schema, is_unknown: bool) -> Path:
    """pydantic's location without its names for members of a union and for keys of a map."""
    depth = len(loc)
    while depth and below(schema, loc[: depth - is_unknown]) is None:
        depth -= 1
    return loc[:depth]


def _is_echo(error: ErrorDetails, schema: Schema) -> bool:
    """Whether the error only follows from another one: pydantic counts valid items only, so a bad item also makes a list too short."""
    return error["type"] == "too_short" and len(error["input"]) >= (below(schema, error["loc"]) or {}).get("minItems", 0)


def _of_value(path: Path, error: ErrorDetails, value: Any, schema: Schema) -> Problem:
    field = dotted(path)
    if error["loc"][-1] == "[key]":
        keys = (below(schema, path[:-1]) or {}).get("propertyNames", {})
        rule, way_out = suggestions.wrong(path[-1], {"type": "string", **keys}, "the name")
        return Problem(dotted(path[:-1]), suggestions.shown({path[-1]: value}), rule.replace("it must", "the name must", 1), way_out)
    return Problem(field, suggestions.shown(value), *suggestions.wrong(value, below(schema, path) or {}, str(path[-1])))


def _given(manifest: Given, seen: Given, path: Path) -> Any:
    """The value as it was written, or its default. Raises KeyError or TypeError if there is neither."""
    try:
        return _at(manifest, path)
    except (KeyError, TypeError):
        return _at(seen, path)


def _at(value: Any, path: Path) -> Any:
    for step in path:
        value = value[step]
    return value


# ---- rules over several fields -------------------------------------------------------------------------------------------


def _of_rules(manifest: Given, seen: Given, wrong: Iterable[Path]) -> Iterator[Placed]:
    """Problems from RULES, for rules whose fields are all valid by themselves."""
    ends = frozenset(wrong)
    if () in ends:
        return
    above = {path[:depth] for path in ends for depth in range(len(path))}
    for rule in RULES:
        for path, section in _sections(seen, rule.at):
            if not any(_overlaps((*path, *read.split(".")), ends, above) for read in rule.reads) and not rule.holds(section):
                yield _broken(rule, path, manifest, seen)


def _sections(manifest: Any, at: str) -> list[tuple[Path, Given]]:
    """The sections at `at`, as (path, section); none if the manifest does not have them."""
    found: list[tuple[Path, Any]] = [((), manifest)]
    for step in at.split("."):
        name = step.removesuffix("[]")
        found = [((*path, name), value[name]) for path, value in found if isinstance(value, dict) and name in value]
        if step.endswith("[]"):
            found = [((*path, i), item) for path, items in found if isinstance(items, list) for i, item in enumerate(items)]
    return [(path, value) for path, value in found if isinstance(value, dict)]


def _overlaps(path: Path, ends: Set[Path], above: Set[Path]) -> bool:
    """Whether the path is one of `ends`, or lies below one, or is one of those `above` them."""
    return path in above or any(path[:depth] in ends for depth in range(len(path) + 1))


def _broken(rule: Rule, path: Path, manifest: Given, seen: Given) -> Placed:
    where = (*path, *rule.field.split("."))
    try:
        value = suggestions.shown(_given(manifest, seen, where))
    except (KeyError, TypeError):
        value = "missing"
    return where, Problem(dotted(where), value, rule.rule, rule.way_out)
