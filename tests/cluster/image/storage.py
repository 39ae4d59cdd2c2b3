"""Where images are kept, below the user's cache in images/:

buildah/    buildah's storage: bases, dependencies, our code
registry/   what the registry of every test cluster serves
unpacked/   the trainer's dependencies as containerd keeps them, once for all nodes (see unpacked.py)
debs/       packages of the bases
built.json  which images were built last, and from what
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.binaries import cache


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """Images by their names without a registry, such as llmtrain/trainer:1f2e3d4c5b6a."""

    operator: str
    trainer: str
    dependencies: str
    """The trainer's image without our code."""

    sources: str
    """Digest of everything that they were built from."""

    environment: str
    """Digest of the part of it that takes minutes to build."""


def home() -> Path:
    """The directory of all of it."""
    return cache() / "images"


def built() -> Built | None:
    """The record of the last build."""
    try:
        return Built(**json.loads((home() / "built.json").read_text()))
    except (FileNotFoundError, TypeError):  # none, or one of an earlier form
        return None


def registry() -> Path:
    """The storage of the registry."""
    return home() / "registry"


def unpacked(dependencies: str) -> Path:
    """Where the layers of a dependency image lie unpacked."""
    return home() / "unpacked" / dependencies.rsplit(":", 1)[1]


def buildah(*arguments: str | Path) -> list[str | Path]:
    """The command line of buildah with its storage here."""
    return ["buildah", "--root", home() / "buildah", "--runroot", home() / "run", "--storage-driver", "overlay", *arguments]
