"""The labels of a classifier, and its head, which has one output for each: in config.json, and drawn where the model's files have none."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from llmtrain_trainer.config.dataset import Dataset
from llmtrain_trainer.config.tables.tasks import TASKS, Task
from llmtrain_trainer.config.trainer import TrainerConfig
from llmtrain_trainer.data.bad_data import BadData
from llmtrain_trainer.data.cache import build_once, digest
from llmtrain_trainer.data.columns import Ints
from llmtrain_trainer.data.formats.cells import in_order, said_label, shown
from llmtrain_trainer.data.sources.dataset import read_rows
from llmtrain_trainer.data.sources.reading import Reading
from llmtrain_trainer.model.new_head import SCORE, write_new_head
from llmtrain_trainer.model.weight_files import WrongWeightsError, read_headers
from llmtrain_trainer.prepare.entries import DatasetEntry
from llmtrain_trainer.run_dir.layout import write_atomically

MOST_LABELS = 1000
"""Labels that are taken from data; a column with more of them holds something else."""

NAMES = "labels.json"

Note = Callable[[str], None]


def place_head(config: TrainerConfig, directory: Path, found: Callable[[], tuple[str, ...]], note: Note) -> tuple[str, ...]:
    """The labels in the order of the head's outputs; config.json in `directory` then describes a classifier of them.

    `found`: the labels of the data, asked for where neither the manifest nor the model names any. Raises BadData.
    """
    shape = json.loads((directory / "config.json").read_text())
    pretrained = config.model.config is None and config.model.init == "pretrained"
    own = _own(shape, directory) if pretrained else ()
    labels = config.labels or own or found()
    if pretrained and not _fits(labels, own, note):
        write_new_head(directory, SCORE)
    if config.model.config is not None and (given := [key for key in ("num_labels", "id2label", "label2id") if key in shape]):
        note(f"model.config.{given[0]}: it has no effect; the labels are {shown(labels)}.")
    describe_head(config.task, directory, labels)
    return labels


def describe_head(task: Task, directory: Path, labels: Sequence[str]) -> None:
    """Let config.json in `directory` be that of a classifier. Raises BadData where transformers has none of the family."""
    shape = json.loads((directory / "config.json").read_text())
    shape.pop("num_labels", None)
    shape |= {
        "architectures": [_class_of(task, str(shape.get("model_type")))],
        "id2label": {str(place): label for place, label in enumerate(labels)},
        "label2id": {label: place for place, label in enumerate(labels)},
        "problem_type": "single_label_classification",
    }
    write_atomically(directory / "config.json", json.dumps(shape, indent=2) + "\n")


def labels_in(entries: Sequence[DatasetEntry], cache: Path, note: Note) -> tuple[str, ...]:
    """The labels that rows of the training data have. Raises BadData where they are none to learn."""
    if streamed := next((entry for entry in entries if entry.dataset.streaming), None):
        rule = f"{streamed.field} is streamed, so its labels are not known before training"
        raise BadData("labels", "not set", rule, "Name them, such as labels: [negative, positive]")
    key = digest(NAMES, [(entry.identity(cache), entry.dataset.columns.label) for entry in entries])
    kept = build_once(cache / "labels" / key, lambda draft: _keep(entries, draft), note, _kept)
    labels = _kept(kept)
    note(f"labels: the data has {len(labels)}, learned in this order: {shown(labels)} (labels in the manifest gives another).")
    return labels


def never_seen(labels: Sequence[str], counts: Sequence[Ints], datasets: Sequence[Dataset]) -> Iterator[str]:
    """A sentence on labels that no row of the training data has. counts: rows of each label, by dataset; they may end early."""
    seen = {place for each in counts for place, count in enumerate(each.tolist()) if count}
    unseen = [label for place, label in enumerate(labels) if place not in seen]
    if unseen and not any(dataset.streaming for dataset in datasets):
        yield f"labels: no row of the training data has {shown(unseen)}, so that is not learned."


def _keep(entries: Sequence[DatasetEntry], draft: Path) -> None:
    found: set[str] = set()
    for entry in entries:
        found |= _labels_of(entry)
    if len(found) < 2:
        rule = f"every row of the training data has the label {next(iter(found), 'that is empty')}, and there is nothing to tell apart"
        raise BadData("labels", "not set", rule, "Give data of at least two labels, or check columns.label of the dataset")
    (draft / NAMES).write_text(json.dumps(in_order(found)))


def _kept(directory: Path) -> tuple[str, ...]:
    """What _keep wrote. Raises ValueError."""
    found: tuple[str, ...] = tuple(json.loads((directory / NAMES).read_text()))
    if not all(isinstance(label, str) for label in found):
        raise ValueError(f"{NAMES} holds no list of labels")
    return found


def _labels_of(entry: DatasetEntry) -> set[str]:
    """What cannot be read is judged where rows are encoded."""
    reading, found = Reading(), set[str]()
    for row in read_rows(entry.field, entry.dataset, entry.files, reading):
        try:
            found.add(said_label(entry.field, entry.dataset, row))
        except BadData as error:
            reading.skip(entry.dataset, error)
        if len(found) > MOST_LABELS:
            rule = f"it has more than {MOST_LABELS} different values, which is text rather than a label"
            way_out = f"Set {entry.field}.columns.label to the column with the label, or name all of them in labels"
            raise BadData(f"{entry.field}.columns.label", entry.dataset.columns.label, rule, way_out)
    return found - {""}


def _own(shape: dict[str, Any], directory: Path) -> tuple[str, ...]:
    """Labels of a head that the model's files hold; empty where they hold none."""
    if not any(str(name).endswith("ForSequenceClassification") for name in shape.get("architectures") or ()):
        return ()
    try:
        weight = read_headers(directory).get(f"{SCORE}.weight")
    except WrongWeightsError:  # the model is refused for that
        return ()
    if weight is None:
        return ()
    named = shape.get("id2label") or {}
    names = tuple(str(named.get(str(place), _unnamed(place))) for place in range(weight.shape[0]))
    return names if len(set(names)) == len(names) else tuple(map(_unnamed, range(len(names))))


def _unnamed(place: int) -> str:
    """What transformers calls a label without a name."""
    return f"LABEL_{place}"


def _fits(labels: tuple[str, ...], own: tuple[str, ...], note: Note) -> bool:
    """Whether training starts with the model's own head. Raises BadData where its outputs are in another order."""
    if labels == own:
        return True
    if len(labels) == len(own) and own == tuple(map(_unnamed, range(len(own)))):
        note(f"model.source: the outputs of its head have no names; in their order they are called {shown(labels)}.")
        return True
    if sorted(labels) == sorted(own):
        rule = f"the outputs of the model's head are in another order ({shown(own)})"
        raise BadData("labels", shown(labels), rule, "Write them in that order, or leave labels out")
    of = f"its head has the labels {shown(own)}" if own else "it has no head for labels"
    note(f"model.source: {of}; a head for {shown(labels)} is drawn from training.seed.")
    return False


def _class_of(task: Task, model_type: str) -> str:
    """Name of the classifier in transformers. Raises BadData where it has none of that family."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES as CLASSES

    if model_type in CLASSES:
        return str(CLASSES[model_type])
    able = ", ".join(name for name, traits in TASKS.items() if not traits.labels)
    rule = f"transformers has no classifier of model_type {model_type}"
    raise BadData("task", task, rule, f"Use a model of another family, or one of the tasks {able}")
