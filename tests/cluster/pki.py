"""Certificates and kubeconfigs of a test cluster: one authority, one certificate a component, all made anew at each start."""

from __future__ import annotations

import datetime
import ipaddress
import time
from collections.abc import Sequence

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tests.cluster.addresses import API_PORT, API_SERVICE, NODES, Site

ADMINS = "system:masters"
LIFETIME = datetime.timedelta(days=30)


class Authority:
    """Signs the cluster's certificates."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "llmtrain-test-ca")])
        constraints = x509.BasicConstraints(ca=True, path_length=None)
        self._write("ca", self.key, self._builder(self.name, self.key).add_extension(constraints, critical=True))

    def sign(self, file: str, user: str, group: str | None = None, hosts: Sequence[str] = ()) -> None:
        """Write FILE.crt and FILE.key for a user of a group, valid for the given names and addresses."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = [x509.NameAttribute(NameOID.COMMON_NAME, user)]
        names += [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group)] if group else []
        alternatives = x509.SubjectAlternativeName([_host(host) for host in hosts or (user.replace(":", "-"),)])
        self._write(file, key, self._builder(x509.Name(names), key).add_extension(alternatives, critical=False))

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = datetime.datetime.fromtimestamp(time.time(), datetime.UTC)
        start = now - datetime.timedelta(hours=1)
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self.name).public_key(key.public_key())
        return builder.serial_number(x509.random_serial_number()).not_valid_before(start).not_valid_after(now + LIFETIME)

    def _write(self, file: str, key: ec.EllipticCurvePrivateKey, builder: x509.CertificateBuilder) -> None:
        certificate = builder.sign(self.key, hashes.SHA256())
        self.site.pki(f"{file}.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        _write_key(self.site, file, key)


def write_pki(site: Site) -> None:
    """Fill SITE/pki: ca, apiserver, sa (signs service account tokens), and a kubeconfig for each client."""
    site.pki("").mkdir(parents=True, exist_ok=True)
    authority = Authority(site)
    names = ("localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local")
    authority.sign("apiserver", "kube-apiserver", hosts=("127.0.0.1", API_SERVICE, site.gateway, *names))
    _write_signer(site)
    authority.sign("admin", "admin", ADMINS)
    for component in ("kube-controller-manager", "kube-scheduler", "kube-proxy"):
        authority.sign(component, f"system:{component}")
    for node in NODES:
        authority.sign(node, f"system:node:{node}", "system:nodes", hosts=(node, site.node_address(node)))
    for client in ("admin", "kube-controller-manager", "kube-scheduler", "kube-proxy", *NODES):
        site.pki(f"{client}.kubeconfig").write_text(yaml.safe_dump(_kubeconfig(site, client)))


def _host(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _write_signer(site: Site) -> None:
    """The key that signs service account tokens, and its public half that verifies them."""
    key = ec.generate_private_key(ec.SECP256R1())
    _write_key(site, "sa", key)
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    site.pki("sa.pub").write_bytes(public)


def _write_key(site: Site, file: str, key: ec.EllipticCurvePrivateKey) -> None:
    path = site.pki(f"{file}.key")
    path.touch(mode=0o600)
    plain = serialization.NoEncryption()
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))


def _kubeconfig(site: Site, client: str) -> dict[str, object]:
    server = {"server": f"https://{site.gateway}:{API_PORT}", "certificate-authority": str(site.pki("ca.crt"))}
    user = {"client-certificate": str(site.pki(f"{client}.crt")), "client-key": str(site.pki(f"{client}.key"))}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "llmtrain-test",
        "clusters": [{"name": "llmtrain-test", "cluster": server}],
        "contexts": [{"name": "llmtrain-test", "context": {"cluster": "llmtrain-test", "user": client}}],
        "users": [{"name": client, "user": user}],
    }
