"""The operator's own pages."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from tests.loopback import ASKED

from llmtrain_operator.__main__ import parser
from llmtrain_operator.kube.api.freshness import Freshness
from llmtrain_operator.kube.metrics.catalog import METRICS
from llmtrain_operator.kube.metrics.operator import OperatorMetrics
from llmtrain_operator.kube.process.operator_process import _describe
from llmtrain_operator.kube.process.queue import WorkQueue
from llmtrain_operator.kube.process.server import application, serve
from llmtrain_trainer.config.tables.metric import PREFIX


@pytest.mark.parametrize("host", [parser().parse_args(["--trainer-image", "x"]).host, "localhost"])
@pytest.mark.parametrize("asked", ASKED)
async def test_probes_are_answered_on_ipv4_and_on_ipv6(host: str, asked: str) -> None:
    runner, port = await serve(application(OperatorMetrics(), lambda: None, lambda: None), host, 0)
    try:
        async with aiohttp.ClientSession() as http, http.get(f"http://{asked}:{port}/healthz") as answer:
            assert answer.status == 200
    finally:
        await runner.cleanup()


async def test_probes_say_what_is_wrong_and_metrics_are_read_when_scraped() -> None:
    metrics, problems, depth = OperatorMetrics(), {"alive": None, "ready": "The lease is held by another replica."}, [3.0]
    metrics.watch_value("queue_depth", lambda: depth[0])
    runner, port = await serve(application(metrics, lambda: problems["alive"], lambda: problems["ready"]), "127.0.0.1", 0)
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http:
            async with http.get("/healthz") as answer:
                assert answer.status == 200
            async with http.get("/readyz") as answer:
                assert answer.status == 503 and "another replica" in await answer.text()
            problems["ready"] = None
            async with http.get("/readyz") as answer:
                assert answer.status == 200
            depth[0] = 7.0
            async with http.get("/metrics") as answer:
                assert "llmtrain_queue_depth 7.0" in await answer.text()
    finally:
        await runner.cleanup()


def test_a_replica_tells_what_the_table_says_of_its_process_and_each_series_is_there_from_the_start() -> None:
    metrics, election = OperatorMetrics(), SimpleNamespace(leads=True)
    queue: WorkQueue[Any] = WorkQueue()
    _describe(metrics, queue, election, Freshness())  # type: ignore[arg-type]
    metrics.watch_value("webhook_certificate_expiry_timestamp_seconds", lambda: 5.0)
    text = metrics.page().decode()
    told = set(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    assert told == {(PREFIX + metric.name, metric.kind) for metric in METRICS}
    assert 'llmtrain_webhook_reviews_total{result="failed"} 0.0' in text and 'llmtrain_reconcile_seconds_count{result="failed"} 0.0' in text


def test_metrics_are_told_where_only_the_code_was_copied_as_in_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("llmtrain_operator.version.installed", absent)
    assert 'llmtrain_build_info{version="image"} 1.0' in OperatorMetrics().page().decode()
