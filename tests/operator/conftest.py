"""A small API server over HTTP on loopback, for what the edges send and how they take answers. Semantics are judged in tests/cluster."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

sys.path.insert(0, str(Path(__file__).parents[1] / "servers"))

from arrived import Request

from llmtrain_operator.kube.api.client import Client


@dataclass
class Server:
    """Answers as told: `answer(request)` gives the code and the body."""

    url: str = ""
    sent: list[Request] = field(default_factory=list)
    answer: Callable[[Request], tuple[int, Any]] = lambda _: (200, {})
    headers: dict[str, str] = field(default_factory=dict)
    held: dict[str, asyncio.Event] = field(default_factory=dict)
    """Paths whose answers wait for something."""

    async def handle(self, request: web.Request) -> web.Response:
        given = await request.read()
        sent = Request(request.method, request.path, dict(request.query), dict(request.headers), json.loads(given) if given else None)
        self.sent.append(sent)
        if request.path in self.held:
            await self.held[request.path].wait()
        code, body = self.answer(sent)
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return web.Response(status=code, body=raw, headers=self.headers)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """The server."""
    made = Server()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", made.handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


@pytest.fixture
async def client(server: Server) -> AsyncIterator[Client]:
    """A client of it."""
    async with aiohttp.ClientSession() as http:
        yield Client(http, server.url, within=5)
