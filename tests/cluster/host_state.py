"""What a cluster could leave behind on the host, as sets to compare before and after. Used by test_clean_up.py."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import psutil
from tests.cluster.addresses import Site
from tests.cluster.keeper import CGROUPS, call

# Where container programs write when nobody tells them otherwise.
PLACES = [f"/{name}" for name in ("etc/cni", "opt/cni", "opt/containerd", "run/containerd", "run/netns", "run/kubernetes", "run/nri")]
PLACES += [f"/var/{name}" for name in ("lib/cni", "lib/containerd", "lib/kubelet", "lib/etcd", "log/pods", "log/containers")]


def host_state(site: Site) -> dict[str, frozenset[str]]:
    """Kind of thing -> what there is of it now. Other clusters may come and go meanwhile: what carries the index of one is left out."""
    return {kind: frozenset(one for one in found if not _of_another(one, site)) for kind, found in _everything().items()}


def _of_another(name: str, site: Site) -> bool:
    index = _CLUSTER.search(name)
    return index is not None and int(index.group(1)) != site.index


def _everything() -> dict[str, frozenset[str]]:
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    return {
        "interfaces": frozenset(path.name for path in Path("/sys/class/net").iterdir()),
        "routes": frozenset(call("ip", "route", "show", "table", "all").splitlines()),
        "rules of iptables": frozenset(_iptables()),
        "mounts": frozenset(line.split()[4] for line in mounts),
        "cgroups": frozenset(str(path) for path in [*CGROUPS.iterdir(), *CGROUPS.glob("*/*/")]),
        "files": frozenset(place for place in PLACES if Path(place).exists()),
        "sysctl": frozenset([Path("/proc/sys/net/ipv4/ip_forward").read_text()]),
    }


_CLUSTER = re.compile(r"\bllmtrain-?(\d+)\b")


def processes(site: Site, namespace: int) -> list[str]:
    """Processes of the namespace of process ids, and any other that names the site's directory."""
    return sorted(_belonging(str(site.root), namespace))


def process_namespace(pid: int) -> int:
    """The identity of the namespace of process ids that a process lives in."""
    return os.stat(f"/proc/{pid}/ns/pid").st_ino  # noqa: PTH116 - Path.stat is the same call


def _belonging(root: str, namespace: int) -> Iterator[str]:
    for process in psutil.process_iter():
        try:
            command = " ".join(process.cmdline())
            if process_namespace(process.pid) == namespace or f"{root}/" in command:
                yield f"{process.pid} {command}"
        except (psutil.Error, OSError):  # it ended meanwhile
            continue


def _iptables() -> Iterator[str]:
    for line in call("sh", "-c", "iptables-save; ip6tables-save").splitlines():
        if not line.startswith(("#", ":")):
            yield line
