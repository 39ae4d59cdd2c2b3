"""Credentials and HTTP sessions for the API server, for kopf and for our own client.

Every session has one middleware: it reads the service account's token again, limits the rate of watches, and measures requests. If a watch
ends immediately (some load balancers do that), kopf opens it again without a pause, hundreds of times per second: the limit is one start
per second for each collection.

kopf watches metadata only, a tenth of a pod: its handlers read no more, and the server closes a watch that is read too slowly.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import kopf

from llmtrain_operator.kube.api.freshness import Freshness
from llmtrain_operator.kube.metrics.operator import OperatorMetrics

TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
TOKEN_SECONDS = 60.0
"""Seconds after which the token is read again: the kubelet replaces it before it expires after an hour."""

BRAKE_SECONDS = 1.0

CONNECTIONS = 64
"""Persistent connections to the API server; further requests wait in the process."""

METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1, application/json"


@dataclass(slots=True)
class Sessions:
    """Creates sessions for one API server, with the credentials of the pod or of the kubeconfig."""

    info: kopf.ConnectionInfo
    metrics: OperatorMetrics
    token: Path | None = None
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    freshness: Freshness = field(default_factory=Freshness)
    _starts: dict[str, float] = field(default_factory=dict)
    _token: tuple[float, str] | None = None

    def open(self, *more: aiohttp.ClientMiddlewareType, connections: int = CONNECTIONS) -> aiohttp.ClientSession:
        """A new session with at most so many connections (0: any number); the caller closes it."""
        connector = aiohttp.TCPConnector(limit=connections, keepalive_timeout=60.0, ssl=self.info.as_ssl_context())
        headers = {**self.info.as_http_headers(), "Accept-Encoding": "identity"}  # near the server, compression costs more than it saves
        return aiohttp.ClientSession(connector=connector, headers=headers, middlewares=(*more, self.carry))

    def login(self) -> kopf.AiohttpSession:
        """The result of kopf's login handler. kopf closes the session itself, and calls this again if the server refuses the login."""
        http = self.open(self.slim, connections=0)  # each watch holds a connection
        return kopf.AiohttpSession(
            aiohttp_session=http, server=self.info.server, default_namespace=self.info.default_namespace or "default"
        )

    async def slim(self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        """The middleware of kopf's session: requests metadata only, and notes every list and watch that the server answers."""
        query = request.url.query
        if "watch" not in query and "limit" not in query:
            return await handler(request)
        if "watch" in query:  # an empty list of metadata has null items, on which kopf fails
            request.headers["Accept"] = METADATA
        response = await handler(request)
        if response.status == 200:
            self.freshness.heard(request.url.path)
        return response

    async def carry(self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        """The middleware of every session."""
        watches = request.url.query.get("watch") == "true"
        if watches:
            await self._brake(f"{request.url.path}?{request.url.query.get('labelSelector', '')}")
        if token := self._bearer():
            request.headers["Authorization"] = f"Bearer {token}"
        start, code = self.clock(), "none"
        try:
            response = await handler(request)
            code = str(response.status)
            return response
        finally:
            self._measure("WATCH" if watches else request.method, request.url.path, code, self.clock() - start)

    async def _brake(self, collection: str) -> None:
        """Wait until a watch of this collection may start. Starts are reserved, so that two at once do not start together."""
        now = self.clock()
        start = max(now, self._starts.get(collection, now - BRAKE_SECONDS) + BRAKE_SECONDS)
        self._starts[collection] = start
        if start > now:
            await self.sleep(start - now)

    def _bearer(self) -> str | None:
        if self.token is None:
            return None
        now = self.clock()
        if self._token is None or now - self._token[0] > TOKEN_SECONDS:
            self._token = (now, self.token.read_text().strip())
        return self._token[1]

    def _measure(self, verb: str, path: str, code: str, seconds: float) -> None:
        resource = resource_of(path)
        self.metrics.requests.labels(verb, resource, code).observe(seconds)
        if verb == "WATCH" and code == "200":
            self.metrics.watch_opened.labels(resource).set_to_current_time()


def resource_of(path: str) -> str:
    """/api/v1/namespaces/a/pods/b/status -> pods/status: a metric label of bounded cardinality."""
    words = path.strip("/").split("/")
    words = words[2:] if words[0] == "api" else words[3:]
    if len(words) > 2 and words[0] == "namespaces":
        words = words[2:]
    return "/".join([*words[:1], *words[2:3]]) or "discovery"


def credentials() -> tuple[kopf.ConnectionInfo, Path | None]:
    """Connection info of the API server, and in a pod the file with the token. Raises kopf.LoginError if there are no credentials."""
    given: dict[str, Any] = {"settings": kopf.OperatorSettings()}
    if info := kopf.login_with_service_account(**given):
        return info, TOKEN
    if info := kopf.login_with_kubeconfig(**given):
        return info, None
    raise kopf.LoginError("There is no service account and no kubeconfig. Set KUBECONFIG, or run the operator in a cluster.")
