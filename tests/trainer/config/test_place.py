"""Many texts name one place; each store opens at the one that `place` says."""

from __future__ import annotations

import pytest

from llmtrain_trainer.checkpoint.store.destination import open_store
from llmtrain_trainer.checkpoint.store.errors import StoreRefusedError
from llmtrain_trainer.config import place

SAME = [
    (
        "s3://b/x",
        "s3://b/x/",
        "s3://b//x",
        "s3://b/x//",
        "s3://b/./x",
        "s3://b/a/../x",
        "s3://b/x?1",
        "s3://b/x#1",
        "s3://B/x",
        " s3://b/x ",
    ),
    ("s3://b", "s3://b/", "s3://b//", "s3://b/?x", "s3://b/."),
    ("pvc://c/x", "pvc://c//x/", "file:///mnt/pvc/c/x", "file:////mnt/pvc/./c/x/"),
    ("pvc://c", "pvc://c/", "file:///mnt/pvc/c"),
    ("file:///a/b", "file:////a/b", "file:///a//b/", "file:///a/./b", "file:///a/c/../b", "file://localhost/a/b", "file:///a/b?x"),
    ("s3://b/X",),
    ("s3://b/a/x",),
]


@pytest.mark.parametrize("texts", SAME, ids=[texts[0] for texts in SAME])
def test_texts_of_one_place_are_one(texts: tuple[str, ...]) -> None:
    assert {place(text) for text in texts} == {texts[0]}
    assert place(texts[0]) == texts[0]


def test_other_places_are_others() -> None:
    assert len({texts[0] for texts in SAME}) == len({place(texts[-1]) for texts in SAME}) == len(SAME)


@pytest.mark.parametrize("text", SAME[0][:-1])
def test_the_store_of_each_text_is_at_the_one_place(text: str) -> None:
    assert open_store(text).uri("step-1/COMMIT") == "s3://b/x/step-1/COMMIT"


@pytest.mark.parametrize(
    "text", ["s3://b/../c", "pvc://c/../d/x", "file:///../x", "s3:///x", "pvc:///x", "s3://b/x\ny", "file://host/x", "x", ""]
)
def test_what_names_no_place_or_one_outside_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        place(text)
    with pytest.raises(StoreRefusedError, match=r"checkpoint.destination is"):
        open_store(text)
