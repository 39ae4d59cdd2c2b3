"""The programs that make up the cluster: the command line of each, and the files it reads.

Called by cluster.py alone. The reason of each odd setting stands beside it.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

from tests.cluster.addresses import API_PORT, NODES, PODS, S3_PORT, SERVICES, Site
from tests.cluster.binaries import TOOLS, directory, program
from tests.cluster.image import storage, unpacked
from tests.servers.s3_server import ACCESS, REGION, SECRET, build_versitygw

PROBE = "llmtrain-test/probe"
ETCD = "http://127.0.0.1:2379"


def control_plane(site: Site) -> dict[str, list[str]]:
    """Component name -> command line; started in this order."""
    pki, root = site.pki, site.root
    etcd = {"data-dir": root / "etcd", "listen-client-urls": ETCD, "advertise-client-urls": ETCD, "log-level": "warn"}
    etcd |= {"listen-peer-urls": "http://127.0.0.1:2380", "unsafe-no-fsync": "true"}  # what a power failure loses, a test may lose
    keys = {"service-account-private-key-file": pki("sa.key"), "root-ca-file": pki("ca.crt")}
    quick = {"node-monitor-period": "2s", "node-monitor-grace-period": "12s"}  # a lost node shows after seconds, not 40
    alone = {"leader-elect": "false", "bind-address": "127.0.0.1"}
    return {
        "etcd": _command("etcd", etcd),
        "registry": [str(program("registry")), "serve", str(root / "registry.yaml")],
        "s3": _s3(site),
        "kube-apiserver": _command("kube-apiserver", _apiserver(site)),
        "kube-controller-manager": _command(
            "kube-controller-manager",
            {"kubeconfig": pki("kube-controller-manager.kubeconfig"), "use-service-account-credentials": "true"} | keys | quick | alone,
        ),
        "kube-scheduler": _command("kube-scheduler", {"kubeconfig": pki("kube-scheduler.kubeconfig")} | alone),
        "kube-proxy": _command("kube-proxy", {"config": root / "proxy.yaml", "hostname-override": NODES[0]}),
        "coredns": [str(program("coredns")), "-conf", str(root / "Corefile")],
    }


def node_components(site: Site, node: str) -> dict[str, list[str]]:
    """The two daemons of a node."""
    kubelet = {"config": site.of_node(node, "kubelet.yaml"), "kubeconfig": site.pki(f"{node}.kubeconfig"), "hostname-override": node}
    kubelet |= {"node-ip": site.node_address(node), "root-dir": site.of_node(node, "kubelet")}
    return {
        f"containerd-{node}": [str(program("containerd")), "--config", str(site.of_node(node, "containerd.toml"))],
        f"kubelet-{node}": _command("kubelet", kubelet),
    }


def commands(site: Site) -> dict[str, list[str]]:
    """Every component of a cluster by name."""
    every = control_plane(site)
    for node in NODES:
        every |= node_components(site, node)
    every["kwok"] = [str(program("kwok")), "--kubeconfig", str(site.kubeconfig), "--config", str(Path(__file__).with_name("kwok.yaml"))]
    every["kwok"] += ["--manage-nodes-with-label-selector=type=kwok", "--node-lease-duration-seconds=40", "--server-address="]
    every["kube-router"] = _command("kube-router", _policies(site))
    return every


def _policies(site: Site) -> dict[str, Any]:
    """What enforces NetworkPolicies on the first node, for a test that wants it: two would undo each other's rules in the one network."""
    parts = {"run-firewall": "true", "run-router": "false", "run-service-proxy": "false", "run-loadbalancer": "false"}
    where = {"kubeconfig": site.kubeconfig, "hostname-override": NODES[0], "service-cluster-ip-range": SERVICES}
    return parts | where | {"metrics-port": 0, "health-port": 20244}


def write_files(site: Site) -> None:
    """Write what the components read."""
    files: dict[Path, Any] = {
        site.root / "registry.yaml": registry_settings(site.registry),
        site.root / "proxy.yaml": _proxy(site),
        site.root / "Corefile": _corefile(site),
    }
    for node in NODES:
        files[site.of_node(node, "kubelet.yaml")] = _kubelet(site, node)
        files[site.of_node(node, "containerd.toml")] = _containerd(site, node)
        files[site.of_node(node, "cni/10-pods.conflist")] = _pod_network(site, node)
        files[site.of_node(node, f"registries/{site.registry}/hosts.toml")] = f'server = "http://{site.registry}"\n'
    for path, content in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        # JSON is YAML too, and the pod network reads nothing else.
        path.write_text(content if isinstance(content, str) else json.dumps(content, indent=1))
    for node in NODES:
        unpacked.link(site.of_node(node, "images"))


def _command(name: str, flags: dict[str, Any]) -> list[str]:
    return [str(program(name)), *(f"--{flag}={value}" for flag, value in flags.items())]


def _apiserver(site: Site) -> dict[str, Any]:
    pki = site.pki
    return {
        "etcd-servers": ETCD,
        "secure-port": API_PORT,
        "bind-address": "0.0.0.0",
        "advertise-address": site.gateway,
        "tls-cert-file": pki("apiserver.crt"),
        "tls-private-key-file": pki("apiserver.key"),
        "client-ca-file": pki("ca.crt"),
        "kubelet-client-certificate": pki("admin.crt"),
        "kubelet-client-key": pki("admin.key"),
        "kubelet-preferred-address-types": "InternalIP",
        "service-account-key-file": pki("sa.pub"),
        "service-account-signing-key-file": pki("sa.key"),
        "service-account-issuer": "https://kubernetes.default.svc",
        "service-cluster-ip-range": SERVICES,
        "authorization-mode": "Node,RBAC",
        "enable-admission-plugins": "NodeRestriction",
        "allow-privileged": "true",
    }


def _s3(site: Site) -> list[str]:
    objects, metadata = site.root / "s3" / "objects", site.root / "s3" / "metadata"
    for path in (objects, metadata):
        path.mkdir(parents=True, exist_ok=True)
    options = ["--quiet", "--port", f"{site.gateway}:{S3_PORT}", "--access", ACCESS, "--secret", SECRET, "--region", REGION, "--keep-alive"]
    return [str(build_versitygw()), *options, "posix", "--sidecar", str(metadata), str(objects)]


def registry_settings(address: str) -> dict[str, Any]:
    """A registry over the storage that all clusters share: what one has been given, none needs to be given again."""
    return {
        "version": 0.1,
        "log": {"level": "warn"},
        "storage": {"filesystem": {"rootdirectory": str(storage.registry())}},
        "http": {"addr": address, "secret": "llmtrain-test"},
    }


def _proxy(site: Site) -> dict[str, Any]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",  # nftables mode wants a newer nft than Debian 12 has
        "clusterCIDR": PODS,
        "clientConnection": {"kubeconfig": str(site.pki("kube-proxy.kubeconfig"))},
        "conntrack": {"maxPerCore": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},  # sysctls of the host, not ours to set
        "iptables": {"localhostNodePorts": False},
    }


def _corefile(site: Site) -> str:
    # No `forward`: a name outside the cluster has no answer here. Answers live 1 s: tests make and delete Services quickly.
    plugins = [f"bind {site.gateway}", "errors", f"kubernetes cluster.local {{\n    kubeconfig {site.kubeconfig}\n    ttl 1\n  }}"]
    return ".:53 {\n  " + "\n  ".join(plugins) + "\n}\n"


def _pod_network(site: Site, node: str) -> dict[str, Any]:
    ranges = [[{"subnet": f"10.244.{NODES.index(node)}.0/24"}]]
    ipam = {"type": "host-local", "dataDir": str(site.of_node(node, "ipam")), "ranges": ranges, "routes": [{"dst": "0.0.0.0/0"}]}
    bridge = {"type": "bridge", "bridge": f"cni-{node}", "isGateway": True, "ipMasq": True, "hairpinMode": True, "ipam": ipam}
    return {"cniVersion": "1.0.0", "name": node, "plugins": [bridge, {"type": "portmap", "capabilities": {"portMappings": True}}]}


def _containerd(site: Site, node: str) -> str:
    of = partial(site.of_node, node)
    cni = directory(next(one for one in TOOLS if one.name == "cni"))
    return f"""\
version = 3
root = "{of("images")}"
state = "{of("state")}"
disabled_plugins = ["io.containerd.nri.v1.nri", "io.containerd.internal.v1.opt"]  # they write outside `root` and `state`
[grpc]
  address = "{of("containerd.sock")}"
[ttrpc]
  address = "{of("containerd.sock.ttrpc")}"
[plugins."io.containerd.cri.v1.images"]
  discard_unpacked_layers = true  # a torch layer is kept once, not twice
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "{site.registry}/{PROBE}:1"
[plugins."io.containerd.cri.v1.images".registry]
  config_path = "{of("registries")}"
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true  # without CAP_SYS_RESOURCE runc may not lower it, and no sandbox starts
  netns_mounts_under_state_dir = true
[plugins."io.containerd.cri.v1.runtime".cni]
  bin_dirs = ["{cni}"]
  conf_dir = "{of("cni")}"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
  runtime_path = "{program("containerd-shim-runc-v2")}"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
  BinaryName = "{program("runc")}"
  SystemdCgroup = false
"""


def _kubelet(site: Site, node: str) -> dict[str, Any]:
    number = NODES.index(node)
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "failCgroupV1": False,
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{site.cgroup}/{node}",  # one subtree a kubelet, or they delete each other's pods
        "enforceNodeAllocatable": [],
        "containerRuntimeEndpoint": f"unix://{site.of_node(node, 'containerd.sock')}",
        "clusterDNS": [site.gateway],
        "clusterDomain": "cluster.local",
        "resolvConf": "/dev/null",
        "address": site.node_address(node),
        "healthzPort": 10300 + number,
        "readOnlyPort": 0,
        "failSwapOn": False,
        "authentication": {
            "x509": {"clientCAFile": str(site.pki("ca.crt"))},
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(site.pki(f"{node}.crt")),
        "tlsPrivateKeyFile": str(site.pki(f"{node}.key")),
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%", "nodefs.inodesFree": "1%"},
        "podLogsDir": str(site.of_node(node, "logs")),
        "nodeStatusUpdateFrequency": "2s",
        "nodeLeaseDurationSeconds": 8,
    }
