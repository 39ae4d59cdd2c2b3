"""`checkpoints list` and `verify`: rows, exit codes, and a quick start."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from gang import INDEX, Gang, damage

from llmtrain_trainer.checkpoint.commands import checkpoints

FIRST, SECOND = "step-00000010-a0-r0", "step-00000020-a0-r1"


def run(action: str, uri: str) -> tuple[int, list[dict[str, object]]]:
    said: list[str] = []
    code = checkpoints(action, uri, "json", said.append)  # type: ignore[arg-type]
    return code, json.loads("".join(said))


def test_a_listing_has_the_newest_first_and_compares_no_digests(gang: Gang, uri: str) -> None:
    gang.save(FIRST)
    gang.save(SECOND)
    code, rows = run("list", uri)
    assert code == 0
    assert [row["name"] for row in rows] == [SECOND, FIRST]
    created = rows[0].pop("created")
    assert isinstance(created, float)
    assert rows[0] == {
        "name": SECOND, "step": 20, "attempt": 0, "round": 1, "bytes": 2000 + len(INDEX), "files": 3, "committed": True,
        "verified": None, "problem": None,
    }  # fmt: skip


def test_verify_names_the_damaged_file_and_fails(gang: Gang, uri: str) -> None:
    gang.save(FIRST)
    gang.save(SECOND)
    damage(gang.store, f"{SECOND}/__0_0.distcp", change="flip")
    assert run("list", uri)[0] == 0, "a listing reads no shards"
    code, rows = run("verify", uri)
    assert code == 1
    assert [row["verified"] for row in rows] == [False, True]
    assert f"{SECOND}/__0_0.distcp has sha256" in str(rows[0]["problem"])


def test_an_upload_on_its_way_is_shown_and_is_no_failure(tmp_path: Path, gang: Gang, uri: str) -> None:
    two = Gang(tmp_path / "two", gang.store, nodes=2)
    two.stage(FIRST, nodes=[0])
    two.poll()
    code, rows = run("verify", uri)
    assert code == 0
    assert (rows[0]["committed"], rows[0]["verified"]) == (False, False)


def test_people_read_a_table(gang: Gang, uri: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert checkpoints("list", uri, "text") == 0
    gang.save(FIRST)
    assert checkpoints("verify", uri, "text") == 0
    empty, head, row = capsys.readouterr().out.splitlines()
    assert empty == f"No checkpoints in {uri}."
    assert head.split() == ["NAME", "STEP", "SIZE", "FILES", "CREATED", "(UTC)", "STATE"]
    assert row.split()[:5] == [FIRST, "10", "2.1", "KiB", "3"] and row.endswith("verified")


def test_a_store_that_cannot_be_opened_is_an_error_of_the_store() -> None:
    said: list[str] = []
    assert checkpoints("list", "ftp://host/path", "json", said.append) == 74
    assert "must be s3://bucket/prefix" in json.loads(said[0])["error"]


def test_the_agents_side_never_imports_torch() -> None:
    modules = "commands uploader restore store.store store.s3_store store.file_store staging commit"
    code = (
        "import sys; "
        + "; ".join(f"import llmtrain_trainer.checkpoint.{name}" for name in modules.split())
        + "; print('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
