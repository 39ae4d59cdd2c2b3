"""The webhook's server: a real HTTPS server and client on loopback, certificates that change, and an answer in every case."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import json
import resource
import ssl
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
from tests.loopback import ASKED

from llmtrain_operator.kube.judging import judgement
from llmtrain_operator.kube.judging.admission import ReviewAnswer
from llmtrain_operator.kube.judging.judge import Here, Judge, Judges, NoJudgementError
from llmtrain_operator.kube.metrics.operator import OperatorMetrics
from llmtrain_operator.kube.webhook.server import LARGEST_REVIEW, MOST_REVIEWS, Certificate, Doorkeeper, application, path_for, serving
from llmtrain_operator.manifest.problem import Problem
from llmtrain_operator.plan.model.shape import ModelShape
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
    """A self-signed certificate for the loopback addresses, as a Secret would be mounted; returns its path."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "webhook")])
    start = datetime.datetime.fromtimestamp(time.time() - 3600, datetime.UTC)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(x509.random_serial_number()).not_valid_before(start).not_valid_after(start + datetime.timedelta(days=1))
    made = made.add_extension(
        x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(one)) for one in ("127.0.0.1", "::1")]), critical=False
    )
    plain = serialization.NoEncryption()
    (directory / "tls.key").write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
    (directory / "tls.crt").write_bytes(made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    return directory / "tls.crt"


async def post(port: int, authority: Path, body: Any, host: str = "127.0.0.1", kind: str = "LLMTrainJob") -> tuple[int, Any]:
    """The answer to one POST over a new connection that trusts `authority` alone."""
    connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=str(authority)))
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with (
        aiohttp.ClientSession(connector=connector) as http,
        http.post(f"https://{host}:{port}{path_for(kind)}", data=data, headers={"Content-Type": "application/json"}) as answer,
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


async def ask(tmp_path: Path, body: Any, shape_now: Callable[[Model], ModelShape | None] = shape, within: float = 60) -> tuple[int, Any]:
    authority = write_certificate(tmp_path)
    async with serving(tmp_path, "127.0.0.1", 0, application(shape_now, OperatorMetrics(), within, Here())) as port:
        return await post(port, authority, body)


async def test_each_kind_has_a_page_on_which_its_own_rules_are_applied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = Problem("spec", "empty", "it must count something", "Name what")
    monkeypatch.setitem(judgement.VERDICTS, "Tally", lambda *_: ReviewAnswer(problems=(problem,)))
    authority = write_certificate(tmp_path)
    async with serving(tmp_path, "127.0.0.1", 0, application(shape, OperatorMetrics(), 60, Here())) as port:
        answers = [await post(port, authority, review(GOOD), kind=kind) for kind in ("Tally", "LLMTrainJob", "Other")]
    assert [code for code, _ in answers] == [200, 200, 404]
    assert [answer["response"]["allowed"] for _, answer in answers[:2]] == [False, True]
    assert answers[0][1]["response"]["status"]["message"] == str(problem)


@pytest.mark.parametrize("asked", ASKED)
async def test_a_review_is_answered_on_ipv4_and_on_ipv6(tmp_path: Path, asked: str) -> None:
    authority = write_certificate(tmp_path)
    async with serving(tmp_path, "::", 0, application(shape, OperatorMetrics(), 60, Here())) as port:
        code, answer = await post(port, authority, review(GOOD), asked)
    assert code == 200 and answer["response"]["allowed"] is True


async def test_a_review_is_answered_over_https(tmp_path: Path) -> None:
    code, answer = await ask(tmp_path, review(GOOD))
    assert code == 200 and answer["kind"] == "AdmissionReview" and answer["response"]["allowed"] is True
    assert answer["response"]["uid"] == "r1"


async def test_a_bad_manifest_is_refused_with_the_sentence(tmp_path: Path) -> None:
    bad = GOOD | {"spec": GOOD["spec"] | {"parallelism": {"tensor": 3}}}
    _, answer = await ask(tmp_path, review(bad))
    assert answer["response"]["allowed"] is False and "spec.parallelism" in answer["response"]["status"]["message"]


class Broken(Here):
    """Judgements that fail, or never come."""

    def __init__(self, hangs: bool = False) -> None:
        self.hangs = hangs

    async def ask(self, *_: Any) -> Any:
        if self.hangs:
            await asyncio.Event().wait()
        raise NoJudgementError("it took longer than 2 s")


async def asked_of(tmp_path: Path, body: Any, judge: Judges, within: float = 60) -> tuple[int, Any]:
    authority = write_certificate(tmp_path)
    async with serving(tmp_path, "127.0.0.1", 0, application(shape, OperatorMetrics(), within, judge)) as port:
        return await post(port, authority, body)


async def test_a_judgement_that_fails_refuses_a_new_job_and_says_so(tmp_path: Path) -> None:
    code, answer = await asked_of(tmp_path, review(GOOD), Broken())
    assert code == 200 and answer["response"]["allowed"] is False and answer["response"]["uid"] == "r1"
    assert "planning it failed (it took longer than 2 s)" in answer["response"]["status"]["message"]


async def test_a_judgement_that_fails_lets_a_change_through_so_that_a_job_can_always_be_ended(tmp_path: Path) -> None:
    change = review(GOOD)
    change["request"] |= {"operation": "UPDATE", "oldObject": GOOD}
    _, answer = await asked_of(tmp_path, change, Broken())
    assert answer["response"]["allowed"] is True and "could not check this change" in answer["response"]["warnings"][0]


async def test_what_cannot_be_answered_in_time_is_sent_away(tmp_path: Path) -> None:
    code, said = await asked_of(tmp_path, review(GOOD), Broken(hangs=True), within=0.05)
    assert code == 503 and "too many reviews" in said


async def test_a_source_that_breaks_admits_with_a_warning(tmp_path: Path) -> None:
    code, answer = await ask(tmp_path, review(GOOD), broken)
    assert code == 200 and answer["response"]["allowed"] is True
    assert "it could not be read (ZeroDivisionError)" in answer["response"]["warnings"][0]


def deep(depth: int) -> str:
    return '{"a":' * depth + "1" + "}" * depth


def of_text(manifest: dict[str, Any], depth: int, operation: str) -> bytes:
    """As an API server writes it: uid and operation before the objects."""
    text = json.dumps(manifest).replace('"DEEP"', deep(depth))
    both = f'"object":{text}' + (f',"oldObject":{text}' if operation == "UPDATE" else "")
    return f'{{"kind":"AdmissionReview","request":{{"uid":"r1","name":"job","operation":"{operation}",{both}}}}}'.encode()


@pytest.mark.processes
async def test_a_manifest_nested_however_deep_is_refused_when_it_comes_and_can_be_ended(tmp_path: Path) -> None:
    config = {"model_type": "llama", "x": "DEEP"}
    nested = GOOD | {"spec": GOOD["spec"] | {"model": {"config": config}}}
    authority = write_certificate(tmp_path)
    async with serving(tmp_path, "127.0.0.1", 0, application(shape, OperatorMetrics(), within=60, judge=Judge(60))) as port:
        for depth in (70, 250, 950, 5000, 9990):
            _, created = await post(port, authority, of_text(nested, depth, "CREATE"))
            _, changed = await post(port, authority, of_text(nested, depth, "UPDATE"))
            _, other = await post(port, authority, review(GOOD))
            assert created["response"]["allowed"] is False and created["response"]["status"]["message"]
            assert changed["response"]["allowed"] is True and other["response"]["allowed"] is True


async def test_a_body_larger_than_any_review_is_refused_before_it_is_read(tmp_path: Path) -> None:
    code, _ = await ask(tmp_path, b'{"request":{"operation":"CREATE","object":[' + b"{}," * (LARGEST_REVIEW // 3) + b"{}]}}")
    assert code == 413


@pytest.mark.processes
async def test_many_large_bodies_take_no_memory_of_the_operator_and_a_review_is_still_answered(tmp_path: Path) -> None:
    body = b'{"request":{"uid":"u","operation":"CREATE","object":[' + b"{}," * (LARGEST_REVIEW // 3 - 100) + b"{}]}}"
    authority = write_certificate(tmp_path)
    before = resident()
    async with serving(tmp_path, "127.0.0.1", 0, application(shape, OperatorMetrics(), within=60, judge=Judge(60))) as port:
        answers = await asyncio.gather(*(post(port, authority, body) for _ in range(6)))
        assert {code for code, _ in answers} <= {200, 503} and (await post(port, authority, review(GOOD)))[0] == 200
    assert all(not said["response"]["allowed"] for code, said in answers if code == 200)
    assert resident() - before < (150 << 20)


def resident() -> int:
    """Bytes that this process had at its largest."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


async def test_large_bodies_that_never_end_hold_up_no_review_of_usual_size(tmp_path: Path) -> None:
    authority = write_certificate(tmp_path)
    trust = ssl.create_default_context(cafile=str(authority))
    async with serving(tmp_path, "127.0.0.1", 0, application(shape, OperatorMetrics(), within=60, judge=Here())) as port:
        slow = [await asyncio.open_connection("127.0.0.1", port, ssl=trust) for _ in range(MOST_REVIEWS + 2)]
        for _, writer in slow:
            writer.write(f"POST {path_for('LLMTrainJob')} HTTP/1.1\r\nHost: x\r\nContent-Length: {LARGEST_REVIEW}\r\n\r\n{{".encode())
            await writer.drain()
        await asyncio.sleep(0.1)
        code, answer = await asyncio.wait_for(post(port, authority, review(GOOD)), 120)
        assert code == 200 and answer["response"]["allowed"] is True
        for _, writer in slow:
            writer.transport.abort()


async def test_where_too_many_connect_the_oldest_that_asks_nothing_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Doorkeeper.__init__, "__defaults__", (3,))
    authority = write_certificate(tmp_path)
    trust = ssl.create_default_context(cafile=str(authority))
    async with serving(tmp_path, "127.0.0.1", 0, application(shape, OperatorMetrics(), judge=Here())) as port:
        idle = [await asyncio.open_connection("127.0.0.1", port, ssl=trust) for _ in range(3)]
        assert (await post(port, authority, review(GOOD)))[0] == 200
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await idle[0][0].readexactly(1)
        for _, writer in idle:
            writer.close()


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"request": 3}', b"\xff", b"[" * 100_000], ids=lambda body: str(body[:12]))
async def test_what_is_no_review_is_refused_as_such(tmp_path: Path, body: bytes) -> None:
    code, said = await ask(tmp_path, body)
    assert code == 400 and "AdmissionReview" in said


async def test_the_largest_object_of_a_cluster_can_be_reviewed(tmp_path: Path) -> None:
    large = GOOD | {"metadata": {"name": "job", "namespace": "team", "managedFields": [{"manager": "x" * (LARGEST_REVIEW // 2)}]}}
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
    monkeypatch.setattr("llmtrain_operator.kube.webhook.server.RELOAD_SECONDS", 0.02)
    authority = write_certificate(tmp_path)
    async with serving(tmp_path, "127.0.0.1", 0, application(shape, OperatorMetrics(), judge=Here())) as port:
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
