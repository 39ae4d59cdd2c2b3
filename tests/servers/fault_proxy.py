"""An HTTP proxy that stands between a client and an S3 server and misbehaves on demand, so that outages can be tested with real traffic."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

from aiohttp import ClientSession, TCPConnector, web
from yarl import URL

_BUSY = b'<?xml version="1.0"?><Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>'
_HOP_BY_HOP = {"transfer-encoding", "connection", "keep-alive", "expect"}


class FaultProxy:
    """The switches may be turned from any thread."""

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream
        self.endpoint = ""
        self.busy = False
        """Every request is answered with 503 SlowDown."""

        self.busy_for = 0
        """So many requests more are answered with 503."""

        self.fail_uploads_of = ""
        """Uploads of paths that end so are answered with 503; the empty string stands for none."""

        self.uploaded: list[str] = []
        """Paths of the uploads that were let through, in order."""

        self.cut_uploads = 0
        """So many uploads more are cut off in the middle of their body."""

        self.lose_answers = 0
        """So many PUTs and POSTs more are done by the server, and the client never hears of it."""

        self.hold_uploads = False
        """Uploads stand still in the middle of their body; the first one sets `holding`."""

        self.holding = threading.Event()
        self.answered_busy = 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One request, with whatever is due to go wrong."""
        upload = request.method == "PUT" and (request.content_length or 0) > 0
        unwanted = upload and self.fail_uploads_of and request.path.endswith(self.fail_uploads_of)
        if self.busy or self.busy_for > 0 or unwanted:
            self.busy_for = max(0, self.busy_for - 1)
            self.answered_busy += 1
            await request.read()
            return web.Response(status=503, body=_BUSY, content_type="application/xml")
        if upload and (self.cut_uploads > 0 or self.hold_uploads):
            return await self._break_off(request)
        if upload:
            self.uploaded.append(request.path)
        answer = await self._forward(request)
        if self.lose_answers > 0 and request.method in ("PUT", "POST"):
            self.lose_answers -= 1
            return self._hang_up(request)
        return answer

    async def _break_off(self, request: web.Request) -> web.StreamResponse:
        await request.content.readany()
        self.cut_uploads = max(0, self.cut_uploads - 1)
        while self.hold_uploads:
            self.holding.set()
            await asyncio.sleep(0.02)
        return self._hang_up(request)

    def _hang_up(self, request: web.Request) -> web.StreamResponse:
        if request.transport:
            request.transport.abort()
        return web.Response(status=500)

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP_BY_HOP}
        url = URL(self.upstream + request.raw_path, encoded=True)
        body = await request.read()
        async with (
            ClientSession(connector=TCPConnector(force_close=True), auto_decompress=False) as session,
            session.request(request.method, url, headers=headers, data=body, allow_redirects=False) as reply,
        ):
            content = await reply.read()
            kept = {name: value for name, value in reply.headers.items() if name.lower() not in {*_HOP_BY_HOP, "content-length"}}
            if request.method == "HEAD":
                kept["Content-Length"] = reply.headers.get("Content-Length", "0")
            return web.Response(status=reply.status, headers=kept, body=content)


@contextmanager
def run_fault_proxy(upstream: str) -> Iterator[FaultProxy]:
    """Start a proxy on a free port of the loopback interface, in a thread of its own."""
    proxy, loop = FaultProxy(upstream), asyncio.new_event_loop()
    started, stop = threading.Event(), asyncio.Event()

    async def serve() -> None:
        async for port in _listening(proxy):
            proxy.endpoint = f"http://127.0.0.1:{port}"
            started.set()
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), name="fault proxy")
    thread.start()
    try:
        if not started.wait(timeout=30):
            raise RuntimeError("the fault proxy did not start within 30 s")
        yield proxy
    finally:
        proxy.hold_uploads = False
        loop.call_soon_threadsafe(stop.set)
        thread.join(timeout=30)
        loop.close()


async def _listening(proxy: FaultProxy) -> AsyncIterator[int]:
    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/{path:.*}", proxy.handle)
    runner = web.AppRunner(app, shutdown_timeout=1.0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
