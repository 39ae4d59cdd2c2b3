"""An API server in memory: paths, selectors, preconditions, graceful deletion, field owners, garbage collection.

The real Client runs on top of it; only the bytes on the wire are left out.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tests.operator.lab.fields import Owners, applied

from llmtrain_operator.kube.api.client import MANAGER, PLURALS, ApiError, Client, Object, path_to

_PATH = re.compile(r"^/(?:api/(v1)|apis/([^/]+/[^/]+))(?:/namespaces/([^/]+))?/([a-z]+)(?:/([^/]+))?(?:/(status))?$")
ENDED = ("Succeeded", "Failed")

Admission = Callable[[Object], None]
"""Called with each object that is to be created: may change it, or raise ApiError."""


def stamp(seconds: float) -> str:
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True, slots=True)
class Place:
    """What a path says."""

    version: str
    namespace: str | None
    plural: str
    name: str | None
    subresource: str | None

    @classmethod
    def of(cls, path: str) -> Place:
        found = _PATH.match(path)
        assert found, f"no such path: {path}"
        return cls(found[1] or found[2], found[3], found[4], found[5], found[6])


class ApiServer(Client):
    """`wall` is the time; `changed(kind of event, object)` is told of every write, as a watch would be."""

    def __init__(self, wall: Callable[[], float], changed: Callable[[str, Object], None] = lambda *_: None) -> None:
        self._manager, self._within = MANAGER, 30.0
        self._wall, self._changed = wall, changed
        self.store: dict[str, Object] = {}
        self.owners: dict[str, Owners] = {}
        self.sent: list[tuple[str, str]] = []
        """Method and path of every request."""

        self.admission: list[Admission] = []
        self.groups: dict[str, str] = {}
        """Other API groups that are served, with their apiVersion."""

        self._uids, self._versions = itertools.count(1), itertools.count(1)

    # ---- for tests and for the kubelets: no request, no admission ------------------------------------------------------------

    def put(self, body: Object, manager: str = "kubectl") -> Object:
        """Put an object there as somebody else would; the object itself is kept, so a change of it is one of the server's."""
        meta = body["metadata"]
        meta.setdefault("uid", f"u{next(self._uids)}")
        meta.setdefault("creationTimestamp", stamp(self._wall()))
        meta["resourceVersion"] = str(next(self._versions))
        path = path_to(body)
        self.store[path], self.owners[path] = body, Owners.of(manager, body)
        self._changed("ADDED", body)
        return body

    def find(self, kind: str, namespace: str | None = None) -> list[Object]:
        """All objects of a kind, by path."""
        found = [one for _, one in sorted(self.store.items()) if one["kind"] == kind]
        return [one for one in found if namespace is None or one["metadata"].get("namespace") == namespace]

    def remove(self, path: str) -> None:
        """The object is gone, and the garbage collector takes what it owned."""
        gone = self.store.pop(path)
        self.owners.pop(path)
        self._changed("DELETED", gone)
        for held in [held for held, one in self.store.items() if _owned_by(one, gone["metadata"]["uid"])]:
            if held in self.store:
                self._end(held, self.store[held], None)

    def touched(self, found: Object) -> None:
        """Tell the watches that an object was changed."""
        found["metadata"]["resourceVersion"] = str(next(self._versions))
        self._changed("MODIFIED", found)

    # ---- requests ------------------------------------------------------------------------------------------------------------

    async def _send(
        self,
        method: str,
        path: str,
        body: Object | None = None,
        *,
        query: Mapping[str, str] | None = None,
        content: str = "application/json",
        within: float | None = None,  # noqa: ARG002
    ) -> Object:
        self.sent.append((method, path))
        asked, body = dict(query or {}), _wire(body or {})
        if path == "/apis":
            groups = [{"name": name, "preferredVersion": {"groupVersion": version}} for name, version in self.groups.items()]
            return {"groups": groups}
        place = Place.of(path)
        manager = asked.get("fieldManager", "unknown")
        match method:
            case "GET":
                answer = self._list(place, asked) if place.name is None else self._one(path)
            case "POST":
                answer = self._create(place, body, manager)
            case "PUT":
                answer = self._replace(path, body, manager)
            case "DELETE":
                answer = self._delete(path, body)
            case _ if "apply" in content:
                answer = self._apply(path, place, body, manager, asked.get("force") == "true")
            case _:
                answer = self._merge(path, body)
        return _wire(answer)

    def _one(self, path: str) -> Object:
        if path not in self.store:
            raise ApiError(404, "NotFound", f"{path} not found")
        return self.store[path]

    def _list(self, place: Place, asked: Mapping[str, str]) -> Object:
        first, limit = int(asked.get("continue") or 0), int(asked.get("limit") or 500)
        found = [one for one in self._in(place) if _selected(one, asked)]
        items = [{key: value for key, value in one.items() if key not in ("apiVersion", "kind")} for one in found[first : first + limit]]
        more: Object = {"continue": str(first + limit)} if len(found) > first + limit else {}
        return {"metadata": more, "items": items}

    def _in(self, place: Place) -> Iterator[Object]:
        for path, one in sorted(self.store.items()):
            other = Place.of(path)
            if (other.version, other.plural) == (place.version, place.plural) and place.namespace in (None, other.namespace):
                yield one

    def _create(self, place: Place, body: Object, manager: str) -> Object:
        kinds = {plural: kind for kind, plural in PLURALS.items()}
        whole: Object = {"kind": kinds.get(place.plural, place.plural), "apiVersion": place.version} | body
        path = path_to(whole)
        if path in self.store:
            raise ApiError(409, "AlreadyExists", f'{place.plural} "{whole["metadata"]["name"]}" already exists')
        for admit in self.admission:
            admit(whole)
        if whole["kind"] == "Pod":
            whole["status"] = {"phase": "Pending"}
        return self.put(whole, manager)

    def _replace(self, path: str, body: Object, manager: str) -> Object:
        old = self._one(path)
        if body["metadata"].get("resourceVersion") not in (None, old["metadata"]["resourceVersion"]):
            raise ApiError(409, "Conflict", "the object has been modified")
        body["metadata"] = {**old["metadata"], **body["metadata"]}
        old.clear()
        old.update(body)
        self.owners[path] = Owners.of(manager, old)
        self.touched(old)
        return old

    def _merge(self, path: str, body: Object) -> Object:
        old = self._one(path)
        _merge(old, body)
        self.touched(old)
        return old

    def _apply(self, path: str, place: Place, body: Object, manager: str, force: bool) -> Object:
        target = path.removesuffix("/status") if place.subresource else path
        if target not in self.store:
            if place.subresource:
                raise ApiError(404, "NotFound", f"{target} not found")
            return self._create(place, body, manager)
        old = self.store[target]
        if body["metadata"].get("uid") not in (None, old["metadata"]["uid"]):
            raise ApiError(409, "Conflict", f"Precondition failed: UID in precondition: {body['metadata'].get('uid')}")
        if place.subresource:
            old["status"] = body.get("status") or {}
        else:
            new = applied(old, body, self.owners[target], manager, force)
            if old.get("immutable") and new.get("data") != old.get("data"):
                raise ApiError(
                    422, "Invalid", f'{place.plural} "{place.name}" is invalid: data: field is immutable when `immutable` is set'
                )
            old.clear()
            old.update(new)
        self.touched(old)
        return old

    def _delete(self, path: str, options: Object) -> Object:
        found = self._one(path)
        uid = (options.get("preconditions") or {}).get("uid")
        if uid is not None and uid != found["metadata"]["uid"]:
            raise ApiError(409, "Conflict", "the UID in the precondition does not match")
        if options.get("propagationPolicy") == "Orphan":
            for one in self.store.values():
                meta = one["metadata"]
                meta["ownerReferences"] = [ref for ref in meta.get("ownerReferences") or [] if ref["uid"] != found["metadata"]["uid"]]
        self._end(path, found, options.get("gracePeriodSeconds"))
        return {"status": "Success"}

    def _end(self, path: str, found: Object, grace: int | None) -> None:
        """A pod with a node ends when its kubelet says so; one that is done, or deleted by force, is gone at once."""
        spec, meta = found.get("spec") or {}, found["metadata"]
        done = found["kind"] != "Pod" or not spec.get("nodeName") or found["status"]["phase"] in ENDED
        if done or grace == 0:
            self.remove(path)
            return
        given = spec.get("terminationGracePeriodSeconds", 30) if grace is None else grace
        if "deletionTimestamp" not in meta or given < meta["deletionGracePeriodSeconds"]:
            meta["deletionTimestamp"], meta["deletionGracePeriodSeconds"] = stamp(self._wall() + given), given
            self.touched(found)


def _wire(body: Object) -> Object:
    """The object as it arrives at the other end."""
    return dict(json.loads(json.dumps(body, allow_nan=False)))


def _owned_by(found: Object, uid: str) -> bool:
    return any(ref.get("uid") == uid for ref in found["metadata"].get("ownerReferences") or [])


def _selected(found: Object, asked: Mapping[str, str]) -> bool:
    labels = found["metadata"].get("labels") or {}
    for term in filter(None, asked.get("labelSelector", "").split(",")):
        key, _, value = term.partition("=")
        if key not in labels or (value and labels[key] != value):
            return False
    for term in filter(None, asked.get("fieldSelector", "").split(",")):
        key, _, value = term.partition("=")
        if str(_at(found, key)) != value:
            return False
    return True


def _at(found: Any, dotted: str) -> Any:
    for key in dotted.split("."):
        found = (found or {}).get(key)
    return found


def _merge(old: Object, patch: Object) -> None:
    for key, value in patch.items():
        if value is None:
            old.pop(key, None)
        elif isinstance(value, dict) and isinstance(old.get(key), dict):
            _merge(old[key], value)
        else:
            old[key] = value
