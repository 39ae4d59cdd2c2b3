"""`llmtrain init`: a commented manifest to start from, which is valid as written."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

import typer

from llmtrain_operator.cli.refusal import UsageError
from llmtrain_operator.manifest.suggestions import shown


def init(
    file: Annotated[Path, typer.Option("--file", "-f", help="Where to write it; - writes to standard output.", metavar="FILE")] = Path(
        "job.yaml"
    ),
    name: Annotated[str | None, typer.Option(help="Name of the job. Default: the name of the file; my-job for job.yaml.")] = None,
    task: Annotated[Literal["pretrain", "sft"], typer.Option(help="What the model learns from the data.")] = "pretrain",
    model: Annotated[
        str | None, typer.Option(help="Pretrained model, such as hf://Qwen/Qwen3-0.6B. Default: a small one from scratch.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Training data, such as s3://bucket/data.jsonl. Default: a file in the manifest's directory.")
    ] = None,
    lora: Annotated[bool, typer.Option("--lora", help="Train a LoRA adapter instead of all weights; needs --model.")] = False,
    nodes: Annotated[int, typer.Option(help="Number of nodes.", min=1)] = 1,
    gpus_per_node: Annotated[
        int | None, typer.Option(help="GPUs per node; 0 trains on CPU processes. Default: 0, or 8 with --gpu.", min=0)
    ] = None,
    gpu: Annotated[str | None, typer.Option(help="GPU product. Default with --gpus-per-node: H100-80GB.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
) -> None:
    """Write a commented manifest to start from.

    The manifest is planned before it is written, so that `llmtrain plan` accepts it unchanged.
    """
    if lora and model is None:
        raise UsageError("--lora adapts a pretrained model: name one with --model.")
    if gpu and gpus_per_node == 0:
        raise UsageError(f"--gpu is {gpu}, and --gpus-per-node is 0: leave one of them out.")
    named = name or _name_of(file)
    if not force:
        _check_free(file, named)
    count = (8 if gpu else 0) if gpus_per_node is None else gpus_per_node
    text = starter(named, task, _typed(model), _typed(data) or _DATA[task], lora, nodes, count, gpu or "H100-80GB")
    _check(text)
    if str(file) == "-":
        typer.echo(text, nl=False)
        return
    _write(file, text)
    typer.echo(f"{file} is written. Next: {_data_first(file, data, task)}llmtrain plan -f {file}")


def starter(name: str, task: str, model: str | None, data: str, lora: bool, nodes: int, gpus_per_node: int, gpu: str) -> str:
    """The text of the manifest."""
    devices = nodes * max(1, gpus_per_node)
    return (
        HEAD.format(name=shown(name), task=task)
        + (PRETRAINED.format(model=shown(model, LONGEST)) if model else FROM_SCRATCH)
        + DATA.format(data=shown(data, LONGEST), format=_FORMATS[task], shape=_SHAPES[task])
        + (LORA if lora else "")
        + TRAINING.format(
            batch=8 * devices, rate="2e-4" if lora else "2e-5" if model else "1e-3", precision=_precision(gpu) if gpus_per_node else "fp32"
        )
        + CHECKPOINT.format(name=name)
        + (GPUS.format(nodes=nodes, gpus=gpus_per_node, gpu=shown(gpu)) if gpus_per_node else CPUS.format(nodes=nodes))
        + OUTPUT.format(exports="[adapter, merged]" if lora else "[full]")
    )


def _check(text: str) -> None:
    """Raises ManifestError or PlanError if an option leads to a manifest that cannot work; a model's files are not read."""
    from llmtrain_operator.cli.manifest import with_absolute_paths
    from llmtrain_operator.manifest.document import read_document
    from llmtrain_operator.manifest.parse import parse_object
    from llmtrain_operator.plan.model.families import shape_of
    from llmtrain_operator.plan.plan import plan

    job = parse_object(with_absolute_paths(read_document(text).value, Path.cwd()))
    plan(job, shape_of(job.spec.model.config) if job.spec.model.config else None)


def _precision(gpu: str) -> str:
    """bf16 if the GPU product supports it, else fp32; the plan refuses an unknown product."""
    from llmtrain_operator.plan.layout.hardware import Gpu, find_gpu

    found = find_gpu(gpu)
    return "fp32" if isinstance(found, Gpu) and found.bf16_flops is None else "bf16"


def _name_of(file: Path) -> str:
    """The name of the file in a form that Kubernetes accepts."""
    stem = re.sub(r"[^a-z0-9]+", "-", file.stem.lower())[:NAME_LENGTH].strip("-")
    return stem if stem not in ("", "job") else "my-job"


def _check_free(file: Path, name: str) -> None:
    """Raises UsageError if the file exists, or if a job of that name in the directory would share its checkpoints with this one."""
    if file.exists() and str(file) != "-":
        raise UsageError(f"{file} already exists. Choose another name with -f, or replace it with --force.")
    for other in sorted(file.parent.glob("*.yaml")):
        if other.is_file() and re.search(rf"^  name: {re.escape(name)}$", other.read_text(errors="replace")[:LONGEST], re.MULTILINE):
            raise UsageError(
                f"{other} already has a job named {name}, and both would share checkpoints. Choose another --name, or --force."
            )


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text)
    except OSError as error:
        raise UsageError(f"{file} cannot be written: {error.strerror}. Choose another path with -f.") from error


def _typed(uri: str | None) -> str | None:
    """The URI for the text of an option: a path that begins with a slash, a dot or ~ is a file; a dot is the manifest's directory."""
    return f"file://{uri}" if uri and re.match(r"/(?!/)|\.{1,2}(/|$)|~(/|$)", uri) else uri


def _data_first(file: Path, data: str | None, task: str) -> str:
    """The hint to provide the data first, if the data is a file in the manifest's directory that does not exist."""
    there = file.parent / _DATA[task].removeprefix("file://./")
    return "" if data or there.exists() else f"put your data into {there} ({_SHAPES[task]}, one per line), then "


LONGEST = 4096
"""Characters of a path, and of a manifest, that are read at most."""

NAME_LENGTH = 40

_DATA = {"pretrain": "file://./text.jsonl", "sft": "file://./chat.jsonl"}
_FORMATS = {"pretrain": "text", "sft": "messages"}
_SHAPES = {
    "pretrain": 'rows of {"text": "..."}',
    "sft": 'rows of {"messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]}',
}

HEAD = """\
# One job. `llmtrain plan -f` shows what it would do, `llmtrain run -f` trains it on this machine.
# `llmtrain explain spec.training` shows the meaning, type and default of a field.
apiVersion: llmtrain.io/v1alpha1
kind: LLMTrainJob
metadata:
  name: {name}
spec:
  task: {task}
"""
PRETRAINED = """\
  model:
    source: {model}
    # revision: <commit>        # a branch can change between two attempts; a commit cannot
"""
FROM_SCRATCH = """\
  model:
    config:                     # random weights in this shape: the model's config.json
      model_type: llama
      hidden_size: 256
      intermediate_size: 688
      num_hidden_layers: 6
      num_attention_heads: 8
      num_key_value_heads: 4
      vocab_size: 8192
      max_position_embeddings: 1024
      tie_word_embeddings: true
  tokenizer:
    train: {algorithm: bpe, vocabSize: 8192}    # trained on the data before the first step
"""
DATA = """\
  dataset:
    - source: {data}    # {shape}
      format: {format}
"""
LORA = """\
  peft: {method: lora, rank: 16, alpha: 32}
"""
TRAINING = """\
  training:
    globalBatchSize: {batch}          # sequences per optimizer step; gradient accumulation follows from it
    microBatchSize: 1
    sequenceLength: 512
    maxSteps: 500               # or epochs: 1
    precision: {precision}
    optimizer: {{learningRate: {rate}}}
    schedule: {{name: cosine, warmupSteps: 20}}
  parallelism: {{}}               # {{tensor: 2, pipeline: 2}} splits the model; {{auto: true}} chooses
  evaluation:
    split: 0.02                 # share of the documents held out
    everySteps: 50
"""
CHECKPOINT = """\
  checkpoint:
    destination: file://./checkpoints/{name}    # for this job only; or s3://bucket/prefix
    every: {{steps: 100}}
    keep: 3
"""
GPUS = """\
  resources: {{nodes: {nodes}, gpusPerNode: {gpus}, gpu: {gpu}}}
"""
CPUS = """\
  resources: {{nodes: {nodes}, procsPerNode: 1}}    # CPU processes; gpusPerNode and gpu for GPUs
"""
OUTPUT = """\
  output:
    export: {exports}               # in Hugging Face's format; `llmtrain run` prints its path at the end
"""
