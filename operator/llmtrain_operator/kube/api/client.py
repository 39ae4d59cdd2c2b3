"""The API server as raw JSON over one aiohttp session.

Objects stay dicts: typed models of a client library cost eight times the CPU of their JSON on a hot path and refuse what they do not know.
Nothing is retried here; the work queue tries a whole reconcile again.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import quote

import aiohttp

from llmtrain_operator.kube.api.deep_json import read_json
from llmtrain_operator.kube.resources import RESOURCES

Object = dict[str, Any]

MANAGER = "llmtrain-operator"
"""Field manager of all writes of the operator."""

PAGE, PAGE_OF_OURS = 500, 50
"""Objects per page of a list. Pages of llmtrain's own kinds are smaller, because each object may be as large as the server's limit."""

PLURALS = {
    "ConfigMap": "configmaps",
    "Event": "events",
    "Lease": "leases",
    "NetworkPolicy": "networkpolicies",
    "Node": "nodes",
    "Pod": "pods",
    "PodGroup": "podgroups",
    "Service": "services",
    "Workload": "workloads",
    **{each.kind: each.plural for each in RESOURCES},
}
"""Kind -> plural name in paths, for all kinds that are read or written."""


_OURS = frozenset(each.plural for each in RESOURCES)


def pages(path: str) -> int:
    """Number of objects per page of a collection."""
    return PAGE_OF_OURS if path.rpartition("/")[2] in _OURS else PAGE


class ApiError(Exception):
    """The API server refused a request, or did not answer (`code` 0)."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        self.code, self.reason, self.message = code, reason, message
        super().__init__(f"{reason or code}: {message}")

    @property
    def conflict(self) -> bool:
        """Whether the object was changed meanwhile, or already exists."""
        return self.code == 409


def path_of(api_version: str, kind: str, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
    """The path of a collection; with `name` of an object; with `subresource` of that."""
    root = f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
    parts = (root, f"namespaces/{_part(namespace)}" if namespace else None, PLURALS[kind], _part(name) if name else None, subresource)
    return "/".join(part for part in parts if part)


def _part(name: str) -> str:
    """A name, escaped as one part of a path. Raises ValueError if it would change the path."""
    if name in (".", ".."):
        raise ValueError(f"{name} is not a name")
    return quote(name, safe="")


def path_to(found: Object, subresource: str | None = None) -> str:
    """The path of an object that has apiVersion and kind."""
    metadata = found["metadata"]
    return path_of(found["apiVersion"], found["kind"], metadata.get("namespace"), metadata["name"], subresource)


class Client:
    """Requests to one API server. Each raises ApiError if the server refuses it or does not answer within `within` seconds."""

    def __init__(self, http: aiohttp.ClientSession, server: str, within: float = 30.0, manager: str = MANAGER) -> None:
        self._http, self._server, self._within, self._manager = http, server.rstrip("/"), within, manager

    async def get(self, path: str, within: float | None = None) -> Object | None:
        """The object, or None if there is none."""
        try:
            return await self._send("GET", path, within=within)
        except ApiError as error:
            if error.code == 404:
                return None
            raise

    async def list(self, path: str, **query: str) -> list[Object]:
        """All objects of a collection. Items have no apiVersion and kind, which the server omits."""
        return [item async for item in self.each(path, **query)]

    async def each(self, path: str, **query: str) -> AsyncIterator[Object]:
        """The objects of a collection, one after the other, with at most one page in memory."""
        limit = str(pages(path))
        more = {"limit": limit, **query}
        while True:
            answer = await self._send("GET", path, query=more)
            for item in answer.pop("items", None) or ():
                yield item
            token = (answer.get("metadata") or {}).get("continue")
            if not token:
                return
            more = {**query, "limit": limit, "continue": token}
            more.pop("resourceVersion", None)  # a continued list has the version of its first page

    async def create(self, path: str, body: Object, within: float | None = None) -> Object:
        """POST to a collection."""
        return await self._send("POST", path, body, query={"fieldManager": self._manager}, within=within)

    async def replace(self, path: str, body: Object, within: float | None = None) -> Object:
        """PUT; with metadata.resourceVersion in the body it conflicts if the object was changed meanwhile."""
        return await self._send("PUT", path, body, query={"fieldManager": self._manager}, within=within)

    async def merge(self, path: str, body: Object) -> Object:
        """PATCH with a merge patch."""
        return await self._send("PATCH", path, body, query={"fieldManager": self._manager}, content="application/merge-patch+json")

    async def apply(self, path: str, body: Object, **query: str) -> Object:
        """Server-side apply: fields this manager owned and no longer gives are removed."""
        return await self._send(
            "PATCH", path, body, query={"fieldManager": self._manager, "force": "true", **query}, content="application/apply-patch+yaml"
        )

    async def delete(self, path: str, uid: str | None = None, grace: int | None = None) -> bool:
        """Delete an object; False if it is gone or has another uid. `grace`: seconds; None uses the object's own grace period."""
        options: Object = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        if uid:
            options["preconditions"] = {"uid": uid}
        if grace is not None:
            options["gracePeriodSeconds"] = grace
        try:
            await self._send("DELETE", path, options)
        except ApiError as error:
            if error.code in (404, 409):
                return False
            raise
        return True

    async def lines(self, path: str, **query: str) -> AsyncIterator[bytes]:
        """The lines of an answer that may never end, such as a pod's log."""
        limit = aiohttp.ClientTimeout(total=None, sock_connect=self._within)
        try:
            async with self._http.get(self._server + path, params=query, timeout=limit) as answer:
                if answer.status >= 300:
                    raise _refusal(answer.status, await answer.read())
                rest = b""
                async for chunk in answer.content.iter_any():  # aiohttp's own line iterator limits the length of lines
                    *whole, rest = (rest + chunk).split(b"\n")
                    for line in whole:
                        yield line
                if rest:
                    yield rest
        except (aiohttp.ClientError, TimeoutError) as error:
            raise ApiError(0, "NoAnswer", f"GET {path}: {error or type(error).__name__}") from error

    async def _send(
        self,
        method: str,
        path: str,
        body: Object | None = None,
        *,
        query: Mapping[str, str] | None = None,
        content: str = "application/json",
        within: float | None = None,
    ) -> Object:
        limit = aiohttp.ClientTimeout(total=within or self._within)
        headers = {"Content-Type": content} if body is not None else {}
        data = (
            None if body is None else json.dumps(body, ensure_ascii=False).encode()
        )  # an apply is read as YAML, which knows no pairs of \\u
        try:
            async with self._http.request(method, self._server + path, params=query, data=data, headers=headers, timeout=limit) as answer:
                raw = await answer.read()
                if answer.status < 300:
                    return _object(method, path, raw)
                raise _refusal(answer.status, raw)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise ApiError(0, "NoAnswer", f"{method} {path}: {error or type(error).__name__}") from error


def _object(method: str, path: str, raw: bytes) -> Object:
    try:
        found = read_json(raw)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ApiError(0, "NoAnswer", f"{method} {path}: the answer is not a JSON object")
    return found


def _refusal(code: int, raw: bytes) -> ApiError:
    try:
        status = read_json(raw)
        return ApiError(code, str(status.get("reason") or ""), str(status.get("message") or ""))
    except (ValueError, AttributeError):
        return ApiError(code, "", raw[:200].decode(errors="replace"))
