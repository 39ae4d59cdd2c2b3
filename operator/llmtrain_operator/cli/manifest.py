"""From -f and --set to a job.

A local manifest may name files with relative paths: file://./data.jsonl and file://../out are relative to the manifest's directory, in
--set to the current directory; file://~/data.jsonl is in the home directory. A cluster has none of these directories, so the job itself
only has absolute paths.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmtrain_operator.cli.refusal import UsageError

if TYPE_CHECKING:
    from llmtrain_operator.api.job import LLMTrainJob

ManifestOption = Annotated[str, typer.Option("--file", "-f", help="The manifest; - reads standard input.", metavar="FILE")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change one field, such as spec.training.maxSteps=20. May be repeated.", metavar="PATH=VALUE"),
]


BESIDE = re.compile(r"file://(\.\.?|/?~)(/|$)")
"""Beginning of a local path that is not absolute."""

MOST_BYTES = (4 << 20) + 1
"""Bytes read of a manifest: one more than is allowed, so that a longer one is noticed."""


def load_manifest(file: str, settings: Sequence[str] | None = None) -> LLMTrainJob:
    """Read, change and parse a manifest.

    Raises ManifestError with every problem, UsageError for a bad --set, OSError if the file cannot be read.
    """
    from llmtrain_operator.manifest.document import read_document
    from llmtrain_operator.manifest.parse import parse_manifest, parse_object

    text = read_manifest(file)
    written = read_document(text).value
    tree = with_settings(with_absolute_paths(written, Path.cwd() if file == "-" else Path(file).resolve().parent), settings)
    return parse_manifest(text) if tree == written else parse_object(tree)  # from the text, problems come in its order


def load_for_cluster(file: str, settings: Sequence[str] | None = None) -> tuple[LLMTrainJob, dict[str, Any]]:
    """The job, and the manifest as it was written, so that no defaults are sent to a cluster. Raises as load_manifest, and UsageError for a
    relative path, which no pod has."""
    from llmtrain_operator.manifest.document import read_document
    from llmtrain_operator.manifest.parse import parse_manifest, parse_object

    text = read_manifest(file)
    written = read_document(text).value
    tree = with_settings(written, settings)
    if local := list(_local_files(tree)):
        raise UsageError("\n".join(local))
    return parse_manifest(text) if tree == written else parse_object(tree), tree


def with_settings(tree: Any, settings: Sequence[str] | None) -> Any:
    """The tree with every --set applied, in order."""
    for setting in settings or ():
        tree = with_setting(tree, setting)
    return tree


def read_manifest(file: str) -> str:
    """The text of a file, or of standard input for -. Raises UsageError, OSError."""
    if file != "-":
        return _read(Path(file))
    try:
        return sys.stdin.read(MOST_BYTES)
    except UnicodeDecodeError:
        raise UsageError("standard input is not UTF-8 text. Save it as UTF-8.") from None


def with_absolute_paths(value: Any, base: Path) -> Any:
    """The tree with every file://./... and file://../... resolved against `base`, and every file://~/... against the home directory."""
    if isinstance(value, dict):
        return {name: with_absolute_paths(child, base) for name, child in value.items()}
    if isinstance(value, list):
        return [with_absolute_paths(child, base) for child in value]
    if isinstance(value, str) and BESIDE.match(value):
        path = Path(re.sub(r"^/~", "~", value.removeprefix("file://")))
        return f"file://{os.path.abspath(base / path.expanduser())}"  # noqa: PTH100 (links keep the name that was written)
    return value


def typed_uri(text: str) -> str:
    """The URI for the text of an option: a path that begins with a slash, a dot or ~ is a file, relative to the current directory."""
    uri = f"file://{text}" if re.match(r"/(?!/)|\.{1,2}(/|$)|~(/|$)", text) else text
    return str(with_absolute_paths(uri, Path.cwd()))


def with_setting(tree: Any, setting: str) -> Any:
    """The tree with one field changed by PATH=VALUE. The value is read as YAML; null removes the field. Raises UsageError."""
    from llmtrain_operator.manifest.document import ManifestError, read_document

    path, separator, text = setting.partition("=")
    steps = [step for step in re.split(r"[.\[\]]+", path) if step]
    if not separator or not steps or len(steps) > 64:
        raise UsageError(f"--set {setting}: it must be PATH=VALUE, such as spec.training.maxSteps=20.")
    try:
        value = None if text.strip() in ("", "null", "~") else with_absolute_paths(read_document(text).value, Path.cwd())
    except ManifestError as error:
        raise UsageError(f"--set {path}: {' '.join(map(str, error.problems))}") from None
    return _changed(tree, steps, value, path)


def _changed(place: Any, steps: Sequence[str], value: Any, path: str) -> Any:
    """`place` with the field at `steps` replaced; missing sections on the way are created."""
    if not steps:
        return value
    step, rest = steps[0], steps[1:]
    if isinstance(place, list):
        if not (step.isascii() and step.isdigit() and len(step) < 10) or int(step) >= len(place):
            raise UsageError(f"--set {path}: {step} must be an index below {len(place)}, as in spec.dataset[0].weight.")
        return [_changed(item, rest, value, path) if index == int(step) else item for index, item in enumerate(place)]
    if place is not None and not isinstance(place, dict):
        raise UsageError(f"--set {path}: {step} cannot be set in {place!r:.60}, which has no fields.")
    fields = dict(place or {})
    if not rest and value is None:
        fields.pop(step, None)
    else:
        fields[step] = _changed(fields.get(step), rest, value, path)
    return fields


def _local_files(tree: Any, path: str = "") -> Iterator[str]:
    """One sentence on each relative path."""
    if isinstance(tree, dict):
        for name, child in tree.items():
            yield from _local_files(child, f"{path}.{name}" if path else str(name))
    elif isinstance(tree, list):
        for index, child in enumerate(tree):
            yield from _local_files(child, f"{path}[{index}]")
    elif isinstance(tree, str) and BESIDE.match(tree):
        places = "s3:// or pvc://" if path.endswith(".destination") else "s3://, hf:// or pvc://"
        yield f"{path} is {tree}, a path on this machine that no pod can reach. Use a location on {places}."


def _read(path: Path) -> str:
    if not path.exists():
        raise UsageError(f"{path}: there is no such file. `llmtrain init` writes one to start from.")
    with path.open("rb") as given:  # a longer one is refused for its length; /dev/zero has no end
        return _text(str(path), given.read(MOST_BYTES))


def _text(name: str, raw: bytes) -> str:
    try:
        return raw.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise UsageError(f"{name} is not UTF-8 text: line {line} has an invalid byte. Save it as UTF-8.") from None
