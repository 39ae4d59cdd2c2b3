"""`python -m llmtrain_trainer convert`: weights of one format as another, between checkpoints the optimizer too.

Every file is compared with its digest when it is read and after it is written.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from pydantic import ValidationError

from llmtrain_trainer.checkpoint.manifest import MANIFEST, Manifest, Meta
from llmtrain_trainer.checkpoint.restore import choose, fetch
from llmtrain_trainer.checkpoint.store.destination import open_store
from llmtrain_trainer.checkpoint.store.errors import BadCheckpointError, NoGoodCheckpointError, ResumeError, StoreError
from llmtrain_trainer.config import ExitCode, TrainerConfig
from llmtrain_trainer.config.tables.engines import ENGINE_FACTS, WeightsFormat
from llmtrain_trainer.config.tables.tasks import TASKS
from llmtrain_trainer.convert.adapters import link_adapter, write_adapter
from llmtrain_trainer.convert.targets import publish, write_checkpoint, write_files
from llmtrain_trainer.data.bad_data import BadData, Unreachable
from llmtrain_trainer.data.cache import link
from llmtrain_trainer.engines.open_checkpoint import open_source
from llmtrain_trainer.model.generation import end_in
from llmtrain_trainer.model.materialize import ADAPTER
from llmtrain_trainer.prepare.head import describe_head
from llmtrain_trainer.prepare.model_files import SHAPE, WEIGHTS, local_files
from llmtrain_trainer.run_dir.layout import write_atomically

HF: Final = "hf"
VERIFY = "`llmtrain checkpoints verify` says what is there"


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsLocation:
    """A source or a target of weights, and its format."""

    format: WeightsFormat
    uri: str


def command(
    config: Path, source: WeightsLocation, target: WeightsLocation, step: int | None, work: Path | None, say: Callable[[str], None] = print
) -> int:
    """Convert and say what was written. Returns an ExitCode."""
    try:
        said = convert(TrainerConfig.model_validate_json(config.read_text()), source, target, step, work)
    except (StoreError, Unreachable) as error:
        print(error, file=sys.stderr)
        return ExitCode.STORE
    except (ResumeError, BadCheckpointError, BadData, ValidationError) as error:
        print(error, file=sys.stderr)
        return ExitCode.CONFIG
    say(said)
    return ExitCode.DONE


def convert(
    config: TrainerConfig, source: WeightsLocation, target: WeightsLocation, step: int | None = None, work: Path | None = None
) -> str:
    """A sentence that names what was written. `work`: a directory with room for the weights, twice.

    `config`: of a job with this model; where the target is a checkpoint its engine and layout are what is written. `step`: of the source
    checkpoint, the newest by default. Raises BadData, ResumeError, StoreError, BadCheckpointError.
    """
    _check(config, source, target, step)
    _check_adapter(config)
    with tempfile.TemporaryDirectory(dir=work, prefix="convert-") as directory:
        root = Path(directory)
        _place_model(config, target, root / "model", root / "cache")
        if source.format == HF:
            _published(config, source, root)
            stored, facts = None, {"step": 0}
        else:
            fetched, meta = _fetched(source, step, root)
            stored, facts = (fetched, meta.format), _facts(meta)
            _size_vocabulary(root / "model" / "config.json", (meta.record or {}).get("shape"))
            end_in(root / "model", meta.ends)
            _describe_labels(config, root / "model", meta.record or {})
        if target.format == HF and stored is not None:
            written = publish(_unpacked(config, *stored, root), open_store(target.uri))
            return f"Wrote {len(written)} files to {target.uri}."
        name = write_checkpoint(config, root / "model", stored, root / "staging", open_store(target.uri), facts)
        optimizer = "with the optimizer as it was" if stored else "with a fresh optimizer"
        return f"Wrote checkpoint {name} to {target.uri}, in the layout of the manifest and {optimizer}."


def _check(config: TrainerConfig, source: WeightsLocation, target: WeightsLocation, step: int | None) -> None:
    if source.format == target.format == HF:
        raise BadData("--to-format", HF, "the source has that format already", "Copy the files")
    if target.format not in (HF, config.engine):
        rule = f"the manifest's engine is {config.engine}, and a checkpoint is written in the manifest's layout"
        raise BadData(
            "--to-format", target.format, rule, f"Set spec.parallelism.engine to {target.format}, or write --to-format {config.engine}"
        )
    for side in (source.format, target.format):
        if config.peft is not None and side != HF and config.peft.method not in ENGINE_FACTS[side].adapters:
            rule = f"engine {side} has no adapters{' of this method' if ENGINE_FACTS[side].adapters else ''}"
            raise BadData("spec.peft.method", config.peft.method, rule, "Leave peft out, or take another engine")
    if source.format == HF and step is not None:
        raise BadData("--step", step, "Hugging Face's files have no steps", "Leave it out")


def _place_model(config: TrainerConfig, target: WeightsLocation, model_dir: Path, cache: Path) -> None:
    """config.json of the manifest's model; beside it the weights that adapters of a checkpoint are put into."""
    model_dir.mkdir()
    if config.model.config is not None:
        (model_dir / "config.json").write_text(json.dumps(config.model.config))
        return
    below = config.peft is not None and target.format != HF and config.model.init == "pretrained"
    patterns = SHAPE + WEIGHTS if below else SHAPE
    for path in local_files("model.source", str(config.model.source), config.model.revision, patterns, cache):
        link(path, model_dir / path.name)


def _check_adapter(config: TrainerConfig) -> None:
    """The head that was trained beside an adapter is in no base model."""
    if config.peft is not None and TASKS[config.task].labels:
        rule = f"adapters of task {config.task} are not converted"
        raise BadData("spec.peft.method", config.peft.method, rule, "Export them from the job with output.export: [adapter, merged]")


def _describe_labels(config: TrainerConfig, model_dir: Path, record: Mapping[str, Any]) -> None:
    """A classifier's labels are those that it was trained with."""
    if TASKS[config.task].labels:
        describe_head(config.task, model_dir, record.get("labels") or config.labels)


def _size_vocabulary(config: Path, described: object) -> None:
    """Set vocab_size to the trained one: the embedding may have grown since the model was read."""
    rows = described.get("vocab_size") if isinstance(described, dict) else None
    found = json.loads(config.read_text())
    if isinstance(rows, int) and found.get("vocab_size") != rows:
        write_atomically(config, json.dumps(found | {"vocab_size": rows}, indent=2) + "\n")


def _published(config: TrainerConfig, source: WeightsLocation, root: Path) -> None:
    """Weights of the source, or its adapters, beside the model's config.json."""
    if config.peft is not None:
        link_adapter(config.peft, source.uri, root / "model" / ADAPTER.parent, root / "cache")
        return
    found = local_files("--from", source.uri, None, WEIGHTS, root / "cache")
    if not any(path.suffix == ".safetensors" for path in found):
        raise BadData("--from", source.uri, "there is no *.safetensors", "Give a directory or repository in Hugging Face's format")
    for path in found:
        link(path, root / "model" / path.name)
    for path in local_files("--from", source.uri, None, ("config.json",), root / "cache"):
        _size_vocabulary(root / "model" / "config.json", json.loads(path.read_text()))


def _fetched(source: WeightsLocation, step: int | None, root: Path) -> tuple[Path, Meta]:
    """The source checkpoint, verified, and what its manifest says of it."""
    store = open_store(source.uri)
    try:
        found = choose(store, "latest" if step is None else step, lambda _: None, into=root / "fetched")
    except NoGoodCheckpointError as error:
        raise BadData("--from", source.uri, f"there is no good checkpoint: {error.told}", VERIFY) from error
    if found is None:
        raise BadData("--from", source.uri, "there is no checkpoint", VERIFY)
    directory = fetch(found, store, root / "fetched")
    meta = Manifest.model_validate_json((directory / MANIFEST).read_bytes()).meta
    assert source.format != HF
    if meta.format != ENGINE_FACTS[source.format].checkpoint_format:
        raise BadData(
            "--from-format", source.format, f"{found.name} was written by engine {meta.engine}", f"Write --from-format {meta.engine}"
        )
    return directory, meta


def _unpacked(config: TrainerConfig, fetched: Path, file_format: str, root: Path) -> Path:
    """A checkpoint as Hugging Face's files: of a job with adapters these."""
    weights, files = open_source(config, fetched, root / "model", file_format), root / "files"
    if config.peft is not None:
        write_adapter(config, weights, root / "model", files)
    else:
        write_files(weights, root / "model", files, torch.bfloat16 if config.training.precision == "bf16" else torch.float32)
    return files


def _facts(meta: Meta) -> dict[str, Any]:
    """What holds of the weights wherever they go."""
    kept = (
        "step",
        "consumed_samples",
        "consumed_tokens",
        "target_steps",
        "seed",
        "tokenizer_hash",
        "ends",
        "job",
        "global_size",
        "record",
        "course",
    )
    return {key: value for key, value in meta.model_dump(mode="json", by_alias=False).items() if key in kept}
