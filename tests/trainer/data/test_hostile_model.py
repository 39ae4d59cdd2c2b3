"""A model's directory is data: no code of it runs, nothing outside it is read, and what is no model is refused with its name."""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path
from typing import Any

import pytest
from model_place import Place
from small_model import write_model

from llmtrain_trainer.model.export import _write_config

ROOT = Path(__file__).parents[3] / "trainer_image"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = Place(tmp_path)
    write_model({}, made.source)
    return made


def rewrite_config(place: Place, **keys: Any) -> None:
    path = place.source / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | keys))


def write_header(path: Path, header: dict[str, Any], length: int | None = None) -> None:
    raw = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(raw) if length is None else length) + raw + b"1234")


def tensor(*shape: int, end: int = 4) -> dict[str, Any]:
    return {"weight": {"dtype": "F32", "shape": list(shape), "data_offsets": [0, end]}}


def test_code_of_a_repository_is_told_of_and_not_run_and_not_passed_on(place: Place, tmp_path: Path) -> None:
    canary = tmp_path / "the code ran"
    (place.source / "evil.py").write_text(f"import os\nos.mkdir({str(canary)!r})\n")
    rewrite_config(place, auto_map={"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M"}, attn_implementation="owner/kernel")
    assert place.prepare() == 512 and not canary.exists()
    named = "model.source: its config.json names code (auto_map, attn_implementation), which is not run"
    assert place.notes == [f"{named}: transformers' own llama is trained."]
    export = tmp_path / "export"
    export.mkdir()
    _write_config(place.model, export, __import__("torch").float32)
    assert not {"auto_map", "attn_implementation"} & set(json.loads((export / "config.json").read_text()))


def test_no_model_is_built_with_the_attention_that_its_config_names() -> None:
    """transformers would fetch a kernel of that name from the hub, and run it."""
    built = [(path, line) for path in ROOT.rglob("*.py") for line in path.read_text().splitlines() if re.search(r"\.from_config\(", line)]
    assert len(built) >= 2
    assert [(path.name, line) for path, line in built if "attn_implementation=" not in line] == []


@pytest.mark.parametrize(
    ("header", "length", "words"),
    [
        pytest.param({}, 100 << 30, "header too large", id="a header of 100 GB"),
        pytest.param({}, 2**64 - 1, "header too large", id="a header that wraps around"),
        pytest.param(tensor(1 << 40, end=1 << 42), None, "no whole safetensors file", id="a tensor of 4 TB in a small file"),
        pytest.param(tensor(1 << 33, 1 << 33), None, "overflow", id="a size that overflows"),
        pytest.param(tensor(0, 1 << 62, end=0), None, "no whole safetensors file", id="an empty one with a huge side"),
    ],
)
def test_a_header_that_lies_is_refused_before_memory_is_taken(place: Place, header: dict[str, Any], length: int | None, words: str) -> None:
    write_header(place.source / "model.safetensors", header, length)
    assert words in place.refused()


@pytest.mark.parametrize("name", ["../../x.safetensors", "/etc/passwd", "..", "x.safetensors/", "..safetensors", "a\\..\\x.safetensors"])
def test_an_index_points_to_files_of_the_directory_alone(place: Place, name: str) -> None:
    (place.source / "model.safetensors").rename(place.source / "x.safetensors")
    (place.source / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"lm_head.weight": name}}))
    said = place.refused()
    assert "names files outside the directory" in said or f"{name} is not there" in said


@pytest.mark.parametrize("name", ["config.json", "model.safetensors.index.json", "generation_config.json"])
@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 50_000, "[]", "", "{", '"words"'])
def test_a_file_that_is_no_settings_of_a_model_is_refused_by_its_name(place: Place, name: str, text: str) -> None:
    if name.endswith("index.json"):
        (place.source / "model.safetensors").rename(place.source / "x.safetensors")
    (place.source / name).write_text(text)
    assert name in place.refused()


@pytest.mark.parametrize("name", ["config.json", "generation_config.json"])
@pytest.mark.parametrize("ends", ["1e400", '"</s>"', "[1, 2.5]", '{"a": 1}', "[[1]]", "true"])
def test_ends_that_are_no_token_ids_are_refused_before_rows_are_made(place: Place, name: str, ends: str) -> None:
    said = json.loads((place.source / "config.json").read_text()) if name == "config.json" else {}
    (place.source / name).write_text(json.dumps(said | {"eos_token_id": "HERE"}).replace('"HERE"', ends))
    assert name in place.refused()


@pytest.mark.parametrize("target", ["/proc/self/environ", "/dev/zero", "../gone"])
@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_link_to_what_is_no_file_is_not_read(place: Place, name: str, target: str) -> None:
    (place.source / name).unlink()
    (place.source / name).symlink_to(target)
    assert f"there is no {name}" in place.refused()
