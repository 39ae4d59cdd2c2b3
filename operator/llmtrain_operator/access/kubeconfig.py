"""A person's way to a cluster, as kubectl takes it: kubeconfig files, a context, credentials of which some come from a program.
 kopf reads kubeconfigs too, yet knows no --context, no relative paths and no credential programs; what
it makes of a login (TLS, headers) is used here as well.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kopf
import yaml

from llmtrain_operator.access.credential_plugin import Credential, Plugin

IN_CLUSTER = "KUBERNETES_SERVICE_HOST"
DEFAULT = Path("~/.kube/config")
_SECTIONS = {"clusters": "cluster", "contexts": "context", "users": "user"}
_FILES = ("certificate-authority", "client-certificate", "client-key", "tokenFile")


class KubeconfigError(ValueError):
    """The kubeconfig does not name a usable cluster; the message says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """Address and credentials of one cluster."""

    server: str
    context: str
    """Its name; empty inside a pod."""

    namespace: str
    """Of the context, else default."""

    info: kopf.ConnectionInfo
    plugin: Plugin | None = None
    """Gives a new token when the one in `info` has expired."""

    headers: tuple[tuple[str, str], ...] = ()
    """Further headers of every request: impersonation."""


def read_login(file: str | None, context: str | None, environment: Mapping[str, str]) -> Login:
    """From --kubeconfig, else KUBECONFIG, else ~/.kube/config, else the pod that this runs in. Raises KubeconfigError, OSError."""
    paths = _paths(file, environment)
    if not paths and IN_CLUSTER in environment:
        return _in_cluster()
    merged = _merged(paths)
    name = context or merged.get("current-context")
    if not paths or not name:
        where = " and ".join(map(str, paths)) or f"There is no KUBECONFIG, and {DEFAULT}"
        raise KubeconfigError(f"{where} names no current context. Choose one with --context, or point --kubeconfig to another file.")
    chosen = _entry(merged, "contexts", name)
    cluster, user = _entry(merged, "clusters", chosen.get("cluster", "")), _entry(merged, "users", chosen.get("user", ""))
    if not cluster.get("server"):
        raise KubeconfigError(f"Cluster {chosen.get('cluster')} of context {name} has no server in the kubeconfig.")
    if "tls-server-name" in cluster:
        raise KubeconfigError("tls-server-name is not supported: put a server into the kubeconfig whose certificate has its own name.")
    return _login(name, chosen, cluster, user, environment)


def _login(context: str, chosen: Mapping[str, Any], cluster: Mapping[str, Any], user: Mapping[str, Any], env: Mapping[str, str]) -> Login:
    plugin = Plugin.of(user["exec"], cluster, env) if user.get("exec") else None
    given = plugin.credential() if plugin else Credential()
    info = kopf.ConnectionInfo(
        server=cluster["server"].rstrip("/"),
        insecure=cluster.get("insecure-skip-tls-verify"),
        proxy_url=cluster.get("proxy-url"),
        **_one_of("ca", cluster, "certificate-authority"),
        **_certificate(given, user),
        username=user.get("username"),
        password=user.get("password"),
        token=given.token if plugin else _token(user),
    )
    return Login(
        server=info.server,
        context=context,
        namespace=chosen.get("namespace") or "default",
        info=info,
        plugin=plugin,
        headers=tuple(_impersonation(user)),
    )


def _one_of(name: str, section: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Data wins over a path, as in kubectl."""
    if section.get(f"{key}-data"):
        return {f"{name}_data": section[f"{key}-data"]}
    return {f"{name}_path": section[key]} if section.get(key) else {}


def _certificate(given: Credential, user: Mapping[str, Any]) -> dict[str, Any]:
    if given.certificate and given.key:
        return {"certificate_data": given.certificate, "private_key_data": given.key}
    return _one_of("certificate", user, "client-certificate") | _one_of("private_key", user, "client-key")


def _token(user: Mapping[str, Any]) -> str | None:
    """tokenFile wins over token, as in kubectl."""
    return Path(user["tokenFile"]).read_text().strip() if user.get("tokenFile") else user.get("token")


def _impersonation(user: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    if user.get("as"):
        yield "Impersonate-User", user["as"]
    if user.get("as-uid"):
        yield "Impersonate-Uid", user["as-uid"]
    yield from (("Impersonate-Group", group) for group in user.get("as-groups") or ())


def _in_cluster() -> Login:
    info = kopf.login_with_service_account(settings=kopf.OperatorSettings())
    if info is None:
        raise KubeconfigError("This pod has no service account token, and there is no kubeconfig. Point --kubeconfig to one.")
    return Login(server=info.server, context="", namespace=info.default_namespace or "default", info=info)


def _paths(file: str | None, environment: Mapping[str, str]) -> list[Path]:
    """The kubeconfig files: one named by --kubeconfig must exist; of KUBECONFIG and the default, those that exist."""
    if file is not None:
        return [Path(file).expanduser()]
    listed = [Path(part).expanduser() for part in environment.get("KUBECONFIG", "").split(os.pathsep) if part]
    return [path for path in listed or [DEFAULT.expanduser()] if path.exists()]


def _merged(paths: Iterable[Path]) -> dict[str, Any]:
    """All files merged; the first file that has an entry wins. Paths are relative to their own file."""
    found: dict[str, Any] = {section: {} for section in _SECTIONS}
    for path in paths:
        content = _read(path)
        if content.get("current-context"):
            found.setdefault("current-context", content["current-context"])
        for section, inner in _SECTIONS.items():
            for item in content.get(section) or ():
                found[section].setdefault(item["name"], _absolute(item.get(inner) or {}, path.parent))
    return found


def _read(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise KubeconfigError(f"{path} is no kubeconfig: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise KubeconfigError(f"{path} is no kubeconfig: it must be a mapping with clusters, users and contexts.")
    return content


def _absolute(section: Mapping[str, Any], base: Path) -> dict[str, Any]:
    made: dict[str, Any] = {name: str(base / value) if name in _FILES and value else value for name, value in section.items()}
    if "exec" in made and "/" in str(made["exec"].get("command", "")):
        made["exec"] = {**made["exec"], "command": str(base / made["exec"]["command"])}
    return made


def _entry(merged: Mapping[str, Any], section: str, name: str) -> dict[str, Any]:
    entries: dict[str, dict[str, Any]] = merged[section]
    if name in entries:
        return entries[name]
    word = _SECTIONS[section]
    nearest = difflib.get_close_matches(name, entries, n=1)
    hint = f"Did you mean {nearest[0]}?" if nearest else f"It has: {', '.join(sorted(entries)) or 'none'}."
    raise KubeconfigError(f"The kubeconfig has no {word} {name!r}. {hint}")
