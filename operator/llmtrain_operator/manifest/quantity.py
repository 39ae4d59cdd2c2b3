"""A Kubernetes quantity as a number."""

from __future__ import annotations

import re

UNITS = {"m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


def quantity(text: str) -> float:
    """The number; 1.5Gi is 1610612736."""
    found = re.fullmatch(r"([0-9.]+)([A-Za-z]*)", text)
    assert found, text  # the manifest's pattern was checked when it was parsed
    return float(found[1]) * (UNITS[found[2]] if found[2] else 1)
