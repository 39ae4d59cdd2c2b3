"""The canonical form of a destination: many texts name the same prefix of a bucket, or the same directory."""

from __future__ import annotations

import posixpath
import re

_URI = re.compile(r"([a-z0-9]+)://([^/?#]*)([^?#]*)", re.ASCII | re.DOTALL)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
MOUNTED = "/mnt/pvc"
"""Where volume claims are mounted in pods, each under its name."""


def place(uri: str) -> str:
    """The canonical text of a destination: s3://bucket/prefix, pvc://claim/path or file:///path.

    A destination is a directory. These make no difference: upper or lower case of the bucket or claim, empty and dot segments, a slash at
    the end, and anything after ? or #. The path of a mounted claim becomes its pvc:// URI. Raises ValueError if the text is no destination
    or leads out of its bucket or claim.
    """
    found = _URI.match(uri.strip())
    if found is None or _CONTROL.search(uri.strip()):
        raise ValueError("a destination is s3://bucket/prefix, pvc://claim/path or file:///absolute/path, in printable characters")
    scheme, host, path = found[1], found[2].lower(), _path(found[3])
    if scheme == "file":
        if host not in ("", "localhost"):
            raise ValueError(f"file:// cannot name another host, as {host} is")
        mounted = path.removeprefix(f"{MOUNTED}/")
        return f"file://{path}" if mounted == path else f"pvc://{mounted}"
    if not host:
        raise ValueError(f"{scheme}:// needs a name before the path")
    return f"{scheme}://{host}{path}".rstrip("/")


def _path(path: str) -> str:
    depth = 0
    for segment in path.split("/"):
        depth += {"": 0, ".": 0, "..": -1}.get(segment, 1)
        if depth < 0:
            raise ValueError("its .. segments lead out of it")
    return "/" + posixpath.normpath(f"/{path}").strip("/")
