"""YAML text -> plain values with their positions.

It reads YAML as Kubernetes' own tools do: `1e-4` is a number, a date is text, on and off are booleans, keys are text. Mistakes that those
tools accept silently (a repeated key, an invalid number) are problems here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import yaml

from llmtrain_operator.manifest.problem import Problem

Path = tuple[str | int, ...]

_NO_NAME = "Write name: value; the {{ }} of a template must be filled in first"
_CORRECT = "Correct that line; wrong indentation, a tab, a missing space after a colon or a template's {{ }} are the usual causes"
_START = "Write one with `llmtrain init`, or start from one of the files in examples/"

DEEPEST = 64
MOST_VALUES = 50_000
LONGEST = 1 << 20
"""Most characters of a manifest; an API server accepts no larger object."""

_TAG = "tag:yaml.org,2002:"


class ManifestError(ValueError):
    """The text is not a valid manifest. Has every problem found, in the order of the text."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))

    def __reduce__(self) -> tuple[type[ManifestError], tuple[tuple[Problem, ...]]]:
        return type(self), (self.problems,)


@dataclass(frozen=True, slots=True)
class Document:
    """One YAML document: dicts, lists, text, numbers, booleans and None, with their positions."""

    value: Any
    marks: dict[Path, tuple[int, int]]

    def position(self, path: Path) -> tuple[int, int]:
        """Line and column of a value, or of the nearest section that exists; (0, 0) at the top."""
        while path and path not in self.marks:
            path = path[:-1]
        return self.marks.get(path, (0, 0))


def dotted(path: Path) -> str:
    """('spec', 'dataset', 0, 'weight') -> spec.dataset[0].weight."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).lstrip(".")


class _Loader(yaml.SafeLoader):
    """YAML 1.1 as Kubernetes reads it; see the module docstring."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}


for _tag, _pattern, _first in (
    ("bool", r"(yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF)", "yYnNtTfFoO"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", "-+0123456789."),
    ("int", r"[-+]?(0|[1-9][0-9_]*|0x[0-9a-fA-F_]+|0o[0-7_]+|0b[01_]+)", "-+0123456789"),
    ("null", r"(~|null|Null|NULL|)", "~nN\0"),
    ("merge", r"<<", "<"),
):
    _firsts: list[str | None] = ["" if letter == "\0" else letter for letter in _first]
    _Loader.add_implicit_resolver(f"{_TAG}{_tag}", re.compile(rf"^({_pattern})$"), _firsts)


def read_document(text: str) -> Document:
    """Read text with exactly one document. Raises ManifestError."""
    if len(text) > LONGEST:
        rule = f"it has at most {LONGEST} characters"
        raise ManifestError([Problem("manifest", f"{len(text)} characters", rule, "Shorten it")])
    node = _single(_composed(text))
    reader = _Reader()
    value = reader.read(node, ())
    if reader.problems:
        raise ManifestError(reader.problems)
    return Document(value, reader.marks)


def _composed(text: str) -> list[yaml.Node]:
    try:
        return [node for node in yaml.compose_all(text, Loader=_Loader) if node is not None and not _is_nothing(node)]
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"not YAML at line {mark.line + 1}, column {mark.column + 1}" if mark else "not YAML"
        raise ManifestError([Problem("manifest", where, error.problem or error.context or "it cannot be read", _CORRECT)]) from None
    except yaml.YAMLError:
        raise ManifestError([Problem("manifest", "not text", "it has a control character", "Save it as plain UTF-8 text")]) from None
    except RecursionError:
        raise ManifestError([too_deep("manifest")]) from None


def _is_nothing(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == f"{_TAG}null"


def _single(nodes: list[yaml.Node]) -> yaml.Node:
    if not nodes:
        raise ManifestError([Problem("manifest", "empty", "it must have one LLMTrainJob", _START)])
    if len(nodes) > 1:
        way_out = "Put each job into its own file"
        raise ManifestError([Problem("manifest", f"{len(nodes)} YAML documents", "it must have one LLMTrainJob", way_out)])
    return nodes[0]


def too_large() -> Problem:
    return Problem("manifest", "too large", f"it has at most {MOST_VALUES} values", "Shorten it, or use fewer aliases")


def too_deep(where: str) -> Problem:
    return Problem(where, "nested too deeply", f"a manifest has at most {DEEPEST} levels", "Use fewer levels")


@dataclass(slots=True)
class _Reader:
    """One walk over the nodes. After a problem the walk continues, with None as the value."""

    problems: list[Problem] = field(default_factory=list)
    marks: dict[Path, tuple[int, int]] = field(default_factory=dict)
    values: int = 0

    def read(self, node: yaml.Node, path: Path) -> Any:
        self.values += 1
        self.marks.setdefault(path, (node.start_mark.line, node.start_mark.column))
        if len(path) > DEEPEST or self.values > MOST_VALUES:
            return self._too_much(path)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.read(item, (*path, i)) for i, item in enumerate(node.value)]
        return self._scalar(node, path)

    def _too_much(self, path: Path) -> None:
        """Note the problem once: an alias that contains itself would repeat it endlessly."""
        found = too_large() if self.values > MOST_VALUES else too_deep(dotted(path[:4]))
        if found not in self.problems:
            self.problems.append(found)

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        own: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key, value in node.value:
            if key.tag == f"{_TAG}merge":
                merged = {**self._merged(value, path), **merged}
                continue
            if not isinstance(key, yaml.ScalarNode) or not is_text(key.value):
                self._note((*path, "?"), "not a name", "the name of a field must be text", _NO_NAME)
                continue
            below = (*path, key.value)
            if key.value in own:
                way_out = f"Remove the one in line {key.start_mark.line + 1}"
                self._note(below, "given twice", "a field may occur once in its section", way_out)
                continue
            self.marks[below] = (key.start_mark.line, key.start_mark.column)
            own[key.value] = self.read(value, below)
        return {**merged, **own}

    def _merged(self, node: yaml.Node, path: Path) -> dict[str, Any]:
        """The value of a merge key such as `<<: *defaults`, or of a list of them, of which the first wins."""
        value = self.read(node, (*path, "<<"))
        parts = value if isinstance(value, list) else [value]
        if not all(isinstance(part, dict) for part in parts):
            self._note((*path, "<<"), "not a mapping", "a merge key needs a mapping", "Write <<: *name of an anchored mapping")
            return {}
        return {key: part[key] for part in reversed(parts) for key in part}

    def _scalar(self, node: yaml.Node, path: Path) -> Any:
        text = str(node.value)
        kind = node.tag.removeprefix(_TAG)
        try:
            return _converted(kind, text)
        except (ValueError, KeyError):
            rule = "it must be text, a finite number, true or false, without a tag"
            self._note(path, repr(text[:60]), rule, "Write the plain value, in quotes where it is text")
            return None

    def _note(self, path: Path, value: str, rule: str, way_out: str) -> None:
        self.problems.append(Problem(dotted(path) or "manifest", value, rule, way_out))


def is_text(text: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def _converted(kind: str, text: str) -> str | int | float | bool | None:
    """The value of a scalar. Raises ValueError or KeyError if JSON has no such value."""
    if kind in ("str", "merge", "value") and is_text(text):
        return text
    if kind == "null":
        return None
    if kind == "bool":
        return {"yes": True, "true": True, "on": True, "no": False, "false": False, "off": False}[text.lower()]
    if kind == "int":
        return int(text.replace("_", ""), 0)
    if kind != "float" or not math.isfinite(number := float(text.replace("_", ""))):
        raise ValueError(text)
    return number
