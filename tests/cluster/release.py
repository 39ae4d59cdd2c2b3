"""The chart, rendered or installed by helm. Used by tests/chart, by the fixture `installed` and by `make cluster`."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from tests.cluster import binaries

CHART = Path(__file__).parents[2] / "charts" / "llmtrain"
NAME, NAMESPACE = "llmtrain", "llmtrain-system"
CRD = "llmtrainjobs.llmtrain.io"

Object = dict[str, Any]
Values = Mapping[str, Any]


def helm_path() -> str:
    """The user's helm, or the one that the test cluster builds. Raises CannotRunError where neither is there and none can be built."""
    if found := shutil.which("helm"):
        return found
    binaries.ensure("helm")
    return str(binaries.program("helm"))


def helm(*arguments: str, kubeconfig: Path | None = None, stdin: str | None = None) -> str:
    """Run helm; its output. Raises RuntimeError with what it said."""
    environment = os.environ | ({"KUBECONFIG": str(kubeconfig)} if kubeconfig else {})
    done = subprocess.run([helm_path(), *arguments], input=stdin, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise RuntimeError(f"helm {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def rendered(values: Values | None = None, *, namespace: str = NAMESPACE) -> list[Object]:
    """Every object of the chart with these values."""
    text = helm("template", NAME, str(CHART), "--namespace", namespace, "--values", "-", stdin=yaml.safe_dump(dict(values or {})))
    return [one for one in yaml.safe_load_all(text) if one]


def of_kind(objects: Iterable[Object], *kinds: str) -> list[Object]:
    """Those of some kinds."""
    return [one for one in objects if one["kind"] in kinds]


def install(kubeconfig: Path, values: Values, *, namespace: str = NAMESPACE, timeout: str = "120s") -> str:
    """Install or upgrade the release and wait until its pods are ready; what helm printed.

    A CRD that lies there from kubectl, or from a release that was uninstalled, becomes the release's own.
    """
    command = ["upgrade", NAME, str(CHART), "--install", "--namespace", namespace, "--create-namespace", "--take-ownership"]
    command += ["--wait", "--timeout", timeout, "--values", "-"]
    return helm(*command, kubeconfig=kubeconfig, stdin=yaml.safe_dump(dict(values)))


def uninstall(kubeconfig: Path, *, namespace: str = NAMESPACE) -> str:
    """Remove the release and wait until its objects are gone; what helm printed."""
    return helm("uninstall", NAME, "--namespace", namespace, "--ignore-not-found", "--wait", kubeconfig=kubeconfig)
