"""Push an image into a registry without any image tool: one layer of given files, alone or above an image that lies there.

Spoken in the registry's own HTTP API.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any

ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())  # as images name it
OCI = "application/vnd.oci.image"
MANIFEST = f"{OCI}.manifest.v1+json"
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Without any proxy: the registry is near."""


def push(registry: str, name: str, tag: str, files: Mapping[str, Path], entrypoint: Sequence[str]) -> str:
    """Push REGISTRY/NAME:TAG holding `files` (path in the image -> file here), run as user 65535. Returns its reference. Plain HTTP."""
    process = {"Entrypoint": list(entrypoint), "User": "65535:65535"}
    config = {"architecture": ARCHITECTURE, "os": "linux", "config": process, "rootfs": {"type": "layers", "diff_ids": []}}
    return _push_above(f"{registry}/{name}:{tag}", config, [], _layer(files))


def push_above(base: str, suffix: str, files: Mapping[str, Path], environment: Mapping[str, str]) -> str:
    """Push the image `base` with one more layer; its own layers are named again, not sent. Returns BASE-SUFFIX.

    Variables may name those that the image has, as in {"PATH": "/more:$PATH"}.
    """
    repository, tag = _place(base)
    manifest = _read(f"{repository}/manifests/{tag}")
    config = _read(f"{repository}/blobs/{manifest['config']['digest']}")
    known = dict(each.split("=", 1) for each in config["config"].get("Env", ()))
    more = {name: Template(value).substitute(known) for name, value in environment.items()}
    config["config"]["Env"] = [f"{name}={value}" for name, value in (known | more).items()]
    return _push_above(f"{base}-{suffix}", config, manifest["layers"], _layer(files))


def _push_above(reference: str, config: dict[str, Any], below: Sequence[dict[str, Any]], layer: bytes) -> str:
    """Push one layer above those that `config` and the descriptors `below` name already."""
    repository, tag = _place(reference)
    config["rootfs"]["diff_ids"].append(_digest(layer))
    settings = json.dumps(config).encode()
    for blob in (layer, settings):
        _push_blob(repository, blob)
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": _descriptor("config.v1+json", settings),
        "layers": [*below, _descriptor("layer.v1.tar", layer)],
    }
    _request("PUT", f"{repository}/manifests/{tag}", json.dumps(manifest).encode(), MANIFEST)
    return reference


def _place(reference: str) -> tuple[str, str]:
    """The address of an image's repository, and its tag."""
    registry, _, rest = reference.partition("/")
    name, _, tag = rest.rpartition(":")
    return f"http://{registry}/v2/{name}", tag


def _layer(files: Mapping[str, Path]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path, file in files.items():
            tar.add(file, arcname=path.lstrip("/"))
    return buffer.getvalue()


def _digest(blob: bytes) -> str:
    return "sha256:" + hashlib.sha256(blob).hexdigest()


def _descriptor(kind: str, blob: bytes) -> dict[str, Any]:
    return {"mediaType": f"{OCI}.{kind}", "digest": _digest(blob), "size": len(blob)}


def _push_blob(repository: str, blob: bytes) -> None:
    place = _request("POST", f"{repository}/blobs/uploads/", b"", "application/octet-stream")
    joint = "&" if "?" in place else "?"
    _request("PUT", f"{place}{joint}digest={_digest(blob)}", blob, "application/octet-stream")


def _read(url: str) -> dict[str, Any]:
    with _OPENER.open(urllib.request.Request(url, headers={"Accept": MANIFEST}), timeout=60) as answer:
        return dict(json.load(answer))


def _request(method: str, url: str, body: bytes, kind: str) -> str:
    """Send, raise urllib's HTTPError on refusal, return where the answer points."""
    request = urllib.request.Request(url, data=body, method=method, headers={"Content-Type": kind})
    with _OPENER.open(request, timeout=60) as answer:
        return str(answer.headers.get("Location", ""))
