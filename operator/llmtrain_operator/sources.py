"""Reads a model's config.json from its source, so that the plan knows the model's shape."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmtrain_operator.manifest.problem import PlanError, Problem
from llmtrain_operator.plan.model.families import shape_of
from llmtrain_operator.plan.model.shape import ModelShape
from llmtrain_trainer.config.model import BESIDE_WEIGHTS, UNREAD_WEIGHTS

if TYPE_CHECKING:
    from llmtrain_trainer.config import Model

FIELD = "spec.model.source"
CONFIG = "config.json"
LARGEST = 4 << 20
"""Most bytes of a config.json; the largest published ones have some tens of KiB."""

READ_SECONDS = 20.0


def read_shape(model: Model) -> ModelShape | None:
    """The shape, from the manifest or from config.json at its source.

    None if it cannot be read from here: a pvc:// source outside its cluster, or a hub that cannot be reached. Raises PlanError if the
    source answers but has no usable config.json.
    """
    if model.config is not None:
        return shape_of(model.config)
    source = model.source or ""
    scheme, _, rest = source.partition("://")
    if scheme == "pvc":
        return None
    text = _from_hub(rest, model.revision) if scheme == "hf" else _from_s3(source) if scheme == "s3" else _from_file(source)
    if scheme == "file" and model.init == "pretrained":
        _check_weights(source)
    return None if text is None else shape_of(_parsed(source, text), where=f"{FIELD} {source}: config.json")


def _parsed(source: str, text: str) -> dict[str, Any]:
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _refused(source, f"its config.json is not valid JSON ({error})", "Name a model in Hugging Face's format") from error
    if not isinstance(config, dict):
        raise _refused(source, "its config.json is not a mapping", "Name a model in Hugging Face's format")
    return config


def _from_file(source: str) -> str:
    """The text of config.json in a directory. Only a regular file is read: a device or a pipe may never end."""
    path = Path(source.removeprefix("file://")) / CONFIG
    try:
        if not path.is_file():
            raise (
                _not_there(source)
                if not path.exists()
                else _refused(source, f"its {CONFIG} is not a regular file", "Put a regular file there")
            )
        with path.open("rb") as file:
            return _text(source, file.read(LARGEST + 1))
    except OSError as error:
        raise _refused(source, f"it cannot be read ({error})", "Check the path and its permissions") from error


def _check_weights(source: str) -> None:
    """Raises PlanError if a local directory has weights only in a format that is not read. Buckets and hubs are not checked here."""
    try:
        names = sorted(path.name for path in Path(source.removeprefix("file://")).iterdir())
    except OSError:
        return  # preparation reports this
    others = [name for name in names if name.endswith(UNREAD_WEIGHTS) and not name.startswith(BESIDE_WEIGHTS)]
    if others and not any(name.endswith(".safetensors") for name in names):
        way_out = "load it with transformers' AutoModelForCausalLM.from_pretrained, call save_pretrained, and name that directory"
        raise _refused(source, f"its weights are in {others[0]}, but only *.safetensors are read", f"Convert them: {way_out}")


def _from_s3(source: str) -> str:
    """The text of config.json in a bucket, with AWS_* credentials and endpoint from the environment; at most LARGEST bytes, within
    READ_SECONDS."""
    import fsspec  # imported late: a manifest with an inline config does not need it
    from fsspec.asyn import sync

    try:
        store = fsspec.filesystem("s3")
        bucket, key, _ = store.split_path(f"{source.rstrip('/')}/{CONFIG}")
        return _text(source, sync(store.loop, _received, store, bucket, key, timeout=READ_SECONDS))
    except PlanError:
        raise
    except FileNotFoundError as error:
        raise _not_there(source) from error
    except Exception as error:  # stores raise various errors; the address or the credentials are the cause
        why = f"no answer within {READ_SECONDS:g} s" if isinstance(error, TimeoutError) else error
        raise _refused(source, f"it cannot be read ({why})", "Check the address, AWS_ENDPOINT_URL and the credentials") from error


async def _received(store: Any, bucket: str, key: str) -> bytes:
    """At most LARGEST + 1 bytes of an object, even if the server sends more than requested."""
    answer = await store._call_s3("get_object", Bucket=bucket, Key=key, Range=f"bytes=0-{LARGEST}")
    body, taken = answer["Body"], bytearray()
    try:
        while len(taken) <= LARGEST and (chunk := await body.read(1 << 16)):
            taken += chunk
    finally:
        body.close()
    return bytes(taken)


def _from_hub(repository: str, revision: str | None) -> str | None:
    """The cached config.json of that revision, else the hub's (with HF_ENDPOINT and HF_TOKEN); None if the hub cannot be reached."""
    source = f"hf://{repository}"
    try:
        from huggingface_hub import hf_hub_download, try_to_load_from_cache
        from huggingface_hub.errors import (
            EntryNotFoundError,
            HfHubHTTPError,
            HFValidationError,
            LocalEntryNotFoundError,
            RepositoryNotFoundError,
        )
    except ImportError as error:
        raise _refused(source, "reading the hub needs the package huggingface_hub", "Install it, or use another source") from error
    try:
        cached = try_to_load_from_cache(repository, CONFIG, revision=revision)
        if not isinstance(cached, str):
            _check_size_at_hub(repository, revision)
            cached = hf_hub_download(repository, CONFIG, revision=revision)
        with Path(cached).open("rb") as file:
            return _text(source, file.read(LARGEST + 1))
    except LocalEntryNotFoundError:
        return None
    except RepositoryNotFoundError as error:
        raise _refused(
            source, "the hub has no such repository, or it needs a token", "Check the name, and set HF_TOKEN if it is gated"
        ) from error
    except EntryNotFoundError as error:
        raise _refused(source, "the repository has no config.json", "Use a model in Hugging Face's format") from error
    except HfHubHTTPError as error:
        raise _refused(
            source, f"the hub refuses the request ({error})", "Check name and revision, and set HF_TOKEN if it is gated"
        ) from error
    except HFValidationError as error:
        raise _refused(source, f"it is not a valid repository of the hub ({error})", "Write hf://owner/name") from error
    except OSError:
        return None


def _check_size_at_hub(repository: str, revision: str | None) -> None:
    """Raises PlanError if config.json is too large to fetch. Errors of the hub are ignored here: the download reports them."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    try:
        size = get_hf_file_metadata(hf_hub_url(repository, CONFIG, revision=revision)).size
    except Exception:
        return
    if size is not None and size > LARGEST:
        raise _too_large(f"hf://{repository}")


def _text(source: str, raw: bytes) -> str:
    if len(raw) > LARGEST:
        raise _too_large(source)
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise _refused(source, f"its {CONFIG} is not text ({error.reason})", "Name a model in Hugging Face's format") from error


def _too_large(source: str) -> PlanError:
    return _refused(source, f"its {CONFIG} has more than {LARGEST >> 20} MiB", "Name a model in Hugging Face's format")


def _not_there(source: str) -> PlanError:
    return _refused(source, f"it has no {CONFIG}", f"Name a directory with {CONFIG}")


def _refused(source: str, rule: str, way_out: str) -> PlanError:
    return PlanError([Problem(FIELD, source, rule, way_out)])
