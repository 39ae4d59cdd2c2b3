"""`llmtrain import`: the manifest that it writes, what it prints, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from llmtrain_operator.cli.app import invoke
from llmtrain_operator.cli.manifest import load_manifest

RECIPE = """
base_model: acme/llama-1b
datasets: [{path: acme/instructions, type: alpaca}]
adapter: lora
lora_r: 8
lora_alpha: 16
lora_target_linear: true
sequence_len: 512
micro_batch_size: 2
gradient_accumulation_steps: 4
num_epochs: 1
learning_rate: 0.0002
output_dir: ./out
plugins: [my.Plugin]
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "My Recipe.yml"
    path.write_text(RECIPE)
    return path


def test_the_manifest_is_valid_and_the_last_line_says_what_comes_next(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = tmp_path / "job.yaml"
    assert invoke(["import", str(recipe), "--from", "axolotl", "-f", str(job)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].endswith(f"1 cannot be said. {job} is written. It is valid. Next: llmtrain plan -f {job}")
    assert any(line.startswith("maps") and "peft.rank: 8" in line for line in lines)
    assert lines[-2].startswith("cannot be said") and "plugins" in lines[-2]
    assert "#   plugins: my.Plugin is not known" in job.read_text()
    assert load_manifest(job, None).metadata.name == "my-recipe"


def test_on_standard_output_there_is_only_the_manifest(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["import", str(recipe), "--from", "axolotl", "-f", "-"]) == 0
    printed = capsys.readouterr()
    assert yaml.safe_load(printed.out)["kind"] == "LLMTrainJob"
    assert "cannot be said" in printed.err


def test_what_the_manifest_still_needs_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "r.yaml").write_text("base_model: acme/llama-1b\nlearning_rate: 1e-4\n")
    assert invoke(["import", str(tmp_path / "r.yaml"), "--from", "axolotl", "-f", str(tmp_path / "job.yaml")]) == 2
    assert "spec.dataset" in capsys.readouterr().err


def test_the_register_of_datasets_is_found_in_the_directory_that_the_recipe_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "sets").mkdir()
    (tmp_path / "sets" / "dataset_info.json").write_text(json.dumps({"pairs": {"hf_hub_url": "acme/pairs"}}))
    (tmp_path / "r.yaml").write_text("model_name_or_path: acme/llama\ndataset: pairs\ndataset_dir: sets\noutput_dir: /out\n")
    assert invoke(["import", str(tmp_path / "r.yaml"), "--from", "llamafactory", "-f", "-"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["spec"]["dataset"] == [{"source": "hf://acme/pairs", "format": "alpaca"}]


@pytest.mark.parametrize(
    ("text", "options", "says"),
    [
        (RECIPE + "rl: grpo\n", [], "rl is grpo: this version has the tasks"),
        (RECIPE.replace("adapter: lora", "adapter: no-such"), [], "Take adapter out to train the rest"),
        ("a: [", [], "cannot be read as YAML"),
        ("- a\n- b\n", [], "a mapping of keys to values is expected"),
        (RECIPE, ["--from", "torchtune"], "recipes of axolotl and llamafactory can be read"),
        (RECIPE, ["--gpu", "H100-80GB"], "--gpu and --gpus-per-node belong together"),
        (RECIPE, ["-f", "{here}"], "already exists"),
        ("a: " + "x" * (1 << 20), [], "1 MiB"),
    ],
)
def test_a_refusal_says_what_to_do(text: str, options: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(text)
    given = [option.format(here=path) for option in options]
    assert invoke(["import", str(path), "--from", "axolotl", "-f", str(tmp_path / "job.yaml"), *given]) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "job.yaml").exists()


REGISTER = json.dumps({"pairs": {"file_name": "pairs.json"}})
USES_IT = "model_name_or_path: acme/llama\ndataset: pairs\noutput_dir: /out\n"


def test_the_register_is_found_here_and_its_paths_are_relative_to_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("recipes", "work/data"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "work" / "data" / "dataset_info.json").write_text(REGISTER)
    (tmp_path / "recipes" / "r.yaml").write_text(USES_IT)
    monkeypatch.chdir(tmp_path / "work")
    assert invoke(["import", "../recipes/r.yaml", "--from", "llamafactory", "-f", "-"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["spec"]["dataset"][0]["source"] == f"file://{tmp_path}/work/data/pairs.json"


def test_paths_of_a_recipe_hold_where_the_manifest_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: Path) -> None:
    (tmp_path / "jobs").mkdir()
    monkeypatch.chdir(tmp_path)
    assert invoke(["import", str(recipe), "--from", "axolotl", "-f", "jobs/job.yaml"]) == 0
    assert yaml.safe_load((tmp_path / "jobs" / "job.yaml").read_text())["spec"]["checkpoint"]["destination"] == f"file://{tmp_path}/out"


def test_a_key_cannot_write_into_the_manifest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "r.yaml").write_text(RECIPE + '"odd\\nkind: Other": 1\n')
    assert invoke(["import", str(tmp_path / "r.yaml"), "--from", "axolotl", "-f", str(tmp_path / "job.yaml")]) == 0
    assert yaml.safe_load((tmp_path / "job.yaml").read_text())["kind"] == "LLMTrainJob"
    assert "cannot be said   odd kind: Other" in capsys.readouterr().out


@pytest.mark.parametrize(
    "text",
    ["a: &a [*a]", "a: &a {b: *a}", "? [x]\n: y\n", "1: 2\ntrue: 3\n", "datasets: {a: 1}\n", "datasets: [[[1]]]\nrl: {a: [b]}\n", "\x00"],
)
@pytest.mark.parametrize("trainer", ["axolotl", "llamafactory"])
def test_no_recipe_is_a_bug(text: str, trainer: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "r.yaml").write_text(text)
    assert invoke(["import", str(tmp_path / "r.yaml"), "--from", trainer, "-f", "-"]) == 2
    assert "because of a bug" not in capsys.readouterr().err
