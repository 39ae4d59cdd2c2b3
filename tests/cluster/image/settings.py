"""How this machine reaches its package index, handed to a build as secrets and mounts. Called by build.py.

Nothing of it gets into a layer.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

_VARIABLE = re.compile(r"PIP_\w+|UV_\w*(INDEX|FIND_LINKS|CERT|TLS|HOST|TIMEOUT|KEYRING|OFFLINE)\w*|SSL_CERT_\w+|\w+_CA_BUNDLE")
_CERTIFICATES = Path("/etc/ssl/certs")
_FILES = {
    "pip.conf": ("PIP_CONFIG_FILE", "~/.config/pip/pip.conf", "~/.pip/pip.conf", "/etc/pip.conf"),
    "uv.toml": ("UV_CONFIG_FILE", "~/.config/uv/uv.toml", "/etc/uv/uv.toml"),
}


def options(scratch: Path) -> list[str]:
    """Options of `buildah build`. The file that holds variables is written into `scratch`, which the caller removes."""
    variables = {name: value for name, value in os.environ.items() if _VARIABLE.fullmatch(name) and name != "PIP_CONFIG_FILE"}
    exports = scratch / "settings"
    exports.touch(mode=0o600)
    exports.write_text("".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items()))
    mounts = sorted({_CERTIFICATES, *_paths(variables)})
    made = [f"--secret=id=settings,src={exports}", *(f"--secret=id={name},src={path}" for name, path in _found())]
    return made + [f"--volume={path}:{path}:ro" for path in mounts if path.exists()]


def _paths(variables: dict[str, str]) -> Iterator[Path]:
    """What the variables point to, such as a directory of wheels."""
    for value in variables.values():
        path = Path(value)
        if path.is_absolute() and path.exists() and not path.is_relative_to(_CERTIFICATES):
            yield path


def _found() -> Iterator[tuple[str, Path]]:
    for name, (variable, *places) in _FILES.items():
        candidates = [Path(place).expanduser() for place in (os.environ.get(variable, ""), *places) if place]
        yield from [(name, path) for path in candidates if path.is_file()][:1]
