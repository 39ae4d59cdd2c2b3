"""An HTTP session with a person's credentials."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass

import aiohttp

from llmtrain_operator.access.credential_plugin import Plugin
from llmtrain_operator.access.kubeconfig import Login

_WARNING = re.compile(r'^299 \S+ "(.*)"$')
"""Warning header (RFC 7234) of the API server, such as an admission warning."""


def open_session(login: Login, warn: Callable[[str], None]) -> aiohttp.ClientSession:
    """A new session; the caller closes it. `warn` gets the API server's warnings."""
    headers = [*login.info.as_http_headers().items(), *login.headers]
    carry = _Carry(login.plugin, warn)
    connector = aiohttp.TCPConnector(limit=0, ssl=login.info.as_ssl_context())
    return aiohttp.ClientSession(
        connector=connector, headers=headers, proxy=login.info.proxy_url, trust_env=True, middlewares=(carry.carry,)
    )


@dataclass(slots=True)
class _Carry:
    """Gets a new token from a credential program if the server no longer accepts the old one."""

    plugin: Plugin | None
    warn: Callable[[str], None]
    token: str | None = None

    async def carry(self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        """The middleware."""
        response = await self._send(request, handler)
        if response.status == 401 and self.plugin is not None:
            response.release()
            self.token = (await asyncio.to_thread(self.plugin.credential)).token
            response = await self._send(request, handler)
        for value in response.headers.getall("Warning", ()):
            if said := _WARNING.match(value):
                self.warn(re.sub(r"\\(.)", r"\1", said[1]))
        return response

    async def _send(self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        if self.token:
            request.headers["Authorization"] = f"Bearer {self.token}"
        return await handler(request)
