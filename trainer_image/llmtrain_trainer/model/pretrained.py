"""A model's weights in published files, found under whatever name the files give them.

Files differ in the base model's prefix, in whether a tied head is there, in whether MoE experts are fused, and in whether
matrices are stored in few bits with scales beside them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors import safe_open

from llmtrain_trainer.config.quantized import READ, Quantized, quantized
from llmtrain_trainer.model.dequantize import SCALED, dequantized, spans
from llmtrain_trainer.model.new_head import new_head
from llmtrain_trainer.model.new_rows import NewRows
from llmtrain_trainer.model.published_names import Recipe, recipe_of, renamed
from llmtrain_trainer.model.stored_matrix import StoredMatrix, stored_matrices
from llmtrain_trainer.model.weight_files import TensorHeader, WrongWeightsError, read_headers

WHOLE = ("F64", "F32", "F16", "BF16")
"""Types that are the weights themselves."""

ZEROS = "_zero_point"
SCALES = ("_scale_inv", "_scale")
"""What is put behind a weight's name to name its scale: of fp8 in blocks, and of compressed-tensors and fbgemm."""

ROWS = 4096
"""Of a table that are compared at once."""

ANOTHER = f"Name the model that it was made from, or a version of it in {READ}"


class Pretrained:
    """Weights in a directory of safetensors, by the model's names or by those of the published files."""

    def __init__(self, directory: Path, prefix: str, tied: Mapping[str, str]) -> None:
        """`prefix` is the model's base prefix; `tied` names weights that are another one. Raises WrongWeightsError (a ValueError)."""
        self._prefix = f"{prefix}."
        self._tied = {**tied, **{embedding: head for head, embedding in tied.items()}}
        self.entries: dict[str, TensorHeader] = read_headers(directory)
        self._new_rows, self._new_head = NewRows.of(directory), new_head(directory)
        self._quantized, self._model_type = _described(directory)
        self._stored = self._stored_matrices(self._model_type)
        parts = {tensor for stored in self._stored.values() for tensor in stored.tensors.values()}
        self.shapes = {name: entry.shape for name, entry in self.entries.items() if name not in parts}
        """Of weights once whole, under the names that they would have in files of whole ones."""
        self.shapes |= {name: stored.shape for name, stored in self._stored.items()}

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

    def lacks(self, module: str) -> bool:
        """Whether the weights of a module are in no file and are drawn instead, as preparation told."""
        return module == self._new_head

    def read(self, name: str) -> torch.Tensor:
        """One weight, on the CPU. Raises WrongWeightsError where no file has it."""
        return self._new_rows.added(name.replace(".base_layer", ""), self.find(name).made(self._whole))

    def tensors_of(self, weight: str) -> tuple[str, ...]:
        """The tensors of the files that make one of `shapes`. Raises WrongWeightsError where it cannot be made whole."""
        if weight in self._stored:
            return tuple(self._stored[weight].tensors.values())
        return (weight, *self._scales(weight))

    def adds_nothing(self, tensor: str) -> bool:
        """Whether it is a bias of zeros, which some programs write beside each packed matrix of a model without biases."""
        module, _, last = tensor.rpartition(".")
        return last == "bias" and f"{module}.weight" in self._stored and not self._tensor(tensor).any()

    def equal(self, one: str, other: str) -> bool:
        """Whether two tensors of the files hold the same; read a part at a time."""
        if self.shapes[one] != self.shapes[other]:
            return False
        if one in self._stored or other in self._stored:
            return torch.equal(self._whole(one).float(), self._whole(other).float())
        with safe_open(self.entries[one].file, framework="pt") as left, safe_open(self.entries[other].file, framework="pt") as right:
            ours, theirs = left.get_slice(self.entries[one].name), right.get_slice(self.entries[other].name)
            parts = (slice(first, first + ROWS) for first in range(0, self.shapes[one][0], ROWS))
            return all(torch.equal(ours[part].float(), theirs[part].float()) for part in parts)

    def _candidates(self, name: str) -> Iterator[str]:
        """What the files may call a weight, itself or the one it is tied to."""
        for plain in (name, self._tied.get(name, name)):
            yield from (plain, plain.removeprefix(self._prefix), self._prefix + plain, renamed(self._model_type, plain))

    def _whole(self, weight: str) -> torch.Tensor:
        if weight in self._stored:
            assert self._quantized is not None
            return self._stored[weight].whole(self._tensor, self._quantized)
        scales = self._scales(weight)
        if not scales:
            return self._tensor(weight)
        assert self._quantized is not None
        scale, zeros = (*(self._tensor(name) for name in scales), None)[:2]
        assert scale is not None
        return dequantized(weight, self._tensor(weight), scale, self._quantized.block, zeros)

    def _scales(self, tensor: str) -> tuple[str, ...]:
        """Names of the scales of a tensor with one number a weight, and of its zero points if it has any; empty where it is stored whole.

        Raises WrongWeightsError where it cannot be made whole.
        """
        entry = self.entries[tensor]
        found = next((tensor + suffix for suffix in SCALES if tensor + suffix in self.entries), None)
        if entry.dtype in WHOLE and found is None:
            return ()
        stored = f"{tensor} is stored as {entry.dtype}" + (f" with {found.rpartition('.')[2]} beside it" if found else " without a scale")
        if found is None or entry.dtype not in SCALED:
            raise WrongWeightsError(f"{stored}, which no engine trains", ANOTHER)
        if self._quantized is None or "scaled" not in self._quantized.ways:
            raise WrongWeightsError(f"{stored}, and config.json does not say how to read them", f"{ANOTHER} and its quantization_config")
        names = (found, *(name for name in (tensor + ZEROS,) if name in self.entries))
        shapes = [self.entries[name].shape for name in names]
        if any(spans(entry.shape, shape, self._quantized.block) is None for shape in shapes) or len(set(shapes)) > 1:
            told = " and ".join(str(list(shape)) for shape in shapes)
            raise WrongWeightsError(f"{stored}, whose shape does not fit ({told} for {list(entry.shape)})", ANOTHER)
        return names

    def _stored_matrices(self, model_type: str) -> dict[str, StoredMatrix]:
        if self._quantized is None:
            return {}
        found: dict[str, StoredMatrix] = {}
        for stored in stored_matrices(self.entries, self._quantized, model_type, self._tensor):
            if stored.name in found or (stored.name in self.entries and stored.name not in stored.tensors.values()):
                raise WrongWeightsError(f"the files hold {stored.name} twice, in two ways", "Fetch the files again")
            found[stored.name] = stored
        return found

    def _tensor(self, name: str) -> torch.Tensor:
        with safe_open(self.entries[name].file, framework="pt") as file:
            weight: torch.Tensor = file.get_tensor(self.entries[name].name)
        return weight


def _described(directory: Path) -> tuple[Quantized | None, str]:
    """How config.json says that the matrices are stored, and the family."""
    file = directory / "config.json"
    config = json.loads(file.read_text()) if file.exists() else {}
    return quantized(config), str(config.get("model_type"))
