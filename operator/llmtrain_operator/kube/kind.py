"""What a kind brings to the operator: what is watched for it, and what the leading replica does about its objects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from llmtrain_operator.kube.api.client import Client
from llmtrain_operator.kube.judging.shapes import Shapes
from llmtrain_operator.kube.metrics.operator import OperatorMetrics
from llmtrain_operator.kube.names import ObjectName
from llmtrain_operator.kube.render_settings import RenderSettings
from llmtrain_operator.kube.resources import Resource


class Controller(Protocol):
    """What is done about the objects of one kind. Two of them are never reconciled at once by the same name."""

    async def take_over(self, namespaces: Sequence[str]) -> None:
        """Read what is there, before any object is worked on; `namespaces` is empty where all are watched. Raises ApiError."""

    async def reconcile(self, key: ObjectName) -> float | None:
        """Reconcile one object; returns the seconds until the next reconcile, None if it is gone. Raises ApiError, StillReadingError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leading:
    """What the controllers of a replica that leads work with."""

    client: Client
    metrics: OperatorMetrics
    settings: RenderSettings
    identity: str
    """Name of this replica."""

    shapes: Shapes
    look: Callable[[ObjectName], None]
    """Puts an object of the controller's own kind into the queue."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Follow:
    """A collection of others' objects: an event on one of them means a look at the object that its label names."""

    version: str
    kind: str
    plural: str
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind that the operator works on."""

    resource: Resource
    follows: tuple[Follow, ...] = ()
    begin: Callable[[Leading], AbstractAsyncContextManager[Controller]]
    """The controller, for as long as the replica leads."""
