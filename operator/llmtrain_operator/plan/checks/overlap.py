"""Rows that are both trained on and evaluated, as far as the manifest shows. A copy under another name is not seen. Pure."""

from __future__ import annotations

from dataclasses import replace
from fnmatch import fnmatchcase

from llmtrain_trainer.config.dataset import Dataset
from llmtrain_trainer.config.tables.slices import Slice, name_of, share_rows, slice_of

_MAGIC = "*?["


def overlap(trained: Dataset, evaluated: Dataset) -> bool | None:
    """Whether they have rows in common; None where that depends on the data."""
    if not (_share_files(trained, evaluated) and _share_splits(trained, evaluated)):
        return False
    one, other = _rows(trained), _rows(evaluated)
    if trained.where != evaluated.where and trained.where and evaluated.where:
        return False if share_rows(one, other) is False and trained.source == evaluated.source else None
    if trained.source == evaluated.source or Slice() == one == other:
        return share_rows(one, other)
    return None


def _rows(dataset: Dataset) -> Slice:
    """Its slice, as far as maxSamples lets it be read; with a condition that may be any length."""
    found = slice_of(dataset.split)
    if dataset.max_samples is None or dataset.where or found.stop or not (found.start or "0").isdecimal():
        return found
    return replace(found, stop=str(int(found.start or 0) + dataset.max_samples))


def _share_files(one: Dataset, other: Dataset) -> bool:
    """The same ones, or one names a directory or a pattern and the other what is in it."""
    return one.source == other.source or _holds(one.source, other.source) or _holds(other.source, one.source)


def _holds(outer: str, inner: str) -> bool:
    if any(mark in outer for mark in _MAGIC):
        return not any(mark in inner for mark in _MAGIC) and fnmatchcase(inner, outer)
    return inner.startswith(f"{outer.rstrip('/')}/")


def _share_splits(one: Dataset, other: Dataset) -> bool:
    """Outside of the hub the default split without a subset reads all files."""
    if one.subset != other.subset and one.subset and other.subset:
        return False
    names = [name_of(each.split) for each in (one, other)]
    whole = [
        not each.source.startswith("hf://") and each.subset is None and name == "train"
        for each, name in zip((one, other), names, strict=True)
    ]
    return names[0] == names[1] or any(whole)
