"""`llmtrain init`: a commented manifest to start from, which is valid as it stands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from llmtrain_operator.cli.refusal import UsageError


def init(
    file: Annotated[Path, typer.Option("--file", "-f", help="Where to write it.", metavar="FILE")] = Path("job.yaml"),
    name: Annotated[str, typer.Option(help="Name of the job.")] = "my-job",
    task: Annotated[Literal["pretrain", "sft"], typer.Option(help="What the model learns from the data.")] = "pretrain",
    model: Annotated[
        str | None, typer.Option(help="Pretrained model, such as hf://Qwen/Qwen3-0.6B. Default: a small one from scratch.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Training data, such as s3://bucket/data.jsonl. Default: a file beside the manifest.")
    ] = None,
    lora: Annotated[bool, typer.Option("--lora", help="Train a LoRA adapter instead of all weights; needs --model.")] = False,
    nodes: Annotated[int, typer.Option(help="Number of nodes.", min=1)] = 1,
    gpus_per_node: Annotated[int, typer.Option(help="GPUs a node; 0 trains on CPU processes.", min=0)] = 0,
    gpu: Annotated[str, typer.Option(help="GPU product.")] = "H100-80GB",
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it is there.")] = False,
) -> None:
    """Write a commented manifest to start from."""
    if lora and model is None:
        raise UsageError("--lora adapts a pretrained model: name one with --model.")
    if file.exists() and not force:
        raise UsageError(f"{file} is there already. Choose another name with -f, or replace it with --force.")
    file.write_text(starter(name, task, model, data or _default_data(task), lora, nodes, gpus_per_node, gpu))
    typer.echo(f"{file} is written. Next: llmtrain plan -f {file}")


def starter(name: str, task: str, model: str | None, data: str, lora: bool, nodes: int, gpus_per_node: int, gpu: str) -> str:
    """The text of the manifest."""
    devices = nodes * max(1, gpus_per_node)
    return (
        HEAD.format(name=name, task=task)
        + (PRETRAINED.format(model=model) if model else FROM_SCRATCH)
        + DATA.format(data=data, format=_FORMATS[task], shape=_SHAPES[task])
        + (LORA if lora else "")
        + TRAINING.format(
            batch=8 * devices, rate="2e-4" if lora else "2e-5" if model else "1e-3", precision="bf16" if gpus_per_node else "fp32"
        )
        + CHECKPOINT
        + (GPUS.format(nodes=nodes, gpus=gpus_per_node, gpu=gpu) if gpus_per_node else CPUS.format(nodes=nodes))
        + OUTPUT.format(exports="[adapter, merged]" if lora else "[full]")
    )


def _default_data(task: str) -> str:
    return {"pretrain": "file://./text.jsonl", "sft": "file://./chat.jsonl"}[task]


_FORMATS = {"pretrain": "text", "sft": "messages"}
_SHAPES = {
    "pretrain": 'rows of {"text": "..."}',
    "sft": 'rows of {"messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]}',
}

HEAD = """\
# One job. `llmtrain plan -f` shows what it would do, `llmtrain run -f` trains it here.
# `llmtrain explain spec.training` says what a field means, takes and defaults to.
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
    # revision: <commit>        # a branch can move between two attempts; a commit cannot
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
    globalBatchSize: {batch}          # sequences an optimizer step; gradient accumulation follows from it
    microBatchSize: 1
    sequenceLength: 512
    maxSteps: 500               # or epochs: 1
    precision: {precision}
    optimizer: {{learningRate: {rate}}}
    schedule: {{name: cosine, warmupSteps: 20}}
  parallelism: {{}}               # {{tensor: 2, pipeline: 2}} cuts the model; {{auto: true}} chooses
  evaluation:
    split: 0.02                 # share of the documents held back
    everySteps: 50
"""
CHECKPOINT = """\
  checkpoint:
    destination: file://./checkpoints           # or s3://bucket/prefix
    every: {steps: 100}
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
    export: {exports}
"""
