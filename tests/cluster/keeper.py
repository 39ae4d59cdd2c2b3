"""The process that owns a cluster's namespaces and takes everything away at the end, whatever ended it.

`Cluster.up()` starts `python -m tests.cluster.keeper INDEX` in a session of its own, so that Ctrl-C does not reach it. Its standard input
is a leash: when that closes before the word `stay` came, whoever started the cluster is gone, and the cluster goes too. SIGTERM ends it in
any case. If the keeper itself is killed, process 1 sees its own input close and the kernel ends the rest; cgroups and the directory are
left to the next `sweep()`.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
from tests.cluster.addresses import NODES, PODS, SERVICES, Site

CGROUPS = Path("/sys/fs/cgroup")
UNSHARE = ("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")


def main(index: int) -> None:
    """Make the namespaces, say `ready`, wait for the end, clear up."""
    site = Site(index)
    wake, bell = os.pipe()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: os.write(bell, b"x") and None)
    sweep(site)
    site.root.mkdir(parents=True)
    site.pid_file("").parent.mkdir()
    shutil.rmtree(site.logs, ignore_errors=True)
    site.logs.mkdir()
    init: subprocess.Popen[bytes] | None = None
    try:
        make_cgroups(site)
        init = start_init(site)
        connect(site, init)
        print("ready", flush=True)
        wait_for_end(wake, psutil.Process(init.pid), site.logs / "keeper")
    finally:
        end(init)
        sweep(site)


def start_init(site: Site) -> subprocess.Popen[bytes]:
    """Make the namespaces with init.py as their process 1."""
    command = [*UNSHARE, sys.executable, "-IS", str(Path(__file__).with_name("init.py"))]
    with (site.logs / "init").open("wb") as log:
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log)


def connect(site: Site, init: subprocess.Popen[bytes]) -> None:
    """Lay the one wire between the host and the namespaces, and the network inside."""
    assert init.stdout is not None
    if init.stdout.readline() != b"in\n":
        raise RuntimeError(f"{' '.join(UNSHARE)} failed: this machine does not allow new namespaces")
    pid = psutil.Process(init.pid).children()[0].pid
    site.pid_file("init").write_text(str(pid))
    call("ip", "link", "add", site.link, "type", "veth", "peer", "name", "eth0", "netns", str(pid))
    call("ip", "address", "add", f"{site.host}/24", "dev", site.link)
    call("ip", "link", "set", site.link, "up")
    # A /var and /run of its own: what containerd, runc, kubelet and CNI leave there goes with the namespace.
    inside = [
        "set -e",
        "mount -t tmpfs tmpfs /run",
        "mount -t tmpfs tmpfs /var",
        "mkdir -p /var/lib /var/log /var/tmp",
        "ln -s /run /var/run",
    ]
    inside += ["mount --make-rshared /", "ip link set lo up", "ip link set eth0 up", "echo 1 > /proc/sys/net/ipv4/ip_forward"]
    inside += [f"ip address add {address}/24 dev eth0" for address in (site.gateway, *map(site.node_address, NODES))]
    # Nothing leaves: there is no way out of this network but the wire to the host, no default route over it, and pods may not use it.
    inside += ["ip route add unreachable default", f"ip route add unreachable {PODS}", f"ip route add {SERVICES} dev eth0"]
    inside += [f"iptables -A FORWARD -s {PODS} -d {site.host} -j REJECT"]
    call(*nsenter(pid), "sh", "-c", "\n".join(inside))


def nsenter(pid: int) -> tuple[str, ...]:
    """The words before a command that run it in the cluster's namespaces."""
    return ("nsenter", "--target", str(pid), "--net", "--mount", "--pid", "--")


def wait_for_end(wake: int, init: psutil.Process, log: Path) -> None:
    """Return when told to, when the leash closes, or when process 1 is gone."""
    watched = [wake, sys.stdin.fileno()]
    while init.is_running() and init.status() != psutil.STATUS_ZOMBIE:
        ready = select.select(watched, [], [], 1)[0]
        if wake in ready:
            return
        if ready and os.read(sys.stdin.fileno(), 64) != b"stay\n":
            return
        if ready:
            watched = [wake]
            with log.open("ab") as file:  # who started it may end now: let go of its output, a pipe perhaps
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)


def end(init: subprocess.Popen[bytes] | None) -> None:
    """End process 1; when `unshare` has seen it go, no process of the namespaces is left."""
    if init is not None:
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(init.pid).children():
                child.kill()
        init.wait()


def sweep(site: Site) -> None:
    """Remove what a cluster of this index left on the host. Only for who holds the lock."""
    end_strays(site)
    subprocess.run(["ip", "link", "delete", site.link], stderr=subprocess.DEVNULL, check=False)
    for top in cgroup_tops(site):
        remove_cgroup(top)
    shutil.rmtree(site.root, ignore_errors=True)


def end_strays(site: Site) -> None:
    """Kill process 1 of an earlier keeper that was killed, if its id still belongs to it."""
    with contextlib.suppress(OSError, ValueError, psutil.NoSuchProcess):
        process = psutil.Process(int(site.pid_file("init").read_text()))
        if str(Path(__file__).with_name("init.py")) in process.cmdline():
            process.kill()
            process.wait(10)


def cgroup_tops(site: Site) -> Iterator[Path]:
    """The cluster's cgroup in every hierarchy: one in version 2, one a controller and the unified one beside them in version 1."""
    if (CGROUPS / "cgroup.controllers").exists():
        yield CGROUPS / site.cgroup
        return
    for hierarchy in sorted(CGROUPS.iterdir()):
        if hierarchy.is_dir() and not hierarchy.is_symlink():
            yield hierarchy / site.cgroup


def make_cgroups(site: Site) -> None:
    """One subtree a node: kubelets that share one delete each other's pods."""
    for top in cgroup_tops(site):
        for path in (top, *(top / node for node in NODES)):
            path.mkdir()
            for name in ("cpuset.cpus", "cpuset.mems"):  # version 1: a child may not use what its parent has not filled in
                if path.parts[4] == "cpuset":
                    (path / name).write_text((path.parent / name).read_text())
            if (controllers := path / "cgroup.controllers").exists():  # version 2
                (path / "cgroup.subtree_control").write_text(" ".join(f"+{one}" for one in controllers.read_text().split()))


def remove_cgroup(top: Path) -> None:
    """Remove a cgroup and all below it; a process that just ended may hold its cgroup for a moment."""
    for directory, _, _ in sorted(os.walk(top), key=lambda entry: -len(entry[0])):
        for _ in range(50):
            try:
                os.rmdir(directory)  # noqa: PTH106 - Path.rmdir is the same call; os.walk gives text
                break
            except FileNotFoundError:
                break
            except OSError:
                time.sleep(0.1)


def call(*command: str) -> str:
    """Run a command; raise RuntimeError with what it printed if it fails."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[:4])} ... ended with {done.returncode}: {done.stdout.strip()}")
    return done.stdout


if __name__ == "__main__":
    main(int(sys.argv[1]))
