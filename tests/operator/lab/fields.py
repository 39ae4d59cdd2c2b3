"""Server-side apply: who owns which field of an object, conflicts, and fields that go when their last owner leaves them out."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from llmtrain_operator.kube.api.client import ApiError, Object

Path = tuple[str, ...]
_NOT_OWNED = {("metadata", "name"), ("metadata", "namespace"), ("metadata", "uid"), ("apiVersion",), ("kind",)}
_SERVERS = ("uid", "resourceVersion", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds")


@dataclass(slots=True)
class Owners:
    """Field -> its managers."""

    of_field: dict[Path, set[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, manager: str, body: Object) -> Owners:
        return cls({path: {manager} for path in dict(leaves(body))})


def leaves(value: Any, at: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Lists are one value, but for owner references, which are told apart by uid."""
    if at == ("metadata", "ownerReferences"):
        yield from (((*at, ref["uid"]), ref) for ref in value)
    elif isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from leaves(inner, (*at, key))
    elif at not in _NOT_OWNED and not (at[:1] == ("metadata",) and at[1] in _SERVERS) and at[:1] != ("status",):
        yield at, value


def applied(old: Object, body: Object, owners: Owners, manager: str, force: bool) -> Object:
    """The object after the apply; `owners` is brought up to date. Raises ApiError 409 where another manager says otherwise."""
    before, wanted = dict(leaves(old)), dict(leaves(body))
    held = owners.of_field
    contested = [path for path, value in wanted.items() if path in before and before[path] != value and held.get(path, set()) - {manager}]
    if contested and not force:
        others = sorted({name for path in contested for name in held[path] - {manager}})
        told = ", ".join("." + ".".join(path) for path in contested)
        raise ApiError(409, "Conflict", f"Apply failed with {len(contested)} conflict: conflicts with {others}: {told}")
    new = copy.deepcopy(old)
    for path in [path for path, names in held.items() if manager in names and path not in wanted]:
        held[path].discard(manager)
        if not held[path]:
            del held[path]
            _drop(new, path)
    for path, value in wanted.items():
        held[path] = {manager} if path in contested or path not in before else held.get(path, set()) | {manager}
        _set(new, path, value)
    return new


def _set(found: Object, path: Path, value: Any) -> None:
    if path[:2] == ("metadata", "ownerReferences"):
        meta = found["metadata"]
        meta["ownerReferences"] = [*(ref for ref in meta.get("ownerReferences") or [] if ref["uid"] != path[2]), copy.deepcopy(value)]
        return
    for key in path[:-1]:
        if not isinstance(found.get(key), dict):
            found[key] = {}
        found = found[key]
    found[path[-1]] = copy.deepcopy(value)


def _drop(found: Object, path: Path) -> None:
    if path[:2] == ("metadata", "ownerReferences"):
        meta = found["metadata"]
        meta["ownerReferences"] = [ref for ref in meta.get("ownerReferences") or [] if ref["uid"] != path[2]]
        return
    for key in path[:-1]:
        found = found.get(key) or {}
    found.pop(path[-1], None)
