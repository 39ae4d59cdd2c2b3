"""Real ranks whose checkpoints go to an S3 server that fails for a while, and whose newest checkpoint is damaged afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest
from fault_proxy import FaultProxy
from s3_server import S3Server
from tiny_agent import STEPS, Job, Start

from llmtrain_trainer.checkpoint.store.destination import DOUBT
from llmtrain_trainer.config import ExitCode

pytestmark = pytest.mark.processes


def test_training_goes_on_through_an_outage_and_resumes_from_the_last_good_object(
    job: Job, start: Start, tmp_path: Path, s3: S3Server, proxy: FaultProxy, undisturbed: dict[int, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = s3.new_bucket()
    given = job.config(tmp_path)
    assert given.checkpoint is not None
    config = given.model_copy(update={"checkpoint": given.checkpoint.model_copy(update={"destination": f"s3://{bucket}/tiny"})})

    first = start(config, "first", hold=3)
    first.until_step(3)
    proxy.busy = True
    first.release(12)
    first.until_step(12)  # rows are written while every request is answered with 503
    first.until(lambda: proxy.answered_busy >= 3, "requests into the outage")
    first.until_metric("object_store_retries_total", least=1)
    assert 'code="503"' in first.get("/metrics")
    proxy.busy = False
    first.release()
    assert first.wait() == ExitCode.DONE, first.log()
    assert first.losses() == undisturbed
    assert first.verdict().restarts == 0

    newest = max(row["name"] for row in first.events("checkpoint_committed"))
    assert newest.startswith(f"step-{STEPS:08d}")
    damage(s3, bucket, f"tiny/{newest}/__0_0.distcp")
    monkeypatch.setenv(DOUBT, "1")

    second = start(config, "second")
    assert second.wait() == ExitCode.DONE, second.log()
    (rejected,) = second.events("checkpoint_rejected")
    assert newest in rejected["message"]
    (restored,) = second.events("restore")
    assert 0 < restored["step"] < STEPS
    assert second.losses() == {step: loss for step, loss in undisturbed.items() if step > restored["step"]}


def damage(s3: S3Server, bucket: str, key: str) -> None:
    """Flip one bit in the middle of an object."""
    client = s3.client()
    body = bytearray(client.get_object(Bucket=bucket, Key=key)["Body"].read())
    body[len(body) // 2] ^= 1
    client.put_object(Bucket=bucket, Key=key, Body=bytes(body))
