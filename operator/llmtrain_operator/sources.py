"""The edge that reads a model's config.json, so that the plan knows its shape. Called by the CLI, the local run and the operator."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmtrain_operator.job.families import shape_of
from llmtrain_operator.job.problem import PlanError, Problem
from llmtrain_operator.job.shape import ModelShape

if TYPE_CHECKING:
    from llmtrain_trainer.config import Model

FIELD = "spec.model.source"


def read_shape(model: Model) -> ModelShape | None:
    """The shape, from the manifest or from config.json at its source.

    None where it cannot be known here: a pvc:// source outside its cluster, a hub that is out of reach. Raises PlanError where the
    source answers and has no usable config.json.
    """
    if model.config is not None:
        return shape_of(model.config)
    source = model.source or ""
    scheme, _, rest = source.partition("://")
    if scheme == "pvc":
        return None
    text = _from_hub(rest, model.revision) if scheme == "hf" else _from_store(source)
    return None if text is None else shape_of(_parsed(source, text), where=f"{FIELD} {source}: config.json")


def _parsed(source: str, text: str) -> dict[str, Any]:
    try:
        config = json.loads(text)
    except ValueError as error:
        raise _refused(source, f"its config.json is no JSON ({error})", "Point it at a model in Hugging Face's format") from error
    if not isinstance(config, dict):
        raise _refused(source, "its config.json is no mapping", "Point it at a model in Hugging Face's format")
    return config


def _from_store(source: str) -> str:
    """file:// and s3://, the latter with the environment's AWS_* credentials and endpoint."""
    import fsspec  # imported here: a manifest with an inline config needs none of it

    try:
        with fsspec.open(f"{source.rstrip('/')}/config.json", "r") as file:
            text: str = file.read()
            return text
    except FileNotFoundError as error:
        raise _refused(source, "no config.json is there", "Point it at a directory that holds config.json") from error
    except Exception as error:  # every store has its own; whatever it is, the address or the credentials are to blame
        raise _refused(source, f"it cannot be read ({error})", "Check the address, AWS_ENDPOINT_URL and the credentials") from error


def _from_hub(repository: str, revision: str | None) -> str | None:
    """The cached file of that revision, else the hub's (HF_ENDPOINT and HF_TOKEN are honoured); None when the hub is out of reach."""
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
        cached = try_to_load_from_cache(repository, "config.json", revision=revision)
        return Path(cached if isinstance(cached, str) else hf_hub_download(repository, "config.json", revision=revision)).read_text()
    except LocalEntryNotFoundError:
        return None
    except RepositoryNotFoundError as error:
        raise _refused(
            source, "the hub has no such repository, or it needs a token", "Check the name, and set HF_TOKEN if it is gated"
        ) from error
    except EntryNotFoundError as error:
        raise _refused(source, "the repository has no config.json", "Use a model in Hugging Face's format") from error
    except HfHubHTTPError as error:
        raise _refused(source, f"the hub refuses it ({error})", "Check name and revision, and set HF_TOKEN if it is gated") from error
    except HFValidationError as error:
        raise _refused(source, f"it is no repository of the hub ({error})", "Write hf://owner/name") from error
    except OSError:
        return None


def _refused(source: str, rule: str, way_out: str) -> PlanError:
    return PlanError([Problem(FIELD, source, rule, way_out)])
