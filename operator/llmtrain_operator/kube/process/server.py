"""/healthz, /readyz and /metrics of the operator."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from llmtrain_operator.kube.metrics.operator import OperatorMetrics
from llmtrain_trainer.config.listen import listeners

Check = Callable[[], str | None]
"""A health check: None if healthy, else one sentence."""


def application(metrics: OperatorMetrics, alive: Check, ready: Check) -> web.Application:
    """The three pages. A failed check answers 503 with its sentence."""

    def answer(check: Check) -> web.Response:
        problem = check()
        return web.Response(text="ok\n") if problem is None else web.Response(status=503, text=problem + "\n")

    async def healthz(_: web.Request) -> web.Response:
        return answer(alive)

    async def readyz(_: web.Request) -> web.Response:
        return answer(ready)

    async def page(_: web.Request) -> web.Response:
        return web.Response(body=metrics.page(), content_type="text/plain", charset="utf-8")

    app = web.Application()
    app.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", page)])
    return app


async def serve(app: web.Application, host: str, port: int) -> tuple[web.AppRunner, int]:
    """Start serving; returns the runner to clean up and the port, which the system chooses if `port` is 0."""
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    for one in listeners(host, port):
        await web.SockSite(runner, one).start()
    return runner, int(runner.addresses[0][1])
