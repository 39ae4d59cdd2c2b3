"""Which files of a directory, glob or repository are data, and which belong to the split."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import PurePosixPath
from typing import Any

from llmtrain_trainer.config.dataset import Dataset
from llmtrain_trainer.config.tables.slices import name_of
from llmtrain_trainer.data.bad_data import BadData
from llmtrain_trainer.data.blame import blamed_on
from llmtrain_trainer.data.sources.files import DataFile
from llmtrain_trainer.data.sources.listing import Told
from llmtrain_trainer.data.sources.local_files import in_words
from llmtrain_trainer.data.sources.readers import READERS, ROWS
from llmtrain_trainer.data.sources.wanted import PLAIN

_UNREAD = re.compile(
    "feather|avro|orc|xlsx?|ods|pdf|epub|docx?|odt|bz2|xz|lz4|br|7z|rar|zip|tar|tgz|"
    "npy|npz|h5|hdf5|tfrecord|msgpack|pkl|pickle|pt|bin|idx|db|sqlite|lance"
)
"""Endings of files that may well be data and are not read: passing them over could lose a part of it."""

_ABOUT = re.compile(r"(readme|licen[cs]e|copying|notice|authors|contributing|changelog|citation)([._-].*)?", re.IGNORECASE)
"""What stands beside data and tells of it."""

_DATA = "|".join(READERS)
_MARKERS = re.compile(
    rf"_(?!.*\.({_DATA})(\.(gz|zst))?$).*|.*_\$folder\$|.*\.(crc|md5|sha1|sha256|sha512|lock|part|tmp)|Thumbs\.db|desktop\.ini"
)
"""_SUCCESS and its like, checksums, what a writer has not finished, what a desktop leaves behind."""

_WORKPLACES = frozenset(("_temporary", "_delta_log", "_spark_metadata", "__MACOSX"))
"""Directories in which Spark, Delta Lake and archives of a desktop keep what is no data or not yet."""

_CARDS = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "_metadata", "_common_metadata")
"""What the datasets library and Spark write beside data."""

_WORDS = ("train", "test", "validation", "valid", "val", "eval", "dev")


def data_files(field: str, dataset: Dataset, files: Sequence[DataFile], told: Told) -> list[DataFile]:
    """Those that hold data. Files that the source asks for by name are; of a directory, what is passed over is told with its names.

    Raises BadData where there are none, or one that may be data and cannot be read.
    """
    plain = {file.kind for file in files if file.kind and not PurePosixPath(file.name).name.startswith("_")}
    candidates = [file for file in files if file.asked or not _is_marker(file, plain)]
    structured = any(file.kind in ROWS for file in candidates)
    chosen = [file for file in candidates if file.asked or _is_data(dataset, file, structured=structured)]
    unread = [file for file in candidates if _UNREAD.fullmatch(file.kind)]
    if unread:
        names = in_words([file.name for file in unread])
        way_out = "Convert it to .jsonl or .parquet, or name the files that are to be read with a glob, such as *.jsonl"
        raise BadData(f"{field}.source", dataset.source, f"{names}: a .{unread[0].kind} file is not read", way_out)
    passed = [file.name for file in files if file not in chosen]
    if not chosen:
        way_out = "Name the files that are to be read, or a glob for them"
        raise BadData(f"{field}.source", dataset.source, f"there is no file with data (found {in_words(passed)})", way_out)
    if passed:
        told(f"{field}: {len(passed)} of {len(files)} files in {dataset.source} are no data and are passed over: {in_words(passed)}.")
    texts = [file.name for file in chosen if structured and not file.asked and file.kind not in ROWS]
    if texts:
        told(f"{field}: {in_words(texts)} in {dataset.source} {'is' if len(texts) == 1 else 'are'} read as text beside files with rows.")
    return chosen


def _is_marker(file: DataFile, plain: set[str]) -> bool:
    """`plain`: endings of the files beside it whose names begin otherwise. One of them, such as __init__.py among .py, is no marker."""
    name = PurePosixPath(file.name).name
    if _WORKPLACES.intersection(PurePosixPath(file.name).parent.parts):
        return True
    if name.startswith("_") and file.kind in plain and name not in _CARDS:
        return False
    return _MARKERS.fullmatch(name) is not None or name in _CARDS


def _is_data(dataset: Dataset, file: DataFile, *, structured: bool) -> bool:
    """Beside files with rows nothing else is; among texts what tells of them is not, where it stands at the top."""
    about = _ABOUT.fullmatch(PurePosixPath(file.name).name) is not None
    if not structured:
        return not (about and "/" not in file.name)
    return file.kind in READERS and not (about and file.kind not in ROWS) and (file.kind != "txt" or dataset.format in PLAIN)


CARD = "README.md"
"""The file of a repository that may say which files a subset has."""


def of_subset(field: str, dataset: Dataset, files: list[DataFile], everything: Sequence[DataFile], told: Told) -> list[DataFile]:
    """Those of the subset and the split that the dataset names: as the repository's card says, else by the names of its files.

    `everything`: what was listed, the card too. Raises BadData where there are none.
    """
    if dataset.subset is None:
        return of_split(field, dataset, files, told)
    card = next((file for file in everything if file.name == CARD), None)
    subsets = _subsets(field, dataset.subset, card) if card else {}
    if dataset.subset in subsets:
        return _of_card(field, dataset, files, subsets[dataset.subset], told)
    named = [file for file in files if _names(file.name, dataset.subset)]
    if not named:
        there = subsets or dict.fromkeys(file.name.partition("/")[0] for file in files)
        rule = f"no file of {dataset.source} is named after it (found {in_words(list(there))})"
        raise BadData(f"{field}.subset", dataset.subset, rule, "Write one of the subsets, or leave it out and name the files in source")
    return of_split(field, dataset, named, told)


def _of_card(field: str, dataset: Dataset, files: list[DataFile], about: dict[str, Any], told: Told) -> list[DataFile]:
    """Those of a subset and the split, as the card says. `about`: what it says of the subset."""
    inside = _plain(str(about.get("data_dir") or ""))
    inside = f"{inside.rstrip('/')}/" if inside.strip("/") else ""
    there = [file for file in files if file.name.startswith(inside)]
    if inside and not there:
        rule = f"{CARD} says that its files are in {inside}, where none are"
        raise BadData(f"{field}.subset", dataset.subset, rule, "Leave it out, and name the files in source")
    if inside and not about.get("data_files"):
        return of_split(field, dataset, there, told)
    splits = _patterns(about.get("data_files"))
    patterns = [inside + _plain(pattern).removeprefix(inside) for pattern in splits.get(name_of(dataset.split), [])]
    chosen = [file for file in there if any(fnmatch(file.name, pattern) for pattern in patterns)]
    if not chosen:
        rule = f"its subset {dataset.subset} has no files of this split (found {', '.join(splits) or 'none'})"
        raise BadData(f"{field}.split", dataset.split, rule, "Write one of them")
    return chosen


def _plain(path: str) -> str:
    """Without the dot that stands for the repository's top."""
    return "" if path == "." else path.removeprefix("./")


def _subsets(field: str, subset: str, card: DataFile) -> dict[str, dict[str, Any]]:
    """Subset -> what the card's metadata say of it; none where it has no such metadata. Raises BadData for what is no metadata."""
    from huggingface_hub import metadata_load

    way_out = "Correct the file, or leave subset out and name the files in source"
    with blamed_on(f"{field}.subset", subset, f"the metadata in {CARD}, which name its files, cannot be read", way_out):
        found = (metadata_load(card.local) or {}).get("configs") if card.local else None
    configs = [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []
    return {str(each.get("config_name")): each for each in configs}


def _patterns(given: Any) -> dict[str, list[str]]:
    """`data_files` of a card: patterns of the training split, or of each split."""
    items = given if isinstance(given, list) else [given]
    found: dict[str, list[str]] = {}
    for item in items:
        split, paths = (str(item.get("split")), item.get("path")) if isinstance(item, dict) else ("train", item)
        found.setdefault(split, []).extend(path for path in (paths if isinstance(paths, list) else [paths]) if isinstance(path, str))
    return found


def of_split(field: str, dataset: Dataset, files: list[DataFile], told: Told) -> list[DataFile]:
    """By the convention of hub repositories: the split's name is a word in the file's path. A file that the source names is taken as it is
    where the split is the default one, and so is a directory outside the hub."""
    split = name_of(dataset.split)
    repository = dataset.source.startswith("hf://")
    if not repository and dataset.subset is None and split == "train":
        _tell_of_splits(field, dataset, files, told)
        return files
    if all(file.asked for file in files) and split == "train":
        return files
    chosen = [file for file in files if _names(file.name, split)]
    if not chosen and split == "train" and not any(_names(file.name, word) for file in files for word in _WORDS):
        return files
    if not chosen:
        where = "the repository" if repository else dataset.source
        rule = f"no file of {where} is named after it (found {in_words([file.name for file in files])})"
        way_out = "hf://owner/name/path*" if repository else "file:///data/test-*.jsonl"
        raise BadData(f"{field}.split", dataset.split, rule, f"Leave split out, and name the files in source, such as {way_out}")
    return chosen


def _tell_of_splits(field: str, dataset: Dataset, files: Sequence[DataFile], told: Told) -> None:
    """A directory is read whole; whoever keeps test data in it has to know."""
    others = [file.name for file in files if not file.asked and any(_names(file.name, word) for word in _WORDS[1:])]
    if others and any(_names(file.name, "train") for file in files):
        told(f"{field}: {in_words(others)} in {dataset.source} is trained on too; name the files that are to be read with a glob.")


def _names(name: str, word: str) -> bool:
    return re.search(rf"(^|[/_.-]){re.escape(word)}([/_.-]|$)", name) is not None
