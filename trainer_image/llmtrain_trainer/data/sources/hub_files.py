"""Files of a repository on a hub, downloaded into the hub's own cache (HF_HOME), from HF_ENDPOINT where set."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path

from llmtrain_trainer.data.bad_data import BadData, Unreachable
from llmtrain_trainer.data.blame import first_line
from llmtrain_trainer.data.sources.files import DataFile
from llmtrain_trainer.data.sources.local_files import is_specific


def hub_files(field: str, source: str, revision: str | None, repository: str, patterns: Sequence[str]) -> list[DataFile]:
    """Sorted by name. `repository`: model or dataset; `patterns`: what is downloaded where the source names no path in it."""
    name, inside = split_hub(source)
    wanted = [f"{inside}*" if inside.endswith("/") else inside, f"{inside}/*"] if inside else list(patterns) or None
    root = _snapshot(field, source, name, revision, repository, wanted)
    inner = (p.relative_to(root) for p in root.rglob("*") if p.is_file())
    found = sorted(p for p in inner if not any(part.startswith(".") for part in p.parts) and _matches(p, wanted))
    if not found:
        there = sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file())[:5]
        rule = f"the repository has no such file (found {', '.join(there) or 'none that data is read from'})"
        raise BadData(field, source, rule, "Check the path after owner/name")
    # The snapshot's directory is named by its commit, so the identity pins the content.
    return [
        DataFile(
            uri=f"hf://{name}/{p}",
            name=str(p),
            identity=(name, root.name, str(p)),
            size=(root / p).stat().st_size,
            asked=bool(inside) and fnmatch(str(p), inside) and is_specific(inside),
            local=root / p,
        )
        for p in found
    ]


def _snapshot(field: str, source: str, name: str, revision: str | None, repository: str, wanted: list[str] | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        return Path(snapshot_download(name, repo_type=repository, revision=revision, allow_patterns=wanted))
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        way_out = "Check owner, name and revision; a private one needs HF_TOKEN"
        raise BadData(field, source, f"the hub has no such {repository} at revision {revision or 'main'}", way_out) from error
    except HFValidationError as error:
        raise BadData(field, source, f"it names no repository ({first_line(error)})", "Write hf://owner/name") from error
    except HfHubHTTPError as error:
        if _refused(error):
            raise BadData(field, source, f"the hub refuses it ({first_line(error)})", "Check HF_TOKEN and its rights") from error
        raise Unreachable(field, source, error) from error
    except Exception as error:  # what downloads has many types for an answer that did not come whole
        raise Unreachable(field, source, error) from error


def _refused(error: Exception) -> bool:
    response = getattr(error, "response", None)
    return response is not None and response.status_code in (400, 401, 403, 404, 410)


def _matches(path: Path, patterns: list[str] | None) -> bool:
    return patterns is None or any(fnmatch(str(path), pattern) for pattern in patterns)


def split_hub(source: str) -> tuple[str, str]:
    """hf://owner/name/some/path -> ("owner/name", "some/path")."""
    parts = source.removeprefix("hf://").split("/", 2)
    return "/".join(parts[:2]), parts[2] if len(parts) > 2 else ""
