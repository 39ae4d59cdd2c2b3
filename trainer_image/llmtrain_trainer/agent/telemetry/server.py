"""HTTP of the agent: /metrics for Prometheus, /status as NodeStatus, /healthz for the kubelet. Runs in a thread of its own."""

from __future__ import annotations

import asyncio
import json
import threading

from aiohttp import web

from llmtrain_trainer.agent.telemetry.board import Board
from llmtrain_trainer.agent.telemetry.metrics import AgentMetrics
from llmtrain_trainer.config.listen import listeners

_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class StatusServer:
    """Starts listening in the constructor and ends with the process. Raises OSError where the port is taken."""

    def __init__(self, board: Board, metrics: AgentMetrics, host: str, port: int) -> None:
        self._board, self._metrics = board, metrics
        self.port = port
        self._ready: threading.Event = threading.Event()
        self._failed: OSError | None = None
        threading.Thread(target=lambda: asyncio.run(self._serve(host, port)), name="http", daemon=True).start()
        self._ready.wait()
        if self._failed is not None:
            raise self._failed

    async def _serve(self, host: str, port: int) -> None:
        app = web.Application()
        app.add_routes([web.get("/metrics", self._on_metrics), web.get("/status", self._on_status), web.get("/healthz", self._on_health)])
        runner = web.AppRunner(app, access_log=None, handle_signals=False)
        await runner.setup()
        try:
            for one in listeners(host, port):
                await web.SockSite(runner, one).start()
            self.port = runner.addresses[0][1]
        except OSError as error:
            self._failed = error
            return
        finally:
            self._ready.set()
        await asyncio.Event().wait()

    async def _on_metrics(self, _request: web.Request) -> web.Response:
        return web.Response(body=self._metrics.text(), headers={"Content-Type": _METRICS_TYPE})

    async def _on_status(self, _request: web.Request) -> web.Response:
        # json.dumps and not pydantic's: a loss that is not a number stays visible as NaN, where pydantic writes null
        text = json.dumps(self._board.status.model_dump(mode="python", by_alias=True))
        return web.Response(text=text, content_type="application/json")

    async def _on_health(self, _request: web.Request) -> web.Response:
        return web.Response(text="ok\n")
