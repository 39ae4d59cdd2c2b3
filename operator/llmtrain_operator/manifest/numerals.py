"""The number or boolean that a text was probably meant to be."""

from __future__ import annotations

import re
from collections.abc import Iterator

_NUMBER = r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?"
_SUFFIXES = {"k": 10**3, "m": 10**6, "g": 10**9, "b": 10**9, "%": 0.01}
_TRUE, _FALSE = ("true", "yes", "y", "on", "t"), ("false", "no", "n", "off", "f")
LONGEST = 64


def is_scalar(text: str) -> bool:
    """Whether the text would be a number or a boolean without quotes."""
    return re.fullmatch(_NUMBER, text) is not None or text.lower() in ("true", "false", "yes", "no", "on", "off")


def meanings(text: str) -> Iterator[int | float | bool]:
    """Numbers and booleans that the text may mean, the likeliest first. It reads 1,000, 1 000, 1k, 0,5, 5%, 010, yes."""
    plain = text.strip().strip("'\"")
    if len(plain) > LONGEST:
        return
    if plain.lower() in _TRUE or plain.lower() in _FALSE:
        yield plain.lower() in _TRUE
        return
    if re.fullmatch(r"[-+]?\d{1,3}([,' _]\d{3})+", plain):
        plain = re.sub(r"[,' _]", "", plain)
    elif re.fullmatch(r"[-+]?\d+,\d+([eE][-+]?\d+)?", plain):
        plain = plain.replace(",", ".")
    factor = _SUFFIXES.get(plain[-1:].lower(), 1)
    digits = plain[:-1].strip() if factor != 1 else plain
    if re.fullmatch(_NUMBER, digits):
        yield from _number(float(digits) * factor if factor != 1 else float(digits))


def _number(value: float) -> Iterator[int | float]:
    if abs(value) < 2**53 and value == int(value):
        yield int(value)
    yield float(f"{value:.12g}")
