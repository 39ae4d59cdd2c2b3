"""The chart, rendered or installed by helm. Used by tests/chart, by the fixture `installed` and by `make cluster`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from tests.cluster import binaries
from tests.cluster.cluster import Given

CHART = Path(__file__).parents[2] / "charts" / "llmtrain"
EXAMPLE = Path(__file__).parents[2] / "examples" / "07-on-a-cluster.yaml"
NAME, NAMESPACE = "llmtrain", "llmtrain-system"
CRD = "llmtrainjobs.llmtrain.io"

Object = dict[str, Any]


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


def rendered(values: Mapping[str, Any] | None = None, *, tests: bool = False) -> list[Object]:
    """Every object of the chart with these values; `tests`: those of `helm test` as well."""
    command = ["template", NAME, str(CHART), "--namespace", NAMESPACE, "--values", "-", *([] if tests else ["--skip-tests"])]
    text = helm(*command, stdin=yaml.safe_dump(dict(values or {})))
    return [one for one in yaml.safe_load_all(text) if one]


def of_kind(objects: Iterable[Object], *kinds: str) -> list[Object]:
    """Those of some kinds."""
    return [one for one in objects if one["kind"] in kinds]


@dataclass(frozen=True)
class Release:
    """The chart in a cluster."""

    cluster: Given

    def install(self, timeout: str = "120s", **values: Any) -> str:
        """Install or upgrade, and wait until all replicas are ready; what helm printed.

        A CRD that lies there from kubectl, or from a release that was uninstalled, becomes the release's own.
        """
        command = ["upgrade", NAME, str(CHART), "--install", "--namespace", NAMESPACE, "--create-namespace", "--take-ownership"]
        command += ["--wait", "--timeout", timeout, "--values", "-"]
        command += ["--force-conflicts"] if helm("version", "--short").startswith("v4") else []  # helm 3 knows no conflicts
        try:
            said = helm(*command, kubeconfig=self.cluster.kubeconfig, stdin=yaml.safe_dump(values))
        except RuntimeError as error:
            seen = self.cluster.kubectl("describe", "pods", "-n", NAMESPACE, check=False)
            raise RuntimeError(f"{error}\n{seen}\n{self.logs()}") from error
        self.until_asked()
        return said

    def until_asked(self, seconds: float = 30) -> None:
        """Wait until the API server reaches the webhook: kube-proxy learns of a ready pod a moment after it is."""
        deadline = time.monotonic() + seconds
        while "failed calling webhook" in (said := self._tried()) and time.monotonic() < deadline:
            time.sleep(0.2)
        if "failed calling webhook" in said:
            raise RuntimeError(said)

    def _tried(self) -> str:
        """What kubectl says to a manifest that is not kept."""
        return self.cluster.kubectl("create", "--dry-run=server", "-n", "default", "-f", str(EXAMPLE), check=False)

    def test(self) -> str:
        """Run `helm test`; what helm and the test printed. Raises RuntimeError where it failed."""
        return helm("test", NAME, "--namespace", NAMESPACE, "--logs", "--timeout", "280s", kubeconfig=self.cluster.kubeconfig)

    def uninstall(self) -> str:
        """Remove the release and wait until its objects are gone; what helm printed."""
        return helm("uninstall", NAME, "--namespace", NAMESPACE, "--ignore-not-found", "--wait", kubeconfig=self.cluster.kubeconfig)

    def pods(self) -> list[Object]:
        """The replicas."""
        found = self.cluster.kubectl("get", "pods", "-n", NAMESPACE, "-l", "app.kubernetes.io/component=operator", "-o", "json")
        return [dict(pod) for pod in json.loads(found)["items"]]

    def leader(self) -> str:
        """The name of the pod that holds the lease; empty when none does."""
        path = "jsonpath={.spec.holderIdentity}"
        identity = self.cluster.kubectl("get", "lease", NAME, "-n", NAMESPACE, "-o", path, check=False)
        names = [pod["metadata"]["name"] for pod in self.pods()]
        return next((name for name in names if identity.startswith(f"{name}-")), "")

    def logs(self) -> str:
        """What the replicas said."""
        return self.cluster.kubectl("logs", "-n", NAMESPACE, "-l", "app.kubernetes.io/component=operator", "--tail=200", check=False)
