"""A model's weights in published files, found under whatever name the files give them. Used by materialize.py and engine megatron.

Files differ in the base model's prefix, in whether a tied head is there, in whether a mixture's experts are fused, and in whether
matrices are stored in few bits with scales beside them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors import safe_open

from llmtrain_trainer.config.quantized import Quantized, quantized
from llmtrain_trainer.parallel.dequantize import SCALED, dequantized, spans
from llmtrain_trainer.parallel.published import Recipe, recipe_of
from llmtrain_trainer.parallel.weight_files import Entry, WrongWeightsError, read_headers

WHOLE = ("F64", "F32", "F16", "BF16")
"""Types that are the weights themselves."""

SCALES = ("_scale_inv", "_scale")
"""What is put behind a weight's name to name its scale: of fp8 in blocks, and of compressed-tensors and fbgemm."""

ROWS = 4096
"""Of a table that are compared at once."""

ANOTHER = "Name the model that it was made from, in fp32, bf16, fp16, or fp8 with scales"


class Pretrained:
    """Weights in a directory of safetensors, by the model's names or by those of the published files."""

    def __init__(self, directory: Path, prefix: str, tied: Mapping[str, str]) -> None:
        """`prefix` is the model's base prefix; `tied` names weights that are another one. Raises WrongWeightsError (a ValueError)."""
        self._prefix = f"{prefix}."
        self._tied = {**tied, **{embedding: head for head, embedding in tied.items()}}
        self.entries: dict[str, Entry] = read_headers(directory)
        self.shapes = {name: entry.shape for name, entry in self.entries.items()}
        self._quantized = _quantized(directory)

    def find(self, name: str) -> Recipe:
        """What tensors of the files make a weight. Raises WrongWeightsError where none do."""
        plain = name.replace(".base_layer", "")
        for candidate in self._candidates(plain):
            if found := recipe_of(candidate, self.shapes):
                return found
        shown = next(iter(self.entries), "nothing")
        raise WrongWeightsError(
            f"weight {plain} is in no safetensors file; they hold {len(self.entries)} tensors, such as {shown}",
            "Check that config.json and weights belong together",
        )

    def read(self, name: str) -> torch.Tensor:
        """One weight, on the CPU. Raises WrongWeightsError where no file has it."""
        return self.find(name).made(self._whole)

    def scale_of(self, tensor: str) -> str | None:
        """Name of the scales of a tensor of the files; None where it is stored whole.

        Raises WrongWeightsError where it cannot be made whole.
        """
        entry = self.entries[tensor]
        found = next((tensor + suffix for suffix in SCALES if tensor + suffix in self.entries), None)
        if entry.dtype in WHOLE and found is None:
            return None
        stored = f"{tensor} is stored as {entry.dtype}" + (f" with {found.rpartition('.')[2]} beside it" if found else " without a scale")
        if found is None or entry.dtype not in SCALED or f"{tensor}_zero_point" in self.entries:
            raise WrongWeightsError(f"{stored}, which no engine trains", ANOTHER)
        if self._quantized is None or not self._quantized.readable:
            raise WrongWeightsError(f"{stored}, and config.json does not say how that is meant", f"{ANOTHER} and its quantization_config")
        if spans(entry.shape, self.entries[found].shape, self._quantized.block) is None:
            shapes = f"{list(self.entries[found].shape)} for {list(entry.shape)}"
            raise WrongWeightsError(f"{stored}, whose shape does not fit ({shapes})", ANOTHER)
        return found

    def equal(self, one: str, other: str) -> bool:
        """Whether two tensors of the files hold the same; read a part at a time."""
        if self.shapes[one] != self.shapes[other]:
            return False
        with safe_open(self.entries[one].file, framework="pt") as left, safe_open(self.entries[other].file, framework="pt") as right:
            ours, theirs = left.get_slice(one), right.get_slice(other)
            parts = (slice(first, first + ROWS) for first in range(0, self.shapes[one][0], ROWS))
            return all(torch.equal(ours[part].float(), theirs[part].float()) for part in parts)

    def _candidates(self, name: str) -> Iterator[str]:
        """What the files may call a weight, itself or the one it is tied to."""
        for plain in (name, self._tied.get(name, name)):
            yield from (plain, plain.removeprefix(self._prefix), self._prefix + plain)

    def _whole(self, tensor: str) -> torch.Tensor:
        scale = self.scale_of(tensor)
        if scale is None:
            return self._tensor(tensor)
        assert self._quantized is not None
        return dequantized(tensor, self._tensor(tensor), self._tensor(scale), self._quantized.block)

    def _tensor(self, name: str) -> torch.Tensor:
        with safe_open(self.entries[name].file, framework="pt") as file:
            weight: torch.Tensor = file.get_tensor(name)
        return weight


def _quantized(directory: Path) -> Quantized | None:
    config = directory / "config.json"
    return quantized(json.loads(config.read_text())) if config.exists() else None
