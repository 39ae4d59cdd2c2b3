"""A key of the job: who can write to the store alone cannot make a checkpoint that is believed."""

from __future__ import annotations

import hashlib
import hmac

import pytest

from llmtrain_trainer.checkpoint.manifest import CheckpointFile, Manifest, Meta, commit_of, encode, read_manifest
from llmtrain_trainer.checkpoint.signature import KEY, objection, sign
from llmtrain_trainer.checkpoint.store.errors import BadCheckpointError

NAME = "step-00000010-a0-r0"
FILES = (CheckpointFile(path=".metadata", bytes=1, sha256="0" * 64, node=0),)
MANIFEST = Manifest(name=NAME, save_id="s", created=0.0, meta=Meta(step=10), files=FILES)


def sealed_with(monkeypatch: pytest.MonkeyPatch, key: str | None) -> bytes:
    monkeypatch.setenv(KEY, key) if key is not None else monkeypatch.delenv(KEY, raising=False)
    return encode(commit_of(MANIFEST, encode(MANIFEST), 0.0))


def test_the_signature_is_the_hmac_of_the_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, "clé")
    assert sign(b"manifest") == hmac.digest("clé".encode(), b"manifest", "sha256").hex()
    assert sign(b"manifest") != hashlib.sha256(b"manifest").hexdigest()


@pytest.mark.parametrize("key", [None, ""])
def test_without_a_key_nothing_is_signed_and_nothing_objected_to(monkeypatch: pytest.MonkeyPatch, key: str | None) -> None:
    monkeypatch.setenv(KEY, key) if key is not None else monkeypatch.delenv(KEY, raising=False)
    assert sign(b"x") is None and objection(b"x", None) is None and objection(b"x", "anything") is None


@pytest.mark.parametrize(
    ("writer", "reader", "why"),
    [
        (None, None, None),
        ("ours", "ours", None),
        ("ours", None, None),
        (None, "ours", "is not signed with the key in LLMTRAIN_CHECKPOINT_KEY"),
        ("theirs", "ours", "is signed with another key than that in LLMTRAIN_CHECKPOINT_KEY"),
    ],
)
def test_who_has_the_key_believes_only_what_was_signed_with_it(
    monkeypatch: pytest.MonkeyPatch, writer: str | None, reader: str | None, why: str | None
) -> None:
    commit = sealed_with(monkeypatch, writer)
    sealed_with(monkeypatch, reader)
    if why is None:
        assert read_manifest(NAME, commit, encode(MANIFEST)) == MANIFEST
    else:
        with pytest.raises(BadCheckpointError, match=f"{NAME} {why}: somebody else wrote it, or it is older than the key"):
            read_manifest(NAME, commit, encode(MANIFEST))


def test_a_signature_of_other_bytes_is_no_signature_of_these(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, "ours")
    signature = sign(b"these")
    assert objection(b"these", signature) is None
    assert "another key" in (objection(b"those", signature) or "")
    assert "another key" in (objection(b"these", "") or "")
