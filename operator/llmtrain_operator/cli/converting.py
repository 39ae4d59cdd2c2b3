"""`llmtrain convert`: weights from one format to another. The trainer does it in its own process: torch is never imported here."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from llmtrain_operator.cli.manifest import ManifestOption, SetOption, load_manifest, typed_uri
from llmtrain_trainer.config.tables.engines import WeightsFormat


def convert(
    file: ManifestOption,
    source: Annotated[str, typer.Option("--from", help="Location of the weights.", metavar="URI")],
    source_format: Annotated[WeightsFormat, typer.Option("--from-format", help="Format of the weights.")],
    target: Annotated[str, typer.Option("--to", help="Where to write them.", metavar="URI")],
    target_format: Annotated[WeightsFormat, typer.Option("--to-format", help="Format to write; a checkpoint gets the manifest's layout.")],
    step: Annotated[int | None, typer.Option(help="Step of the source checkpoint. Default: the newest.")] = None,
    work: Annotated[Path | None, typer.Option(help="A working directory with room for two copies of the weights.")] = None,
    settings: SetOption = None,
) -> None:
    """Convert weights between formats.

    Formats are Hugging Face's files and the checkpoints of engines native, deepspeed and megatron. Conversion between checkpoints keeps the
    optimizer state.
    """
    from llmtrain_operator.local.trainer import convert as converted
    from llmtrain_operator.plan.plan import plan
    from llmtrain_operator.plan.trainer_config import trainer_config
    from llmtrain_operator.sources import read_shape

    job = load_manifest(file, settings)
    config = trainer_config(job, plan(job, read_shape(job.spec.model)), attempt=1)
    sides = [(typed_uri(uri), kind) for uri, kind in ((source, source_format), (target, target_format))]
    with tempfile.TemporaryDirectory() as directory:
        document = Path(directory, "config.json")
        document.write_text(config.model_dump_json(by_alias=True))
        typer.echo(converted(document, sides[0], sides[1], step, work))
