"""What the images are made of: a CycloneDX document an image under out/sbom/, and their licences as docs/operations/licences.md.

`python scripts/sbom.py CYCLONEDX_PY` writes both; with `--check` it writes the documents and compares the page. Called by `make sbom` and
`make check`. The packages are those of requirements/<image>.txt as they are installed in the environment that runs this.
"""

from __future__ import annotations

import json
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
OUT = ROOT / "out" / "sbom"
PAGE = ROOT / "docs" / "operations" / "licences.md"
IMAGES = ("operator", "trainer")
PERMISSIVE = re.compile(
    r"^(MIT(-0|-CMU)?|ISC|0BSD|Zlib|BSL-1\.0|CC0-1\.0|Apache-2\.0|LLVM-exception|(CNRI-)?Python(-2\.0)?|PSF-2\.0|Unlicense"
    r"|BSD-[23]-Clause|MPL-2\.0|LicenseRef-NVIDIA-Proprietary)$"
)
"""Licences that an image may carry. MPL-2.0 asks for the sources of changed files alone; torch for CUDA brings NVIDIA's libraries."""

NAMED = {
    "License :: OSI Approved :: BSD License": "BSD-3-Clause",
    "License :: OSI Approved :: Apache Software License": "Apache-2.0",
    "License :: OSI Approved :: MIT License": "MIT",
    "License :: OSI Approved :: Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "License :: Other/Proprietary License": "LicenseRef-NVIDIA-Proprietary",
}
"""Classifiers of packages that name no SPDX licence. The proprietary ones are NVIDIA's."""

UNSTATED = {
    "antlr4-python3-runtime": "BSD-3-Clause",
    "cuda-toolkit": "LicenseRef-NVIDIA-Proprietary",
    "deepspeed": "Apache-2.0",
    "nvidia-cusparselt-cu13": "LicenseRef-NVIDIA-Proprietary",
    "transformers": "Apache-2.0",
}
"""Packages whose metadata name no licence: as their own licence files say."""


def main() -> int:
    """0 when every licence is one that an image may carry, and the page is in step."""
    installed = _installed(sys.argv[1])
    documents = {image: _document(installed, image) for image in IMAGES}
    OUT.mkdir(parents=True, exist_ok=True)
    for image, document in documents.items():
        (OUT / f"{image}.cdx.json").write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")
    page = _page(documents)
    wrong = [
        f"{part['name']} is under {_licence(part)}: say in scripts/sbom.py why an image may carry it, or take another package"
        for document in documents.values()
        for part in document["components"]
        if not _allowed(_licence(part))
    ]
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(page)
    elif (sys.platform, platform.machine(), sys.version_info[:2]) != ("linux", "x86_64", (3, 11)):
        print("licences: the page is compared on Linux, x86-64, Python 3.11 alone: other packages are installed here")
    elif PAGE.read_text() != page:
        wrong.append(f"{PAGE.relative_to(ROOT)} is out of step with requirements/: run make sbom")
    print("\n".join(dict.fromkeys(wrong)), end="\n" if wrong else "")
    return 1 if wrong else 0


def _installed(tool: str) -> dict[str, Any]:
    """What `tool`, cyclonedx-py, finds in the environment of this Python."""
    with tempfile.TemporaryDirectory() as place:
        document = Path(place, "installed.json")
        command = [tool, "environment", sys.executable, "--output-reproducible", "--of", "JSON", "-o", str(document)]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
        found: dict[str, Any] = json.loads(document.read_text())
        return found


def _document(installed: Mapping[str, Any], image: str) -> dict[str, Any]:
    """The part of `installed` that the pins of an image name, without the addresses of package pages."""
    pinned = set(re.findall(r"^([A-Za-z0-9._-]+)==", (ROOT / "requirements" / f"{image}.txt").read_text(), re.M))
    parts = [
        {key: part[key] for key in part if key != "externalReferences"}
        for part in installed["components"]
        if _normal(part["name"]) in pinned
    ]
    kept = {part["bom-ref"] for part in parts}
    links = [
        link | {"dependsOn": [other for other in link.get("dependsOn", ()) if other in kept]}
        for link in installed["dependencies"]
        if link["ref"] in kept
    ]
    subject = {"type": "container", "name": f"llmtrain-{image}", "bom-ref": image}
    return {**installed, "metadata": {"component": subject}, "components": parts, "dependencies": links}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _licence(part: Mapping[str, Any]) -> str:
    """As an SPDX expression."""
    stated = [
        entry.get("expression") or entry["license"].get("id") or entry["license"].get("name", "") for entry in part.get("licenses", ())
    ]
    known = [text for text in stated if not text.startswith("License ::")] or [NAMED.get(text, text) for text in stated]
    return " AND ".join(sorted(set(known))) or UNSTATED.get(_normal(part["name"]), "unknown")


def _allowed(expression: str) -> bool:
    return all(PERMISSIVE.match(name) for name in re.split(r"\s+(?:AND|OR|WITH)\s+", expression.replace("(", "").replace(")", "")))


def _page(documents: Mapping[str, Mapping[str, Any]]) -> str:
    images: dict[tuple[str, str, str], list[str]] = {}
    for image, document in documents.items():
        for part in document["components"]:
            images.setdefault((part["name"], part["version"], _licence(part)), []).append(image)
    rows = [f"| {name} | {version} | {licence} | {', '.join(where)} |" for (name, version, licence), where in sorted(images.items())]
    return "\n".join(
        [
            "# Licences of what the images carry",
            "",
            "llmtrain itself is under Apache-2.0. These are the Python packages of its two images, on Linux (x86-64) with Python 3.11.",
            "",
            "What is not Python is not listed: the base image, and the compiler and headers that the trainer's adds (g++, libgomp1,",
            "libaio-dev), carry their licences in `/usr/share/doc`. Scan the built image for them.",
            "",
            "This page is generated: `make sbom` writes it, and a CycloneDX document an image under `out/sbom/`. `make check` holds it in",
            "step with the pins and refuses a licence that `scripts/sbom.py` does not list.",
            "",
            "| package | version | licence | image |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
