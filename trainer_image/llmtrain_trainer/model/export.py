"""Weights out of any layout into Hugging Face's files, one file's worth at a time.

`full` and `merged` give what from_pretrained of the model with the trained head reads; `adapter` gives what peft's PeftModel reads.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import torch
import torch.distributed as dist
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors.torch import save_file
from transformers import AutoConfig

from llmtrain_trainer.config import TrainerConfig
from llmtrain_trainer.config.model import CODE
from llmtrain_trainer.config.quantized import without_quantization
from llmtrain_trainer.config.tables.adapters import ADAPTERS, is_adapter
from llmtrain_trainer.config.tables.families import family_named
from llmtrain_trainer.model.adapters import dora
from llmtrain_trainer.model.adapters.attach import adapter_config
from llmtrain_trainer.model.heads import NEW_HEADS, head_name, head_of, with_head
from llmtrain_trainer.model.published_names import Index, split

FORMAT = {"format": "pt"}


class Weights(Protocol):
    """Whole weights on rank 0, by the names they are saved under. Collective: every rank asks for the same names in the same order."""

    @property
    def shapes(self) -> Mapping[str, torch.Size]:
        """Of whole weights."""
        ...

    def read(self, name: str) -> torch.Tensor | None:
        """The unsplit weight in fp32 on rank 0's CPU; None on the others. Collective."""
        ...


@torch.no_grad()
def write_export(config: TrainerConfig, model_dir: Path, weights: Weights, directory: Path, kind: str) -> None:
    """Write `full`, `adapter` or `merged`; of a run with adapters `full` is whole only with them folded in, so it equals `merged`.

    Raises ValueError for a kind that this run has not.
    """
    if config.peft is None and kind != "full":
        raise ValueError(f"output.export is {kind}, but a run without peft has no adapter: write export: [full], or add peft")
    directory.mkdir(parents=True, exist_ok=True)
    if kind == "adapter":
        _write_adapter(config, model_dir, weights, directory)
    else:
        _write_model(config, model_dir, weights, directory)
    dist.barrier()


def _write_adapter(config: TrainerConfig, model_dir: Path, weights: Weights, directory: Path) -> None:
    assert config.peft is not None
    shape = AutoConfig.from_pretrained(model_dir)
    with torch.device("meta"):
        network = with_head(config.task, shape, attn_implementation="eager")
    in_full = f"{head_name(network)}.weight" if head_of(config.task) in NEW_HEADS else None
    taken = {name: weights.read(name) for name in sorted(weights.shapes) if is_adapter(name) or name == in_full}
    if dist.get_rank() == 0:
        tensors = {_in_files(name): weight for name, weight in taken.items() if weight is not None}
        save_file(tensors, directory / "adapter_model.safetensors", metadata=FORMAT)
        adapter_config(network, config.peft, base=config.model).save_pretrained(str(directory))


def _in_files(name: str) -> str:
    """What peft's files call an adapter's weight: without the name of the adapter; a magnitude is no module there."""
    short = name.replace(".default.", ".")
    return f"base_model.model.{short.removesuffix('.weight') if name.endswith(dora.MAGNITUDE) else short}"


def _write_model(config: TrainerConfig, model_dir: Path, weights: Weights, directory: Path) -> None:
    names = {name.replace(".base_layer.", "."): name for name in weights.shapes if not is_adapter(name)}
    transposed = family_named(AutoConfig.from_pretrained(model_dir).model_type).transposed
    shapes = {public: weights.shapes[name] for public, name in names.items()}
    # In the type it computed in: bf16 weights for a bf16 run, half the size and what such models are published as.
    dtype = torch.bfloat16 if config.training.precision == "bf16" else torch.float32
    write_weights(dtype, model_dir, shapes, lambda public: _merged(weights, names[public], config, transposed), directory)


def write_weights(
    dtype: torch.dtype,
    model_dir: Path,
    shapes: Mapping[str, torch.Size],
    read: Callable[[str], torch.Tensor | None],
    directory: Path,
) -> None:
    """Whole weights and config.json as from_pretrained reads them. `read`: collective, a weight on rank 0 and None on the others.

    A mixture's fused experts become one tensor each, as they are published.
    """
    kind = AutoConfig.from_pretrained(model_dir).model_type
    places = {public: (name, index) for name, shape in shapes.items() for public, index in split(kind, name, shape)}
    plan = split_torch_state_dict_into_shards(
        {public: torch.empty(shapes[name], dtype=dtype, device="meta")[index] for public, (name, index) in places.items()},
        filename_pattern="model{suffix}.safetensors",
    )
    latest = lru_cache(maxsize=1)(read)  # all parts of a weight follow each other
    for file, members in plan.filename_to_tensors.items():
        taken = {public: _part(latest(places[public][0]), places[public][1], dtype) for public in members}
        if dist.get_rank() == 0:
            save_file({public: weight for public, weight in taken.items() if weight is not None}, directory / file, metadata=FORMAT)
    if dist.get_rank() == 0:
        if plan.is_sharded:
            index = {"metadata": plan.metadata, "weight_map": plan.tensor_to_filename}
            (directory / "model.safetensors.index.json").write_text(json.dumps(index, indent=2))
        _write_config(model_dir, directory, dtype)


def _part(weight: torch.Tensor | None, index: Index, dtype: torch.dtype) -> torch.Tensor | None:
    """A copy, so that a file's worth of parts does not keep whole weights alive."""
    return None if weight is None else weight[index].to(dtype, copy=True)


def _write_config(model_dir: Path, directory: Path, dtype: torch.dtype) -> None:
    """The model's own config.json with the type of the weights, which are whole; beside it how to generate.

    Both name the end tokens that training taught.
    """
    shape = without_quantization(json.loads((model_dir / "config.json").read_text()))
    shape["dtype"] = str(dtype).removeprefix("torch.")
    for key in ("torch_dtype", *CODE):  # the code stays where it is
        shape.pop(key, None)
    generation = model_dir / "generation_config.json"
    if generation.exists():
        (directory / generation.name).write_text(generation.read_text())
        taught = json.loads(generation.read_text())
        shape |= {key: taught[key] for key in ("eos_token_id", "pad_token_id", "bos_token_id") if key in taught}
    (directory / "config.json").write_text(json.dumps(shape, indent=2))


def _merged(weights: Weights, name: str, config: TrainerConfig, transposed: bool) -> torch.Tensor | None:
    """The weight with its adapter folded in: W + scale B A, its rows scaled to the magnitudes where there are some."""
    weight = weights.read(name)
    stem = name.removesuffix(".base_layer.weight")
    if config.peft is None or f"{stem}.lora_A.default.weight" not in weights.shapes:
        return weight
    narrow, wide = (weights.read(f"{stem}.lora_{factor}.default.weight") for factor in "AB")
    magnitude = weights.read(stem + dora.MAGNITUDE) if ADAPTERS[config.peft.method].magnitude else None
    if weight is None or narrow is None or wide is None:
        return None
    merged = (weight.T if transposed else weight) + config.peft.scale * (wide @ narrow)
    merged = merged if magnitude is None else dora.folded(merged, magnitude)
    return merged.T.contiguous() if transposed else merged
