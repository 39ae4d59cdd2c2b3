"""Run a program in mount and process namespaces of its own: whatever it mounts and starts is gone when it ends, also after a crash."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.cluster.image.storage import home

_STATE = "/var/lib/containers"
"""Where tools for containers keep what no option moves: among it, under which digest a registry has a layer."""


def boxed(*command: str | Path, network: bool = True, environment: Mapping[str, str] | None = None, cwd: Path | None = None) -> None:
    """Run a command; without `network` it sees a loopback interface of its own alone. Raises RuntimeError with its last lines."""
    state = home() / "state"
    state.mkdir(parents=True, exist_ok=True)
    prepare = [f"mkdir -p {_STATE}", f"mount --bind {state} {_STATE}", *([] if network else ["ip link set lo up"])]
    unshare = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", *([] if network else ["--net"])]
    words = [*unshare, "sh", "-ec", "; ".join([*prepare, 'exec "$@"']), "sh", *map(str, command)]
    done = subprocess.run(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        cwd=cwd,
        env={**os.environ, **(environment or {})},
    )
    if done.returncode:
        last = "\n".join(done.stdout.splitlines()[-30:])
        raise RuntimeError(f"{Path(command[0]).name} ended with {done.returncode}:\n{last}")
