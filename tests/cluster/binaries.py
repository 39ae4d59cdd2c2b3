"""The programs of the test cluster, built once from pinned Go modules into the user's cache.

`ensure()` is called by `Cluster.up()` and by `python -m tests.cluster build`. A tool is built again when its go.mod, go.sum, sources or
flags change.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
KUBERNETES = "v1.36.3"
# An unstamped API server reports v0.0.0, and clients refuse it.
STAMP = " ".join(
    f"-X {package}/version.{name}={value}"
    for package in ("k8s.io/component-base", "k8s.io/client-go/pkg")
    for name, value in (("gitVersion", KUBERNETES), ("gitMajor", "1"), ("gitMinor", "36"))
)


class CannotRunError(Exception):
    """This machine cannot run the test cluster; the text is the one line a skipped test shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """One Go module of ours that pins programs: what to build from it and how."""

    name: str
    programs: Mapping[str, str]  # file name -> Go package
    module: Path
    tags: str = ""
    cgo: bool = False
    ldflags: str = ""
    watched: tuple[str, ...] = field(default=("go.mod", "go.sum"))

    def digest(self) -> str:
        """Twelve hex digits over everything that decides what is built."""
        sources = [self.module / name for name in self.watched]
        text = repr((sorted(self.programs.items()), self.tags, self.cgo, self.ldflags, platform.machine()))
        return hashlib.sha256(b"".join([text.encode(), *(path.read_bytes() for path in sources if path.exists())])).hexdigest()[:12]


def tool(name: str, *packages: str, **settings: object) -> Tool:
    """A tool whose programs are named after the last part of their packages, or `file=package`."""
    pairs = (package.split("=") if "=" in package else (package.rsplit("/", 1)[-1], package) for package in packages)
    return Tool(name=name, programs=dict(pairs), module=HERE / "tools" / name, **settings)  # type: ignore[arg-type]


_CONTAINERD = "github.com/containerd/containerd/v2/cmd"
_CNI = "github.com/containernetworking/plugins/plugins"
_COMMANDS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl")
TOOLS = (
    tool("probe", "probe=.", watched=("go.mod", "main.go")),
    tool("cni", f"{_CNI}/main/bridge", f"{_CNI}/main/loopback", f"{_CNI}/ipam/host-local", f"{_CNI}/meta/portmap"),
    tool("runc", "github.com/opencontainers/runc", tags="seccomp", cgo=True),
    tool("etcd", "etcd=go.etcd.io/etcd/server/v3"),
    tool("kubernetes", *(f"k8s.io/kubernetes/cmd/{name}" for name in _COMMANDS), ldflags=STAMP),
    tool(
        "containerd",
        *(f"{_CONTAINERD}/{name}" for name in ("containerd", "containerd-shim-runc-v2", "ctr")),
        tags="no_btrfs no_devmapper no_zfs",
    ),
    tool("registry", "github.com/distribution/distribution/v3/cmd/registry"),
    tool("coredns", "github.com/coredns/coredns"),
    tool("helm", "helm.sh/helm/v4/cmd/helm"),
    tool("kwok", "sigs.k8s.io/kwok/cmd/kwok"),
    tool("kube-router", "github.com/cloudnativelabs/kube-router/v2/cmd/kube-router"),
)


def cache() -> Path:
    """Where this project keeps what it built for this user."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "llmtrain"


def directory(wanted: Tool) -> Path:
    """Where the programs of a tool lie once built."""
    return cache() / "bin" / f"{wanted.name}-{wanted.digest()}"


def program(name: str) -> Path:
    """The path of a built program, whichever tool it belongs to."""
    return next(directory(one) / name for one in TOOLS if name in one.programs)


def missing() -> list[str]:
    """The tools that are not in the cache yet."""
    return [one.name for one in TOOLS if not directory(one).exists()]


def ensure(*names: str) -> None:
    """Build the named tools, or all, that are not in the cache yet. Raises CannotRunError where that is not possible."""
    for wanted in TOOLS:
        if names and wanted.name not in names:
            continue
        if not directory(wanted).exists():
            _needs(wanted)
            _build(wanted)


def _needs(wanted: Tool) -> None:
    if shutil.which("go") is None:
        raise CannotRunError("the test cluster is built from Go modules and `go` is not on PATH: install Go 1.26 or later")
    if wanted.cgo:
        install_packages()


def install_packages(*programs: str) -> None:
    """Install the Debian packages of packages.sh where a program is missing. Raises CannotRunError without root or apt."""
    needed = ("gcc", "pkg-config", "iptables", "ipset", "ip", "nsenter", "unshare", *programs)
    missing = [name for name in needed if shutil.which(name) is None]
    if not missing and subprocess.run(["pkg-config", "--exists", "libseccomp"], check=False).returncode:
        missing = ["libseccomp-dev"]
    if not missing:
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise CannotRunError(
            f"the test cluster needs {', '.join(missing)}: run tests/cluster/packages.sh as root, or install them another way"
        )
    print(f"installing {', '.join(missing)}", flush=True)
    subprocess.run([HERE / "packages.sh"], check=True)


def _build(wanted: Tool) -> None:
    final = directory(wanted)
    final.parent.mkdir(parents=True, exist_ok=True)
    with _locked(final.parent / f"{wanted.name}.lock"):
        if final.exists():  # another process built it while this one waited
            return
        start = time.monotonic()
        for rest in final.parent.glob(f".{wanted.name}-*"):  # of a build that was killed
            shutil.rmtree(rest, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=final.parent, prefix=f".{wanted.name}-") as scratch:
            made = Path(scratch) / "made"
            made.mkdir()
            for output, package in wanted.programs.items():
                _go_build(wanted, package, made / output)
            made.rename(final)
        print(f"built {wanted.name} in {time.monotonic() - start:.0f} s", flush=True)


def _go_build(wanted: Tool, package: str, output: Path) -> None:
    environment = os.environ | {"CGO_ENABLED": str(int(wanted.cgo)), "GOWORK": "off", "GOFLAGS": "-mod=readonly -trimpath -buildvcs=false"}
    command = ["go", "build", "-tags", wanted.tags, "-ldflags", f"-s -w {wanted.ldflags}", "-o", str(output), package]
    done = subprocess.run(
        command, cwd=wanted.module, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode:
        raise CannotRunError(f"{package} could not be built: {' '.join(done.stdout.splitlines()[-3:])}")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
