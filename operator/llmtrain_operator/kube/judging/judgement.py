"""The plan of a manifest for reconcile, and the answer to an admission review. Pure; judge.py runs it in a separate process.

Only the operator can read some sources of a model's shape: then the answer is `Unshaped`, and the question is repeated with the shape.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from llmtrain_operator.api.job import LLMTrainJob
from llmtrain_operator.kube.judging.admission import ReviewAnswer, ShapeNow, response, verdict_on
from llmtrain_operator.kube.resources import JOBS
from llmtrain_operator.manifest.parse import ManifestError, parse_object
from llmtrain_operator.manifest.problem import PlanError, sentences
from llmtrain_operator.plan.feasible import feasible
from llmtrain_operator.plan.model.families import shape_of
from llmtrain_operator.plan.model.shape import ModelShape
from llmtrain_operator.plan.plan import Plan
from llmtrain_trainer.config import Model

Outcome = ModelShape | Exception | None
"""Result of reading a source: the shape, the error, or None if it cannot be known here."""

Shapes = Mapping[tuple[str, str | None], Outcome]
"""By source and revision."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A plan, or the sentences that say why it was refused."""

    job: LLMTrainJob | None
    plan: Plan | None
    refusal: str | None


@dataclass(frozen=True, slots=True)
class Unshaped:
    """The model whose shape must be read first."""

    model: Model


@dataclass(frozen=True, slots=True, kw_only=True)
class Reviewed:
    """The AdmissionReview that answers one, as JSON, and whether it refuses. `body` is None for what is no review."""

    body: bytes | None
    refuses: bool
    judged: bool = True
    """False if the check itself failed."""


VERDICTS: dict[str, Callable[[Any, ShapeNow], ReviewAnswer]] = {JOBS.kind: verdict_on}
"""The function that answers a review, by the kind of the object. Other kinds have no webhook."""


class NeedsShapeError(Exception):
    """A shape is needed that was not read yet."""

    def __init__(self, model: Model) -> None:
        self.model = model
        super().__init__(model.source)


def planned(manifest: Any, shapes: Shapes) -> Planned | Unshaped:
    """The plan of a job as the API server returned it. Any error is a refusal of this job only."""
    job = None
    try:
        job = parse_object(manifest)
        made = feasible(job, shape_at(shapes)(job.spec.model))
    except NeedsShapeError as needed:
        return Unshaped(needed.model)
    except (ManifestError, PlanError) as error:
        return Planned(job=job, plan=None, refusal=sentences(error.problems))
    except Exception as error:
        return Planned(job=job, plan=None, refusal=not_planned(f"{type(error).__name__}: {error}"[:200]))
    return Planned(job=job, plan=made, refusal=None)


def reviewed(kind: str, body: bytes, shapes: Shapes) -> Reviewed | Unshaped:
    """Of the body of a request for admission of an object of `kind`. Raises whatever goes wrong in a judgement: see webhook.py."""
    try:
        review = json.loads(body)
        asked = dict(review["request"])
    except (ValueError, TypeError, KeyError):
        return Reviewed(body=None, refuses=True)
    try:
        verdict = VERDICTS[kind](asked, shape_at(shapes))
    except NeedsShapeError as needed:
        return Unshaped(needed.model)
    return Reviewed(body=json.dumps(response(review, verdict)).encode(), refuses=bool(verdict.problems))


def shape_at(shapes: Shapes) -> ShapeNow:
    """A reader of shapes that were read before, and of those that stand in the manifest. A file:// or pvc:// source is the pod's."""

    def shape(model: Model) -> ModelShape | None:
        if model.config is not None:
            return shape_of(model.config)
        if not is_remote(model):
            return None
        key = key_of(model)
        if key not in shapes:
            raise NeedsShapeError(model)
        found = shapes[key]
        if isinstance(found, Exception):
            raise found
        return found

    return shape


def is_remote(model: Model) -> bool:
    """Whether the operator reads the shape from a source, which may fail."""
    return model.config is None and (model.source or "").startswith(("hf://", "s3://"))


def key_of(model: Model) -> tuple[str, str | None]:
    return model.source or "", model.revision


def not_planned(why: str) -> str:
    """The sentence for a manifest whose planning failed with an exception."""
    return f"This manifest could not be planned ({why}). Other jobs are not affected. Change spec, or report this bug with the manifest."
