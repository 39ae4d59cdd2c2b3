"""When a certificate ends, read from its file with the standard library alone."""

from __future__ import annotations

import math
import re
import ssl
from datetime import UTC, datetime
from pathlib import Path

_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
_TIME = rb"(?:\x17\x0d(\d{12})|\x18\x0f(\d{14}))Z"
_VALIDITY = re.compile(_TIME + _TIME)
"""RFC 5280: a sequence of two times in UTC, of 12 digits until 2049 and of 14 from 2050."""


def ends(file: Path) -> float:
    """Seconds since the epoch; NaN where the file holds no certificate."""
    try:
        found = _PEM.search(file.read_text())
        validity = _VALIDITY.search(ssl.PEM_cert_to_DER_cert(found[0])) if found else None
        return _seconds(validity[3], validity[4]) if validity else math.nan
    except (OSError, ValueError):
        return math.nan


def _seconds(short: bytes | None, long: bytes | None) -> float:
    """Years of two digits are those from 1950 to 2049."""
    digits = long.decode() if long else (b"20" if short and short < b"50" else b"19").decode() + (short or b"").decode()
    return datetime.strptime(digits, "%Y%m%d%H%M%S").replace(tzinfo=UTC).timestamp()
