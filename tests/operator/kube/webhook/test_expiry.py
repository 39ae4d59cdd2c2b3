"""The end of a certificate, as the metric tells it."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from llmtrain_operator.kube.webhook.expiry import ends


def certificate(until: datetime) -> bytes:
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(7)
    made = made.not_valid_before(datetime(2026, 1, 1, tzinfo=UTC)).not_valid_after(until)
    return made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


@pytest.mark.parametrize("year", [2027, 2049, 2050, 2061])
def test_the_end_is_read_before_and_after_2050(tmp_path: Path, year: int) -> None:
    until = datetime(year, 2, 3, 4, 5, 6, tzinfo=UTC)
    (tmp_path / "tls.crt").write_bytes(certificate(until))
    assert ends(tmp_path / "tls.crt") == until.timestamp()


@pytest.mark.parametrize("text", ["", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "no certificate"])
def test_what_holds_none_has_no_end(tmp_path: Path, text: str) -> None:
    (tmp_path / "tls.crt").write_text(text)
    assert math.isnan(ends(tmp_path / "tls.crt")) and math.isnan(ends(tmp_path / "absent"))
