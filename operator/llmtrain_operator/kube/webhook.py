"""The validating webhook's server: HTTPS with certificates that are read again when they change. Started by every replica.

A standby answers as well as the leader, since a verdict needs nothing of the cluster. Each answer comes within ANSWER_SECONDS, also where
our own code fails: the API server would otherwise refuse every change of every job, those that end a job included.
"""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from aiohttp import web

from llmtrain_operator.kube.admission import ShapeNow, Verdict, response, verdict_on
from llmtrain_operator.kube.client import Object
from llmtrain_operator.kube.metrics import Metrics

log = logging.getLogger(__name__)

PATH = "/validate-llmtrainjob"
ANSWER_SECONDS = 4.0
"""The API server waits 5 s."""

LARGEST_REVIEW = 8 << 20
"""Bytes; a review carries the new and the old object, and the API server takes objects of 3 MiB."""

RELOAD_SECONDS = 10.0
"""How often the certificate's files are looked at."""


class Certificate:
    """tls.crt and tls.key of a directory, as a Secret is mounted. Raises OSError or ssl.SSLError where they cannot be used."""

    def __init__(self, directory: Path) -> None:
        self._files = (directory / "tls.crt", directory / "tls.key")
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._seen = self._content()
        self._load()

    def reload(self) -> bool:
        """Take the files anew where they changed; True when they were. Connections that stand keep the old ones."""
        if (content := self._content()) == self._seen:
            return False
        self._load()
        self._seen = content
        return True

    async def keep(self) -> None:
        """Reload for ever. Files that do not fit together are waited for: they may be half written."""
        while True:
            await asyncio.sleep(RELOAD_SECONDS)
            try:
                if self.reload():
                    log.info("the webhook's certificate was renewed")
            except (OSError, ssl.SSLError) as error:
                log.warning("the webhook keeps its old certificate: %s", error)

    def _content(self) -> tuple[bytes, ...]:
        return tuple(file.read_bytes() for file in self._files)

    def _load(self) -> None:
        self.context.load_cert_chain(*self._files)


def application(shape_now: ShapeNow, metrics: Metrics, within: float = ANSWER_SECONDS) -> web.Application:
    """The one page that the API server posts reviews to."""

    async def validate(request: web.Request) -> web.Response:
        try:
            review = json.loads(await request.read())
            asked = dict(review["request"])
        except (ValueError, TypeError, KeyError, RecursionError):
            return web.Response(status=400, text="this page takes an AdmissionReview in JSON\n")
        verdict = await _judged(asked, shape_now, within)
        metrics.reviews.labels("refused" if verdict.problems else "admitted").inc()
        return web.json_response(response(review, verdict))

    for result in ("admitted", "refused"):
        metrics.reviews.labels(result)  # a series that is missing and one that is 0 differ to who watches it
    app = web.Application(client_max_size=LARGEST_REVIEW)
    app.add_routes([web.post(PATH, validate)])
    return app


async def _judged(asked: Object, shape_now: ShapeNow, within: float) -> Verdict:
    """In a thread, so that a large manifest holds up no other work."""
    try:
        async with asyncio.timeout(within):
            return await asyncio.to_thread(verdict_on, asked, shape_now)
    except Exception as error:  # a bug or a slow machine must not stand between a person and the job
        log.exception("a review of %s/%s was not finished", asked.get("namespace"), asked.get("name"))
        why = "in time" if isinstance(error, TimeoutError) else f"({type(error).__name__})"
        return Verdict(warnings=(f"The webhook could not check this job {why}. The operator does: see the condition Planned.",))


@asynccontextmanager
async def serving(directory: Path, host: str, port: int, app: web.Application) -> AsyncIterator[int]:
    """Serve while the block runs; gives the port, which the system chose where `port` is 0. Raises OSError, ssl.SSLError."""
    certificate = Certificate(directory)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    keeper = asyncio.create_task(certificate.keep())
    try:
        await web.TCPSite(runner, host, port, ssl_context=certificate.context).start()
        yield int(runner.addresses[0][1])
    finally:
        keeper.cancel()
        with suppress(asyncio.CancelledError):
            await keeper
        await runner.cleanup()
