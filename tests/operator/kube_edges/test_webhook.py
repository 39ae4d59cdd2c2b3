"""The webhook's server: a real HTTPS server and client on loopback, certificates that change, and an answer in every case."""

from __future__ import annotations

import datetime
import ipaddress
import json
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from llmtrain_operator.job.shape import ModelShape
from llmtrain_operator.kube.metrics import Metrics
from llmtrain_operator.kube.webhook import LARGEST_REVIEW, PATH, Certificate, application, serving
from llmtrain_operator.sources import read_shape
from llmtrain_trainer.config import Model

GOOD: dict[str, Any] = {
    "apiVersion": "llmtrain.io/v1alpha1",
    "kind": "LLMTrainJob",
    "metadata": {"name": "job", "namespace": "team"},
    "spec": {
        "model": {"source": "hf://acme/model"},
        "dataset": [{"source": "hf://acme/text"}],
        "training": {"globalBatchSize": 8, "microBatchSize": 1, "sequenceLength": 64, "maxSteps": 10},
        "resources": {"nodes": 1, "procsPerNode": 4},
    },
}


def write_certificate(directory: Path) -> Path:
    """A self-signed certificate for 127.0.0.1, as a Secret would be mounted; returns its path."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "webhook")])
    start = datetime.datetime.fromtimestamp(time.time() - 3600, datetime.UTC)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(x509.random_serial_number()).not_valid_before(start).not_valid_after(start + datetime.timedelta(days=1))
    made = made.add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
    plain = serialization.NoEncryption()
    (directory / "tls.key").write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
    (directory / "tls.crt").write_bytes(made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    return directory / "tls.crt"


async def post(port: int, authority: Path, body: Any) -> tuple[int, Any]:
    """The answer to one POST over a new connection that trusts `authority` alone."""
    connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=str(authority)))
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with (
        aiohttp.ClientSession(connector=connector) as http,
        http.post(f"https://127.0.0.1:{port}{PATH}", data=data, headers={"Content-Type": "application/json"}) as answer,
    ):
        return answer.status, await answer.json() if answer.status == 200 else await answer.text()


def review(manifest: Any) -> dict[str, Any]:
    request = {"uid": "r1", "operation": "CREATE", "namespace": "team", "name": "job", "object": manifest}
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}


def shape(_: Model) -> ModelShape | None:
    config = {"model_type": "llama", "hidden_size": 64, "intermediate_size": 172, "num_hidden_layers": 4}
    return read_shape(Model(config={**config, "num_attention_heads": 4, "vocab_size": 512}))


def broken(_: Model) -> ModelShape | None:
    raise ZeroDivisionError("a bug")


async def ask(tmp_path: Path, body: Any, shape_now: Callable[[Model], ModelShape | None] = shape, within: float = 10) -> tuple[int, Any]:
    authority = write_certificate(tmp_path)
    async with serving(tmp_path, "127.0.0.1", 0, application(shape_now, Metrics(), within)) as port:
        return await post(port, authority, body)


async def test_a_review_is_answered_over_https(tmp_path: Path) -> None:
    code, answer = await ask(tmp_path, review(GOOD))
    assert code == 200 and answer["kind"] == "AdmissionReview" and answer["response"]["allowed"] is True
    assert answer["response"]["uid"] == "r1"


async def test_a_bad_manifest_is_refused_with_the_sentence(tmp_path: Path) -> None:
    bad = GOOD | {"spec": GOOD["spec"] | {"parallelism": {"tensor": 3}}}
    _, answer = await ask(tmp_path, review(bad))
    assert answer["response"]["allowed"] is False and "spec.parallelism" in answer["response"]["status"]["message"]


async def test_a_bug_admits_the_job_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    code, answer = await ask(tmp_path, review(GOOD), broken)
    assert code == 200 and answer["response"]["allowed"] is True
    assert answer["response"]["warnings"] == [
        "The webhook could not check this job (ZeroDivisionError). The operator does: see the condition Planned."
    ]
    assert "a review of team/job was not finished" in caplog.text


async def test_an_answer_comes_in_time_however_long_the_judgement_takes(tmp_path: Path) -> None:
    free = threading.Event()
    _, answer = await ask(tmp_path, review(GOOD), lambda _: free.wait(30) and None, within=0.05)  # type: ignore[func-returns-value]
    free.set()
    assert answer["response"]["allowed"] is True and "in time" in answer["response"]["warnings"][0]


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"request": 3}', b"\xff", b"[" * 100_000], ids=lambda body: str(body[:12]))
async def test_what_is_no_review_is_refused_as_such(tmp_path: Path, body: bytes) -> None:
    code, said = await ask(tmp_path, body)
    assert code == 400 and "AdmissionReview" in said


async def test_the_largest_object_of_a_cluster_can_be_reviewed(tmp_path: Path) -> None:
    large = GOOD | {"metadata": {"name": "job", "namespace": "team", "annotations": {"a": "x" * (LARGEST_REVIEW // 2)}}}
    code, answer = await ask(tmp_path, review(large))
    assert code == 200 and answer["response"]["allowed"] is True


async def test_a_renewed_certificate_is_used_without_a_restart(tmp_path: Path) -> None:
    old = write_certificate(tmp_path)
    certificate = Certificate(tmp_path)
    assert certificate.reload() is False
    first = old.read_bytes()
    new = write_certificate(tmp_path)
    assert certificate.reload() is True and new.read_bytes() != first


async def test_a_running_server_shows_the_renewed_certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmtrain_operator.kube.webhook.RELOAD_SECONDS", 0.02)
    authority = write_certificate(tmp_path)
    async with serving(tmp_path, "127.0.0.1", 0, application(shape, Metrics())) as port:
        assert (await post(port, authority, review(GOOD)))[0] == 200
        write_certificate(tmp_path)
        for _ in range(200):
            try:
                assert (await post(port, authority, review(GOOD)))[0] == 200
                break
            except aiohttp.ClientConnectorCertificateError:
                continue  # still the old one
        else:
            pytest.fail("the old certificate was shown to the end")


async def test_files_that_do_not_fit_together_leave_the_old_certificate(tmp_path: Path) -> None:
    write_certificate(tmp_path)
    certificate = Certificate(tmp_path)
    (tmp_path / "tls.key").write_text("half")
    with pytest.raises(ssl.SSLError):
        certificate.reload()
    write_certificate(tmp_path)
    assert certificate.reload() is True
