"""Push a small image into a registry without any image tool: one layer of given files, spoken in the registry's own HTTP API."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())  # as images name it
OCI = "application/vnd.oci.image"


def push(registry: str, name: str, tag: str, files: Mapping[str, Path], entrypoint: Sequence[str]) -> str:
    """Push REGISTRY/NAME:TAG holding `files` (path in the image -> file here), run as user 65535. Returns its reference. Plain HTTP."""
    layer = _layer(files)
    process = {"Entrypoint": list(entrypoint), "User": "65535:65535"}
    content = {"architecture": ARCHITECTURE, "os": "linux", "config": process, "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]}}
    config = json.dumps(content).encode()
    for blob in (layer, config):
        _push_blob(f"http://{registry}/v2/{name}", blob)
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{OCI}.manifest.v1+json",
        "config": _descriptor("config.v1+json", config),
        "layers": [_descriptor("layer.v1.tar", layer)],
    }
    _request("PUT", f"http://{registry}/v2/{name}/manifests/{tag}", json.dumps(manifest).encode(), f"{OCI}.manifest.v1+json")
    return f"{registry}/{name}:{tag}"


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


def _request(method: str, url: str, body: bytes, kind: str) -> str:
    """Send without any proxy, raise urllib's HTTPError on refusal, return where the answer points."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(urllib.request.Request(url, data=body, method=method, headers={"Content-Type": kind}), timeout=60) as answer:
        return str(answer.headers.get("Location", ""))
