"""Which files of a directory hold a model's weights, and what their headers say.

The choice is transformers' own: model.safetensors, else what its index names. Nothing but headers is read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from llmtrain_trainer.config.model import UNREAD_WEIGHTS

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
OTHER_LAYOUTS = re.compile(r"(consolidated|adapter_model|optimizer|training).*")
"""Safetensors that are published beside a model's: in another program's layout, or of something else."""

WRAPPERS = frozenset(("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module", "_ddp_module"))
"""Parts of names that DDP, DeepSpeed, torch.compile, FSDP and activation checkpointing put into the names of weights."""


class WrongWeightsError(ValueError):
    """The weights in the files are not those of the model. `rule` is a clause, `way_out` a sentence."""

    def __init__(self, rule: str, way_out: str) -> None:
        self.rule, self.way_out = rule, way_out
        super().__init__(f"{rule}. {way_out}.")


@dataclass(frozen=True, slots=True)
class TensorHeader:
    """One tensor of a file. `dtype` is the header's word: F32, BF16, F8_E4M3, ..."""

    file: Path
    name: str
    """In the file."""

    dtype: str
    shape: tuple[int, ...]


def chosen(names: Iterable[str]) -> tuple[str, ...]:
    """Of the names in a directory those to read weights from, the index included. Raises WrongWeightsError where there are none."""
    there = sorted(names)
    if SINGLE in there:
        return (SINGLE,)
    tensors = [name for name in there if name.endswith(".safetensors") and not OTHER_LAYOUTS.match(name)]
    if INDEX in there:
        return (*tensors, INDEX)
    numbered = [name for name in tensors if re.fullmatch(r"model-\d+-of-\d+\.safetensors", name)]
    if numbered or len(tensors) == 1:
        return tuple(numbered or tensors)
    raise WrongWeightsError(*_nothing(there, tensors))


def _nothing(there: list[str], tensors: list[str]) -> tuple[str, str]:
    if tensors:
        return (
            f"it holds {_listed(tensors)} and neither {SINGLE} nor {INDEX}, so it is not known which belong to the model",
            f"Name the file {SINGLE}, or leave one file in the directory",
        )
    if "adapter_model.safetensors" in there:
        return (
            "it holds an adapter, adapter_model.safetensors, and no model",
            "Merge it first (peft: merge_and_unload, then save_pretrained) and name that directory",
        )
    others = [name for name in there if name.endswith(UNREAD_WEIGHTS)]
    convert = "load it with transformers' AutoModelForCausalLM.from_pretrained, call save_pretrained, and name that directory"
    if others:
        return f"its weights are in {_listed(others)}, and only *.safetensors are read", f"Convert them: {convert}"
    return f"there is no {SINGLE} and no {INDEX}", f"Name a directory with weights, or {convert}; model.init: random needs none"


def read_headers(directory: Path) -> dict[str, TensorHeader]:
    """Every tensor of a model's files, by name. Raises WrongWeightsError for a file that is missing, torn or contradicts another."""
    names = chosen(path.name for path in directory.iterdir())
    index = _index(directory) if INDEX in names else {}
    files = sorted(set(index.values())) if index else [name for name in names if name != INDEX]
    _check_complete(directory, files)
    found: dict[str, TensorHeader] = {}
    for name in files:
        for tensor, entry in _entries(directory / name).items():
            if index.get(tensor, name) != name:
                continue  # the index takes it from another file
            if tensor in found:
                raise WrongWeightsError(f"{tensor} is in {found[tensor].file.name} and in {name}", "Leave one of them in the directory")
            found[tensor] = entry
    if lacking := [f"{tensor} (in {file})" for tensor, file in index.items() if tensor not in found]:
        raise WrongWeightsError(f"{INDEX} names {_listed(lacking)}, which the files do not hold", "Fetch the files again, index included")
    return _unwrapped(found)


def _unwrapped(found: Mapping[str, TensorHeader]) -> dict[str, TensorHeader]:
    """The tensors by the names that they have without the wrappers of training programs. Raises WrongWeightsError where two become one."""
    plain: dict[str, TensorHeader] = {}
    for name, entry in found.items():
        inner = ".".join(part for part in name.split(".") if part not in WRAPPERS)
        if inner in plain:
            rule = f"{plain[inner].name} and {name} are one weight, {inner}, under the names of two programs"
            raise WrongWeightsError(rule, "Save the model without its wrapper (torch.compile, DDP, FSDP), and name that directory")
        plain[inner] = entry
    return plain


def _index(directory: Path) -> dict[str, str]:
    try:
        found = json.loads((directory / INDEX).read_text())["weight_map"]
        if not all(isinstance(file, str) and "/" not in file and file.endswith(".safetensors") for file in found.values()):
            raise ValueError("it names files outside the directory")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise WrongWeightsError(f"{INDEX} cannot be read ({type(error).__name__}: {error})", "Fetch it again") from error
    return dict(found)


def _check_complete(directory: Path, files: list[str]) -> None:
    """Of files named 00001-of-00003 all three, and every file that an index names."""
    numbers = [re.fullmatch(r"(.*-)(\d+)(-of-)(\d+)(\.safetensors)", name) for name in files]
    wanted = set(files)
    for match in filter(None, numbers):
        last, width = int(match[4]), len(match[2])
        if last <= 100_000:
            wanted |= {f"{match[1]}{number:0{width}}{match[3]}{match[4]}{match[5]}" for number in range(1, last + 1)}
    if lacking := sorted(name for name in wanted if not (directory / name).is_file()):
        rule = f"of its {len(wanted)} files of weights {_listed(lacking)} is not there"
        raise WrongWeightsError(rule, "Put the missing files beside the others")


def _entries(file: Path) -> dict[str, TensorHeader]:
    try:
        with safe_open(file, framework="pt") as opened:
            views = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118 (a handle is no mapping)
            return {name: TensorHeader(file, name, view.get_dtype(), tuple(view.get_shape())) for name, view in views.items()}
    except (SafetensorError, OSError) as error:
        raise WrongWeightsError(f"{file.name} is no whole safetensors file ({error})", "Fetch it again") from error


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
