"""Volume claims inside a pod."""

from __future__ import annotations

import pytest

from llmtrain_trainer.config import place
from llmtrain_trainer.config.mounts import resolve, root_of


@pytest.mark.parametrize(
    ("uri", "here"),
    [
        ("pvc://claim/a/b", "file:///mnt/pvc/claim/a/b"),
        ("pvc://claim", "file:///mnt/pvc/claim"),
        ("s3://bucket/a", "s3://bucket/a"),
        ("file:///a", "file:///a"),
        ("hf://owner/name", "hf://owner/name"),
        ("xpvc://claim/a", "xpvc://claim/a"),
        ("pvc:claim", "pvc:claim"),
    ],
)
def test_a_claim_is_a_directory_of_the_pod_and_nothing_else_is_touched(uri: str, here: str) -> None:
    assert resolve(uri) == here


@pytest.mark.parametrize("uri", ["pvc://claim/a/b", "pvc://claim", "s3://b/x", "file:///a/b"])
def test_what_was_resolved_is_still_the_same_place(uri: str) -> None:
    assert place(resolve(uri)) == place(uri)


@pytest.mark.parametrize(
    ("path", "root"),
    [
        ("/mnt/pvc/claim/a/b", "/mnt/pvc/claim"),
        ("/mnt/pvc/claim", "/mnt/pvc/claim"),
        ("/mnt/pvc", None),
        ("/mnt/pvcs/claim", None),
        ("/data/mnt/pvc/claim", None),
        ("/a", None),
        ("", None),
    ],
)
def test_a_path_below_a_claim_names_where_it_is_mounted(path: str, root: str | None) -> None:
    assert root_of(path) == root
