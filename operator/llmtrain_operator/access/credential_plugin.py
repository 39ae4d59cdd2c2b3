"""Programs that print credentials, such as `aws eks get-token`: the exec section of a kubeconfig.

The protocol is Kubernetes' client.authentication.k8s.io: an ExecCredential with a token or a client certificate on standard output.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

TIMEOUT = 120.0
"""Seconds a program may take: some open a browser."""


class PluginError(ValueError):
    """No credentials came; the message says what the program said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """What a program gave."""

    token: str | None = None
    certificate: str | None = None
    """PEM."""

    key: str | None = None
    """PEM."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plugin:
    """One program, ready to be run again when its token is refused."""

    command: tuple[str, ...]
    environment: Mapping[str, str]
    hint: str = ""
    """What the kubeconfig says on how to install it."""

    interactive: bool = True
    """Whether it may ask on the terminal."""

    @classmethod
    def of(cls, section: Mapping[str, Any], cluster: Mapping[str, Any], environment: Mapping[str, str]) -> Plugin:
        """From the exec section of a user and the cluster that it is for."""
        mode = section.get("interactiveMode") or "IfAvailable"
        interactive = mode != "Never" and sys.stdin.isatty()
        spec: dict[str, Any] = {"interactive": interactive}
        if section.get("provideClusterInfo"):
            spec["cluster"] = {name: value for name, value in cluster.items() if name in _CLUSTER_INFO}
        told = {"apiVersion": section.get("apiVersion"), "kind": "ExecCredential", "spec": spec}
        added = {item["name"]: str(item.get("value", "")) for item in section.get("env") or ()}
        return cls(
            command=(str(section.get("command") or ""), *map(str, section.get("args") or ())),
            environment={**environment, **added, "KUBERNETES_EXEC_INFO": json.dumps(told)},
            hint=" ".join(str(section.get("installHint") or "").split()),
            interactive=interactive,
        )

    def credential(self) -> Credential:
        """Run it. Raises PluginError."""
        program = shutil.which(self.command[0], path=self.environment.get("PATH"))
        if program is None:
            raise PluginError(f"The kubeconfig gets its credentials from {self.command[0]}, which is not installed. {self.hint}".rstrip())
        try:
            done = subprocess.run(
                [program, *self.command[1:]],
                env=dict(self.environment),
                stdin=None if self.interactive else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=None if self.interactive else subprocess.PIPE,
                timeout=TIMEOUT,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise PluginError(f"{self.command[0]} gave no credentials: {error}.") from error
        if done.returncode:
            said = (done.stderr or b"").decode(errors="replace").strip().splitlines()[-1:]
            raise PluginError(f"{self.command[0]} gave no credentials: it ended with code {done.returncode}. {''.join(said)}".rstrip())
        return _credential(self.command[0], done.stdout)


_CLUSTER_INFO = ("server", "certificate-authority-data", "insecure-skip-tls-verify", "proxy-url")


def _credential(program: str, printed: bytes) -> Credential:
    try:
        status = json.loads(printed)["status"]
        found = Credential(token=status.get("token"), certificate=status.get("clientCertificateData"), key=status.get("clientKeyData"))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise PluginError(f"{program} printed no ExecCredential.") from error
    if not (found.token or (found.certificate and found.key)):
        raise PluginError(f"{program} printed an ExecCredential without a token and without a client certificate.")
    return found
