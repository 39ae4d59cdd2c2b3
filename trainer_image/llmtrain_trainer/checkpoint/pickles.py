"""An allow-list of the names in pickles of a checkpoint, and a reader that builds inert records only. Imports no torch.

A pickle is a program: reading one with `pickle.load` runs whatever its writer put there. DCP's index and torch's `.pt` files are pickles.
`refuse_code` looks into each before a checkpoint is used; `load` gives its values as plain data and `Record`s, so that no class of the
pickle's choice is ever made. What is not listed here is refused, not guessed.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from llmtrain_trainer.checkpoint.store.errors import BadCheckpointError

INDEX, TORCH = ".metadata", ".pt"
"""How names of pickles end: DCP's index of tensors, and files that torch.save wrote."""

_DTYPES = frozenset(
    [f"{kind}{bits}" for kind in ("float", "int", "uint") for bits in (8, 16, 32, 64)]
    + [f"float8_{kind}" for kind in ("e4m3fn", "e5m2", "e4m3fnuz", "e5m2fnuz", "e8m0fnu")]
    + ["bfloat16", "bool", "complex64", "complex128", "half", "double", "long", "short"]
)
_STORAGES = frozenset(f"{kind}Storage" for kind in ("Float", "Double", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool"))

INDEX_NAMES: Mapping[str, Collection[str]] = {
    "torch": {"Size", *_DTYPES},
    "torch.serialization": {"_get_layout"},
    "torch.distributed.checkpoint.metadata": {
        "BytesStorageMetadata", "ChunkStorageMetadata", "Metadata", "MetadataIndex", "StorageMeta", "TensorProperties",
        "TensorStorageMetadata", "_MEM_FORMAT_ENCODING",
    },
    "torch.distributed.checkpoint.filesystem": {"_StorageInfo"},
    "megatron.core.dist_checkpointing.strategies.torch": {"MCoreMetadata"},
    "pathlib": {"PosixPath", "PurePosixPath"},
    "pathlib._local": {"PosixPath", "PurePosixPath"},
    "collections": {"OrderedDict"},
}  # fmt: skip

TORCH_NAMES: Mapping[str, Collection[str]] = {
    "torch": {"Size", "Tensor", "device", *_DTYPES, *_STORAGES},
    "torch.storage": {"UntypedStorage", "TypedStorage"},
    "torch._tensor": {"_rebuild_from_type_v2"},
    "torch._utils": {"_rebuild_tensor_v2", "_rebuild_parameter"},
    "torch.serialization": {"_get_layout"},
    "collections": {"OrderedDict"},
    "deepspeed.runtime.fp16.loss_scaler": {"LossScaler"},
    "deepspeed.runtime.zero.config": {"ZeroStageEnum"},
    "deepspeed.utils.tensor_fragment": {"fragment_address"},
}


ENUMS = ("_MEM_FORMAT_ENCODING", "ZeroStageEnum")
"""Enumerations among these names. Python 3.11.0 to 3.11.3 writes a member of one as a call of getattr on its class."""


class Record:
    """An object of a pickle as data: its class by name, its arguments, its state. Runs no code."""

    named: str = ""
    args: tuple[Any, ...]
    state: Any

    def __new__(cls, *args: Any, **_keywords: Any) -> Record:
        made = object.__new__(cls)
        made.args, made.state = args, None
        return made

    def __init__(self, *_args: Any, **_keywords: Any) -> None: ...

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def append(self, _item: Any) -> None: ...

    def extend(self, _items: Iterable[Any]) -> None: ...

    def __setitem__(self, _key: Any, _item: Any) -> None: ...


def load(data: bytes, names: Mapping[str, Collection[str]], place: str) -> Any:
    """The values of a pickle, with a Record for each object. Raises BadCheckpointError for a name outside `names` and for a torn pickle."""
    try:
        return _Inert(data, names).load()
    except _ForeignError as error:
        raise BadCheckpointError(
            f"{place} names {error}, which no checkpoint of this program holds: it may run code of whoever wrote it"
        ) from error
    except Exception as error:  # a pickle that is no pickle fails in many ways
        raise BadCheckpointError(f"{place} cannot be read: {type(error).__name__}: {error}") from error


def load_index(path: Path) -> Any:
    """DCP's index as a Record of class Metadata. Raises BadCheckpointError."""
    return load(path.read_bytes(), INDEX_NAMES, f"{path.parent.name}/{path.name}")


def is_pickle(name: str) -> bool:
    """Whether loaders read a file of this name as a pickle."""
    return name.endswith((INDEX, TORCH))


def refuse_code(directory: Path, files: Iterable[str]) -> None:
    """Check every pickle of a checkpoint in `directory`. Raises BadCheckpointError for a name that is not allowed.

    `files`: the files in the manifest. An index may point to these files only, and to tensors only: objects would be pickles again.
    """
    files = frozenset(files)
    for name in sorted(files):
        if name.endswith(INDEX):
            _check_index(load_index(directory / name), files, f"{directory.name}/{name}")
        elif name.endswith(TORCH):
            _check_torch(directory / name, f"{directory.name}/{name}")


def _check_index(index: Any, files: Collection[str], place: str) -> None:
    if not (isinstance(index, Record) and index.named in ("Metadata", "MCoreMetadata") and isinstance(index.state, dict)):
        raise BadCheckpointError(f"{place} is no index of tensors")
    for key, found in _dict(index.state.get("state_dict_metadata"), place).items():
        if not (isinstance(found, Record) and found.named == "TensorStorageMetadata"):
            raise BadCheckpointError(
                f"{place} holds {str(key)[:80]}, which is an object, where a tensor belongs: reading it could run code"
            )
    for found in _dict(index.state.get("storage_data"), place).values():
        path = found.state.get("relative_path") if isinstance(found, Record) and isinstance(found.state, dict) else None
        if path not in files:
            raise BadCheckpointError(f"{place} points to {str(path)[:80]}, which is no file of the checkpoint")


def _check_torch(path: Path, place: str) -> None:
    if not zipfile.is_zipfile(path):
        raise BadCheckpointError(f"{place} is no archive as torch.save writes it")
    try:
        with zipfile.ZipFile(path) as archive:
            programs = [info for info in archive.infolist() if info.filename.endswith(".pkl")]
            if any(info.compress_type != zipfile.ZIP_STORED for info in programs):
                raise ValueError("it is compressed, which torch.save never does")
            contents = [archive.read(info) for info in programs]
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError) as error:
        raise BadCheckpointError(f"{place} cannot be read: {error}") from error
    if not contents:
        raise BadCheckpointError(f"{place} holds no data.pkl")
    for content in contents:
        load(content, TORCH_NAMES, place)


def _dict(found: Any, place: str) -> Mapping[Any, Any]:
    if not isinstance(found, dict):
        raise BadCheckpointError(f"{place} is no index of tensors")
    return found


class _ForeignError(Exception):
    """A pickle names a class or function that is not listed."""


def _member(owner: Any, name: Any) -> Record:
    """In place of getattr: a member of an enumeration, and nothing else."""
    if not (isinstance(owner, type) and issubclass(owner, Record) and owner.named in ENUMS):
        raise _ForeignError("builtins.getattr")
    return owner(name)


class _Inert(pickle.Unpickler):
    """Replaces every class by an empty class created for this pickle."""

    def __init__(self, data: bytes, names: Mapping[str, Collection[str]]) -> None:
        super().__init__(io.BytesIO(data))
        self._names = names
        self._made: dict[tuple[str, str], type] = {}

    def find_class(self, module: str, name: str) -> Any:
        if name == "getattr" and module in ("builtins", "__builtin__"):  # the second in protocol 2, which torch.save writes
            return _member
        if name not in self._names.get(module, ()):
            raise _ForeignError(f"{module}.{name}"[:200])
        if name == "OrderedDict":
            return OrderedDict
        return self._made.setdefault((module, name), type(name, (Record,), {"named": name}))

    def persistent_load(self, _key: Any) -> Record:
        return Record()
