"""What a run that resumes from a checkpoint must have in common with the run that wrote it, field by field. Pure.

`RULES` says for each field of the TrainerConfig whether a run with another value resumes exactly, resumes with a notice, or is refused.
A checkpoint records what is compared (`record`); the agent compares before ranks start (`resumption`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from llmtrain_trainer.checkpoint.manifest import Manifest, Meta
from llmtrain_trainer.config import Schedule, TrainerConfig, Training
from llmtrain_trainer.config.learning_rate import learning_rate
from llmtrain_trainer.data.mixing.course import Course
from llmtrain_trainer.data.mixing.succession import followed_by
from llmtrain_trainer.data.prepared import Prepared
from llmtrain_trainer.data.target import target_steps
from llmtrain_trainer.resume.data_changes import data_changes
from llmtrain_trainer.resume.rules import RULES, Kind, ResumeRule
from llmtrain_trainer.resume.shape_differences import shape_differences

_ABSENT = object()
FROM_STEP_0 = "train from step 0 with another spec.checkpoint.destination or with spec.checkpoint.resume: none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumption:
    """How a run resumes from a checkpoint."""

    refused: str | None = None
    """Why it cannot resume, and the way out; None if it can."""

    told: tuple[str, ...] = ()
    """One sentence for each consequence of a changed field."""

    consumed_samples: int = 0
    consumed_tokens: int = 0
    target_steps: int
    course: Course


def from_start(config: TrainerConfig, prepared: Prepared) -> Resumption:
    """The Resumption of a run without a checkpoint."""
    return Resumption(target_steps=prepared.target_steps, course=prepared.course(config.training.seed))


def record(config: TrainerConfig, prepared: Prepared) -> dict[str, Any]:
    """What meta.json records of a run, so that a later run can be compared with it."""
    said = config.model_dump(mode="json", by_alias=True, include={"task", "training", "peft", "mixing", "curriculum"})
    said["labels"] = list(prepared.labels)
    said["evaluation"] = {"split": config.validation_share}
    model = config.model.model_dump(mode="json", by_alias=True, include={"source", "revision", "init"})
    facts = prepared.model
    return said | {"model": model, "shape": facts.shape, "weights": facts.weights, "tokenizer": prepared.tokenizer_digest}


def resumption(manifest: Manifest, config: TrainerConfig, prepared: Prepared) -> Resumption:
    """Compare a run with the checkpoint from which it is to resume."""
    meta = manifest.meta
    before, now = _recorded(meta), record(config, prepared)
    fresh = prepared.course(config.training.seed)
    consumed = _consumed(meta, config)
    course = _course(meta, fresh.later_by(consumed - meta.step * config.training.global_batch_size), consumed)
    target = target_steps(config, prepared.epoch_samples, done=meta.step, passed=course.passed(consumed))
    refused = [*_refused(before, now), *_model(before, now, config)]
    told = [*_changed(before, now, manifest), *_data(before, now, meta.course, course, fresh)]
    told += [*_weights_in_place(before, now, config, manifest), *_schedule(before, config, meta, target)]
    tokens = consumed * config.training.sequence_length if meta.consumed_tokens is None else meta.consumed_tokens
    return Resumption(
        refused=_refusal(manifest.name, refused) or _at_the_end(manifest, config, target, told),
        told=(*_not_recorded(manifest), *(f"{sentence}." for sentence in (*told, *_shortened(manifest, config, target)))),
        consumed_samples=consumed,
        consumed_tokens=tokens,
        target_steps=target,
        course=course,
    )


def _recorded(meta: Meta) -> Mapping[str, Any]:
    """The values that a checkpoint without a record still names."""
    if meta.record is not None:
        return meta.record | {"evaluation": meta.record.get("evaluation") or {"split": 0.0}}
    size = (meta.model_extra or {}).get("global_size", _ABSENT)
    training = {"seed": meta.seed, "globalBatchSize": size}
    return {
        "tokenizer": _ABSENT if meta.tokenizer_hash is None else meta.tokenizer_hash,
        "training": {name: value for name, value in training.items() if value is not None},
    }


def _not_recorded(manifest: Manifest) -> Iterator[str]:
    if manifest.meta.record is None:
        yield (
            f"{manifest.name}, written by an earlier version of llmtrain or by a conversion, records neither data nor training settings. "
            "Only the shapes of its weights are compared with this run, and batch size, seed and tokenizer if it names them."
        )


def _consumed(meta: Meta, config: TrainerConfig) -> int:
    """A checkpoint without the count was written with one batch size throughout."""
    if meta.consumed_samples or not meta.step:
        return meta.consumed_samples
    return meta.step * int((meta.model_extra or {}).get("global_size", config.batch.global_size))


def _course(meta: Meta, fresh: Course, consumed: int) -> Course:
    if meta.course is not None:
        return followed_by(meta.course, fresh, consumed)
    return fresh if meta.seed in (None, fresh.seed) else fresh.model_copy(update={"start": consumed})


def _at(values: Mapping[str, Any], field: str) -> Any:
    found: Any = values
    for key in field.split("."):
        if found is None:
            return None
        if not isinstance(found, Mapping) or key not in found:
            return _ABSENT
        found = found[key]
    return sorted(found) if isinstance(found, list) and field == "peft.targetModules" else found


def _differing(before: Mapping[str, Any], now: Mapping[str, Any], kind: Kind) -> Iterator[tuple[ResumeRule, str]]:
    """Rules of a kind whose field changed, each with a clause that names both values."""
    for rule in RULES:
        was, is_ = _at(before, rule.field), _at(now, rule.field)
        if rule.kind != kind or was == is_ or was is _ABSENT or is_ is _ABSENT or _sections(was, is_):
            continue
        if not _whole_section(rule.field, before, now):
            yield rule, f"spec.{rule.field} is {_shown(is_)} and was {_shown(was)}"


def _sections(was: Any, is_: Any) -> bool:
    """Whether both are sections: the rules of their fields apply instead."""
    return isinstance(was, Mapping) and isinstance(is_, Mapping)


def _whole_section(field: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether the whole section of a field was added or removed: the section's own rule applies instead."""
    section = field.rpartition(".")[0]
    return bool(section) and (_at(before, section) is None) != (_at(now, section) is None)


def _data(before: Mapping[str, Any], now: Mapping[str, Any], was: Course | None, course: Course, fresh: Course) -> Iterator[str]:
    """Which samples come next, and whether documents that are now held out were trained on before."""
    yield from data_changes([(rule.field, clause) for rule, clause in _differing(before, now, "data")], was, course, fresh)
    shares = _at(before, "evaluation.split"), _at(now, "evaluation.split")
    if _ABSENT not in shares and shares[0] < shares[1] and course != was:
        yield (
            f"spec.evaluation.split is {_shown(shares[1])} and was {_shown(shares[0])}: some of the documents that are now held out were "
            "trained on before, so the validation loss is lower than on unseen data"
        )


def _refused(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for rule, clause in _differing(before, now, "refused"):
        yield f"{clause}: {rule.why}"


def _changed(before: Mapping[str, Any], now: Mapping[str, Any], manifest: Manifest) -> Iterator[str]:
    for rule, clause in _differing(before, now, "told"):
        yield f"{clause} in {manifest.name}: {rule.why}"


def _model(before: Mapping[str, Any], now: Mapping[str, Any], config: TrainerConfig) -> Iterator[str]:
    """Refusals for another architecture, or for other initial weights."""
    if found := shape_differences(before.get("shape") or {}, now["shape"]):
        field = "spec.model.config" if config.model.config is not None else f"config.json of spec.model.source {config.model.source}"
        differences = ", ".join(f"{key} is {_shown(is_)} and was {_shown(was)}" for key, was, is_ in found)
        yield f"{field} describes another model ({differences}): the weights of the checkpoint do not fit it"
        return
    if not _other_weights(before, now):
        return
    if config.peft is not None:
        yield f"{_origin(now)} {_another_base(before, now)}: the adapters only fit the weights they were trained on"
    elif _origin(before) != _origin(now) and not (_drawn(before) and _drawn(now)):
        yield f"{_origin(now)} is another base model than {_origin(before)}: none of its weights would be used"


def _another_base(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    if _origin(before) == _origin(now):
        return "holds other weights than those that the adapters were trained on"
    return f"is another base than the adapters were trained on ({_origin(before)})"


def _weights_in_place(before: Mapping[str, Any], now: Mapping[str, Any], config: TrainerConfig, manifest: Manifest) -> Iterator[str]:
    """Notice that the source now holds other weights than at the start of training: the weights of the checkpoint are used."""
    if config.peft is None and _other_weights(before, now) and _origin(before) == _origin(now) and not _drawn(now):
        yield f"{_origin(now)} holds other weights than at the start of training: the weights of {manifest.name} are used"


def _other_weights(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    was, is_ = before.get("weights"), now["weights"]
    return was is not None and is_ is not None and was != is_


def _origin(said: Mapping[str, Any]) -> str:
    if _drawn(said):
        seed = _at(said, "training.seed")
        return f"spec.model with weights drawn from seed {seed}"
    revision = _at(said, "model.revision")
    return f"spec.model.source {_at(said, 'model.source')}" + (f" at {revision}" if isinstance(revision, str) else "")


def _drawn(said: Mapping[str, Any]) -> bool:
    return _at(said, "model.source") is None or _at(said, "model.init") == "random"


def _schedule(before: Mapping[str, Any], config: TrainerConfig, meta: Meta, target: int) -> Iterator[str]:
    """The learning rate of the next step, if the schedule changed."""
    said, training = _at(before, "training"), config.training
    if meta.target_steps is None or meta.record is None or not isinstance(said, Mapping):
        return
    earlier = Training.model_validate({key: value for key, value in said.items() if key in _TRAINING})
    if meta.step >= target:
        yield from _other_schedule(earlier.schedule, training.schedule)
        return
    schedule = training.schedule
    constant = schedule.name == "constant" and schedule.warm_up(target) == schedule.warm_up(meta.target_steps)
    if earlier.schedule == schedule and (target == meta.target_steps or constant):
        return
    step = meta.step + 1
    rates = learning_rate(training, step, target), learning_rate(earlier, step, meta.target_steps)
    length = f"the schedule runs to step {target}" + (f" instead of {meta.target_steps}" if target != meta.target_steps else "")
    yield f"{length}: the learning rate of step {step} is {rates[0]:.3g}, and would have been {rates[1]:.3g}"


_TRAINING = {field.alias or name for name, field in Training.model_fields.items()}


def _other_schedule(was: Schedule, is_: Schedule) -> Iterator[str]:
    """The changed fields of the schedule, for a training that is complete: it has no next step."""
    before, now = was.model_dump(by_alias=True), is_.model_dump(by_alias=True)
    for key in now:
        if before[key] != now[key]:
            yield f"spec.training.schedule.{key} is {_shown(now[key])} and was {_shown(before[key])}"


def _shortened(manifest: Manifest, config: TrainerConfig, target: int) -> Iterator[str]:
    """Notice for a run that now ends at the step of its checkpoint: its schedule was made for more steps."""
    meant = manifest.meta.target_steps
    if meant is not None and manifest.meta.step == target < meant:
        field = "maxSteps" if config.training.max_steps is not None else "epochs"
        yield (
            f"spec.training.{field} ends the training at step {target}, the step of {manifest.name}, and the learning rate followed a "
            f"schedule of {meant} steps: no further step is trained"
        )


def _refusal(name: str, reasons: list[str]) -> str | None:
    if not reasons:
        return None
    return f"The run cannot resume from {name}. {'; '.join(reasons)}. Restore the earlier values, or {FROM_STEP_0}."


def _at_the_end(manifest: Manifest, config: TrainerConfig, target: int, told: list[str]) -> str | None:
    """Refusal if the checkpoint is beyond the last step, or if settings changed although no step is left to train."""
    field = "maxSteps" if config.training.max_steps is not None else "epochs"
    value = config.training.max_steps if config.training.max_steps is not None else config.training.epochs
    step = manifest.meta.step
    if step > target:
        least = step + 1 if told else step  # with changed settings a complete training would be refused next
        return (
            f"spec.training.{field} is {value}, but {manifest.name} was saved after {step} steps. "
            f"Raise it to at least {least}, name an earlier checkpoint in spec.checkpoint.resume, or {FROM_STEP_0}."
        )
    if step == target and told:
        return (
            f"spec.training.{field} is {value}, and {manifest.name} has completed all steps, so no step would use the changed settings "
            f"({'; '.join(told)}). Raise spec.training.{field} to continue training, or {FROM_STEP_0}."
        )
    return None


def _shown(value: Any) -> str:
    if value is None:
        return "not set"
    if isinstance(value, Mapping):
        return "set"
    if isinstance(value, list):
        text = ", ".join(map(_shown, value)) or "empty"
    else:
        text = "true" if value is True else "false" if value is False else str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
