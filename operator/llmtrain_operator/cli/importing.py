"""`llmtrain import`: a recipe of another trainer becomes a manifest, with a line for each of its keys."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmtrain_operator.cli.refusal import INVALID, UsageError
from llmtrain_operator.cli.say import say
from llmtrain_operator.manifest.suggestions import shown

if TYPE_CHECKING:
    from llmtrain_operator.recipes.table import Beside, Line
    from llmtrain_operator.recipes.translate import Translation

LARGEST = 1 << 20
"""Bytes of a recipe, and of a register of datasets."""

REGISTER = "dataset_info.json"


def import_recipe(
    recipe: Annotated[Path, typer.Argument(help="The recipe, a YAML file.", metavar="RECIPE")],
    trainer: Annotated[str, typer.Option("--from", help="The trainer that it is for: axolotl or llamafactory.", metavar="TRAINER")],
    file: Annotated[Path, typer.Option("--file", "-f", help="Where to write the manifest; - is standard output.", metavar="FILE")] = Path(
        "job.yaml"
    ),
    name: Annotated[str | None, typer.Option(help="Name of the job. Default: the recipe's file name.")] = None,
    nodes: Annotated[int, typer.Option(help="Number of nodes.", min=1)] = 1,
    gpus_per_node: Annotated[int, typer.Option(help="GPUs per node. Default: 0, one CPU process.", min=0)] = 0,
    gpu: Annotated[str | None, typer.Option(help="GPU product, with --gpus-per-node.")] = None,
    dataset_info: Annotated[
        Path | None,
        typer.Option(help="LLaMA-Factory's dataset_info.json. Default: that of the recipe's dataset_dir, beside the recipe or here."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
) -> None:
    """Write the manifest that a recipe of another trainer comes to.

    A table tells of each key what it became: the same, something near it, nothing because nothing trained depends on it, or that no
    manifest can say it. Keys that the recipe leaves out, and that the trainer sets otherwise than llmtrain, are listed too.
    """
    from llmtrain_operator.recipes.registry import TRAINERS
    from llmtrain_operator.recipes.table import Devices
    from llmtrain_operator.recipes.translate import translate

    if trainer not in TRAINERS:
        raise UsageError(f"--from is {shown(trainer)}: recipes of {' and '.join(TRAINERS)} can be read.")
    if file.exists() and str(file) != "-" and not force:
        raise UsageError(f"{file} already exists. Choose another name with -f, or replace it with --force.")
    if (gpu is None) != (gpus_per_node == 0):
        raise UsageError("--gpu and --gpus-per-node belong together: the plan needs the product's memory and speed.")
    written = _read(recipe)
    found = translate(
        TRAINERS[trainer],
        written,
        name=name or _name_of(recipe),
        devices=Devices(nodes=nodes, gpus_per_node=gpus_per_node, gpu=gpu),
        beside=_register(dataset_info, recipe, written),
    )
    _refuse_another_task(found, TRAINERS[trainer].deciding)
    found = _placed(found, file)
    text = _text(found, TRAINERS[trainer].title, recipe)
    on_stdout = str(file) == "-"
    if on_stdout:
        typer.echo(text, nl=False)
    else:
        file.write_text(text)
    for line in table(found.lines):
        say(line, err=on_stdout)
    _closing(found, file, on_stdout)


def _refuse_another_task(found: Translation, deciding: tuple[str, ...]) -> None:
    """Raises UsageError if a manifest would train another thing than the recipe."""
    from llmtrain_operator.recipes.counterpart import Counterpart

    for line in found.lines:
        if line.key in deciding and line.told.outcome is Counterpart.CANNOT:
            why = f"{line.key} is {_brief(line.value)}: {line.told.note}"
            raise UsageError(f"{why}. No manifest trains what this recipe does, so none is written. Take {line.key} out to train the rest.")


def table(lines: tuple[Line, ...]) -> list[str]:
    """The lines that a person reads, those that change what is trained last."""
    from llmtrain_operator.recipes.counterpart import Counterpart

    order = (Counterpart.MAPS, Counterpart.SAME, Counterpart.NO_EFFECT, Counterpart.DIFFERS, Counterpart.CANNOT)
    rows = sorted(lines, key=lambda line: order.index(line.told.outcome))
    width = min(48, max((len(line.key) for line in rows), default=0))
    return [f"{line.told.outcome.value:<16} {_one_line(line.key):<{width}}  {_one_line(_becomes(line))}".rstrip() for line in rows]


def _becomes(line: Line) -> str:
    fields = ", ".join(f"{path}: {_brief(value)}" for path, value in line.told.fields.items())
    return "; ".join(part for part in (fields, line.told.note) if part) or _brief(line.value)


def _brief(value: Any) -> str:
    return shown(value, 60)


def _read(path: Path) -> Mapping[str, Any]:
    """A recipe or a register, YAML or JSON. Raises UsageError."""
    from llmtrain_operator.manifest.document import ManifestError, read_document

    try:
        if path.stat().st_size > LARGEST:
            raise UsageError(f"{path} has more than {LARGEST >> 20} MiB, and no recipe is as long.")
        found = _json(path.read_text()) or read_document(path.read_text()).value
    except (OSError, UnicodeDecodeError, ManifestError) as error:
        raise UsageError(f"{path} cannot be read as YAML: {' '.join(str(error).split())[:200]}") from error
    if not isinstance(found, dict):
        raise UsageError(f"{path} is no recipe: a mapping of keys to values is expected.")
    return found


def _json(text: str) -> Any:
    """A JSON document, which may be indented by tabs; None where it is YAML."""
    try:
        return json.loads(text) if text.lstrip().startswith("{") else None
    except (ValueError, RecursionError):
        return None


def _register(named: Path | None, recipe: Path, written: Mapping[str, Any]) -> Beside:
    """The register of datasets: the one that was named, else that of the recipe's dataset_dir, beside the recipe or here."""
    from llmtrain_operator.recipes.table import Beside

    directory = written.get("dataset_dir")
    below = Path(directory if isinstance(directory, str) and directory else "data")
    places = [named] if named else [place / below / REGISTER for place in (recipe.parent, Path.cwd())]
    found = next((place for place in places if named or _is_there(place)), None)
    return Beside(register=_read(found), directory=str(found.resolve().parent)) if found else Beside()


def _is_there(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that no file can have
        return False


def _placed(found: Translation, file: Path) -> Translation:
    """The manifest with paths that hold where it is written: a recipe's are relative to here."""
    from llmtrain_operator.cli.manifest import with_absolute_paths

    if str(file) == "-" or file.resolve().parent == Path.cwd():
        return found
    return replace(found, manifest=with_absolute_paths(found.manifest, Path.cwd()))


def _name_of(recipe: Path) -> str:
    return re.sub(r"[^a-z0-9]+", "-", recipe.stem.lower())[:40].strip("-") or "recipe"


def _text(found: Translation, title: str, recipe: Path) -> str:
    import yaml

    from llmtrain_operator.recipes.counterpart import Counterpart

    head = f"# From {shown(recipe.name)}, a recipe of {title}. Not said here, because no field says it:\n"
    missing = [line for line in found.lines if line.told.outcome is Counterpart.CANNOT]
    told = "".join(f"#   {_one_line(line.key)}: {_one_line(line.told.note)}\n" for line in missing) or "#   nothing\n"
    return head + told + yaml.safe_dump(found.manifest, sort_keys=False, allow_unicode=True, width=120)


def _one_line(text: str) -> str:
    """Text that ends no comment."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


def _closing(found: Translation, file: Path, on_stdout: bool) -> None:
    """What the manifest still needs. Raises Exit(2) if it is not valid as written."""
    from llmtrain_operator.cli.manifest import with_absolute_paths
    from llmtrain_operator.manifest.parse import ManifestError, parse_object
    from llmtrain_operator.recipes.counterpart import Counterpart

    counts = {outcome: sum(line.told.outcome is outcome for line in found.lines) for outcome in Counterpart}
    summary = ", ".join(f"{count} {outcome.value}" for outcome, count in counts.items() if count)
    try:
        parse_object(with_absolute_paths(found.manifest, Path.cwd()))
    except ManifestError as error:
        say(f"{summary}. The manifest needs more before it is valid:", err=True)
        for problem in error.problems:
            say(f"  {problem}", err=True)
        raise typer.Exit(INVALID) from error
    written = "The manifest" if on_stdout else f"{file} is written. It"
    say(f"{summary}. {written} is valid. Next: llmtrain plan -f {file}", err=on_stdout)
