"""The validating webhook's server: HTTPS with certificates that are read again when they change.

A standby answers as well as the leader, since a verdict needs nothing of the cluster. Each answer comes within ANSWER_SECONDS, also where
our own code fails: a new job is then refused, and a change of one that is there passes, else nothing could end it any more. Whoever reaches
the port may post: bodies, reviews and connections are bounded, and bodies are parsed in a separate process.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import ssl
from collections.abc import AsyncIterator, Container
from contextlib import asynccontextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import cast

from aiohttp import web

from llmtrain_operator.kube.judging.admission import ReviewAnswer, ShapeNow, response
from llmtrain_operator.kube.judging.judge import Judge, JudgeAwayError, Judges, NoJudgementError
from llmtrain_operator.kube.judging.judgement import VERDICTS, Outcome, Reviewed, Unshaped, key_of
from llmtrain_operator.kube.metrics.operator import OperatorMetrics
from llmtrain_operator.manifest.problem import NotKnownError, PlanError, Problem
from llmtrain_trainer.config import Model
from llmtrain_trainer.config.listen import listeners

log = logging.getLogger(__name__)

ANSWER_SECONDS = 4.0
"""The API server waits 5 s."""

JUDGE_SECONDS = 2.0
"""Of these, what one judgement may take."""

LARGEST_REVIEW = (3 << 20) + (1 << 19)
"""Bytes: an API server takes requests of 3 MiB and stores objects of half of it, and a review carries the new and the old one."""

MOST_REVIEWS, SMALL_REVIEW = 8, 1 << 17
"""Large reviews whose bodies are held at a time, others wait and are told to come again; and the bytes of one that waits for none of them,
so that bodies which come slowly hold up no job of usual size."""

MOST_CONNECTIONS = 256
"""Open connections. For one more the oldest that asks nothing goes: the API server keeps a few, and uses them."""

IDLE_SECONDS = 90.0
"""After which a connection that asks nothing is closed."""

BUSY: web.AppKey[Container[object]] = web.AppKey("busy", Container)
"""Handlers of connections whose review is under way."""

_TOO_LARGE = f"a review has at most {LARGEST_REVIEW} bytes\n"
_HEAD = 1 << 16
_WORD = rb'"%s"\s*:\s*"([-A-Za-z0-9]{1,64})"'

RELOAD_SECONDS = 10.0
"""Seconds between checks of the certificate's files."""


class Certificate:
    """tls.crt and tls.key of a directory, as mounted from a Secret. Raises OSError or ssl.SSLError if they cannot be used."""

    def __init__(self, directory: Path) -> None:
        self._files = (directory / "tls.crt", directory / "tls.key")
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._seen = self._content()
        self._load()

    def reload(self) -> bool:
        """Read the files again if they changed; True if they were read. Open connections keep the old certificate."""
        if (content := self._content()) == self._seen:
            return False
        self._load()
        self._seen = content
        return True

    async def keep(self) -> None:
        """Reload for ever. Files that do not match are tried again: they may be half written."""
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


def path_for(kind: str) -> str:
    """Where reviews of a kind are posted; the chart says the same to the API server."""
    return f"/validate-{kind.lower()}"


def application(
    shape_now: ShapeNow, metrics: OperatorMetrics, within: float = ANSWER_SECONDS, judge: Judges | None = None
) -> web.Application:
    """A page for each kind, to which the API server posts reviews. A separate process checks them; it starts and ends with the server."""
    judges, room, busy = judge or Judge(min(JUDGE_SECONDS, within)), asyncio.Semaphore(MOST_REVIEWS), set[object]()

    async def validate(request: web.Request, kind: str) -> web.Response:
        if (request.content_length or 0) > LARGEST_REVIEW:
            return web.Response(status=413, text=_TOO_LARGE, headers={"Connection": "close"})
        busy.add(request.protocol)
        try:
            async with asyncio.timeout(within), room if _is_large(request) else nullcontext():
                answer = await _judged(kind, await request.read(), judges, shape_now)
        except TimeoutError:
            metrics.reviews.labels("failed").inc()
            return web.Response(status=503, text="too many reviews at once\n", headers={"Connection": "close"})
        finally:
            busy.discard(request.protocol)
        if answer.body is None:
            return web.Response(status=400, text="this page takes an AdmissionReview in JSON\n")
        metrics.reviews.labels(("refused" if answer.refuses else "admitted") if answer.judged else "failed").inc()
        return web.Response(body=answer.body, content_type="application/json")

    app = web.Application(client_max_size=LARGEST_REVIEW)
    app[BUSY] = busy
    app.add_routes([web.post(path_for(kind), partial(validate, kind=kind)) for kind in VERDICTS])
    app.cleanup_ctx.append(lambda _: _at_work(judges))
    return app


async def _at_work(judges: Judges) -> AsyncIterator[None]:
    """The judge while the server runs. It starts meanwhile: a review that comes before waits for it."""
    starting = asyncio.create_task(judges.start())
    yield
    await asyncio.gather(starting, return_exceptions=True)
    await judges.close()


def _is_large(request: web.Request) -> bool:
    return request.content_length is None or request.content_length > SMALL_REVIEW


async def _judged(kind: str, body: bytes, judges: Judges, shape_now: ShapeNow) -> Reviewed:
    """The answer, whatever happens to the judgement."""
    shapes: dict[tuple[str, str | None], Outcome] = {}
    try:
        while isinstance(found := await judges.ask("reviewed", kind, body, shapes), Unshaped):
            shapes[key_of(found.model)] = _known(found.model, shape_now)
        return cast(Reviewed, found)
    except (NoJudgementError, JudgeAwayError) as error:
        return _unjudged(body, str(error))


def _known(model: Model, shape_now: ShapeNow) -> Outcome:
    try:
        return shape_now(model)
    except (PlanError, NotKnownError) as error:
        return error
    except Exception as error:  # a source that nobody thought of
        log.exception("the shape of %s was not read", model.source)
        return NotKnownError(f"spec.model.source is {model.source}: it could not be read ({type(error).__name__}).")


def _unjudged(body: bytes, why: str) -> Reviewed:
    """The answer if the check failed: a new job is refused; a change of an existing one is admitted, since it could not be ended otherwise.

    What the API server sends names uid and operation before the objects, so that neither needs what could not be read.
    """
    head = body[:_HEAD].partition(b'"object"')[0]
    said = {name: found[1].decode() for name in ("uid", "operation") if (found := re.search(_WORD % name.encode(), head))}
    if len(said) < 2:
        return Reviewed(body=None, refuses=True)
    log.warning("a review (%s, %s) was not judged: %s", said["uid"], said["operation"], why)
    refuses = said["operation"] == "CREATE"
    if refuses:
        verdict = ReviewAnswer(
            problems=(Problem("manifest", "not checked", f"planning it failed ({why})", "Make it smaller, or try again"),)
        )
    else:
        verdict = ReviewAnswer(
            warnings=(f"The webhook could not check this change ({why}). The operator does: see the condition Planned.",)
        )
    return Reviewed(body=json.dumps(response({"request": said}, verdict)).encode(), refuses=refuses, judged=False)


@asynccontextmanager
async def serving(directory: Path, host: str, port: int, app: web.Application) -> AsyncIterator[int]:
    """Serve while the block runs; gives the port, which the system chose where `port` is 0. Raises OSError, ssl.SSLError."""
    certificate = Certificate(directory)
    runner = web.AppRunner(app, access_log=None, keepalive_timeout=IDLE_SECONDS, lingering_time=1.0)
    await runner.setup()
    keeper = asyncio.create_task(certificate.keep())
    assert runner.server is not None
    made = Doorkeeper(runner.server, app[BUSY])
    loop, sockets = asyncio.get_running_loop(), listeners(host, port)
    servers = [
        await loop.create_server(made, sock=one, ssl=certificate.context, ssl_handshake_timeout=10.0, ssl_shutdown_timeout=1.0)
        for one in sockets
    ]
    try:
        yield int(sockets[0].getsockname()[1])
    finally:
        keeper.cancel()
        with suppress(asyncio.CancelledError):
            await keeper
        for server in servers:
            server.close()
        await runner.cleanup()


class Doorkeeper:
    """Makes the handler of each connection, and closes the oldest that asks nothing where there are too many."""

    def __init__(self, server: web.Server, busy: Container[object], most: int = MOST_CONNECTIONS) -> None:
        self._server, self._busy, self._most = server, busy, most

    def __call__(self) -> asyncio.Protocol:
        there = self._server.connections
        if len(there) >= self._most:
            oldest = next((each for each in there if each not in self._busy), there[0])
            if oldest.transport is not None:
                oldest.transport.abort()
        return self._server()
