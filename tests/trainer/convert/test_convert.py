"""`convert` there and back: the weights that come out are those that went in, so logits are equal; what cannot be converted is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM

from llmtrain_trainer.checkpoint.manifest import MANIFEST
from llmtrain_trainer.config import TrainerConfig
from llmtrain_trainer.convert.command import WeightsLocation, convert
from llmtrain_trainer.convert.launch import load_script
from llmtrain_trainer.data.bad_data import BadData

ROOT = Path(__file__).parents[3]
STAND_IN = ROOT / "tests" / "trainer" / "engines" / "megatron"
LORA = {"method": "lora", "rank": 4, "alpha": 8.0}
IDS = torch.randint(0, 512, (2, 24), generator=torch.Generator().manual_seed(3))


@pytest.fixture(scope="session")
def parity() -> ModuleType:
    """benchmarks/parity.py: its variants and config_of."""
    return load_script(ROOT / "benchmarks" / "parity.py")


@pytest.fixture
def configured(parity: ModuleType) -> Callable[..., TrainerConfig]:
    """The config of a small job: a variant of parity.py, an engine, a layout."""
    shapes = {variant.variant: variant.shape for variant in parity.VARIANTS}

    def make(variant: str, engine: str, **more: Any) -> TrainerConfig:
        found: TrainerConfig = parity.config_of(parity.Case(variant=variant, engine=engine, shape=shapes[variant], **more), 5)
        return found

    return make


def published(config: TrainerConfig, directory: Path) -> Path:
    """Random weights as transformers publishes them."""
    directory.mkdir(parents=True)
    (directory / "config.json").write_text(json.dumps(config.model.config))
    torch.manual_seed(11)
    AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(directory)).save_pretrained(directory)
    return directory


def logits(directory: Path) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()(IDS).logits
    return found


def place(format: Any, directory: Path) -> WeightsLocation:
    return WeightsLocation(format=format, uri=f"file://{directory}")


def manifest(store: Path) -> dict[str, Any]:
    (found,) = store.glob(f"step-*/{MANIFEST}")
    read: dict[str, Any] = json.loads(found.read_text())
    return read


THERE_AND_BACK = [
    ("grouped-query", "native", {"tp": 2}),
    ("mixtral", "native", {"dp": 2}),
    ("tied-embeddings", "native", {"pp": 2}),
    ("grouped-query", "deepspeed", {"dp": 2, "zero_stage": 3}),
    ("tied-embeddings", "deepspeed", {"dp": 2, "zero_stage": 1}),
    ("gpt2", "deepspeed", {"zero_stage": 0}),
]


@pytest.mark.processes
@pytest.mark.parametrize(("variant", "engine", "mesh"), THERE_AND_BACK)
def test_weights_come_back_as_they_went(
    configured: Callable[..., TrainerConfig], tmp_path: Path, variant: str, engine: str, mesh: dict[str, int]
) -> None:
    config = configured(variant, engine, **mesh)
    before = published(config, tmp_path / "before")
    convert(config, place("hf", before), place(engine, tmp_path / "store"))
    convert(config, place(engine, tmp_path / "store"), place("hf", tmp_path / "after"))
    assert torch.equal(logits(tmp_path / "after"), logits(before))


@pytest.mark.processes
def test_a_checkpoint_goes_to_another_engine_at_its_step(configured: Callable[..., TrainerConfig], tmp_path: Path) -> None:
    native, other = configured("grouped-query", "native", tp=2), configured("grouped-query", "deepspeed", dp=2, zero_stage=2)
    before = published(native, tmp_path / "before")
    convert(native, place("hf", before), place("native", tmp_path / "native"))
    convert(other, place("native", tmp_path / "native"), place("deepspeed", tmp_path / "deepspeed"))
    convert(other, place("deepspeed", tmp_path / "deepspeed"), place("hf", tmp_path / "after"))
    assert torch.equal(logits(tmp_path / "after"), logits(before))
    meta = manifest(tmp_path / "deepspeed")["meta"]
    assert (meta["engine"], meta["format"], meta["step"], meta["mesh"]["dp"]) == ("deepspeed", "deepspeed", 0, 2)


@pytest.mark.processes
@pytest.mark.parametrize(("variant", "mesh"), [("mixtral", {"tp": 2})])
def test_megatron_files_come_back_without_megatron_ranks(
    configured: Callable[..., TrainerConfig], tmp_path: Path, variant: str, mesh: dict[str, int]
) -> None:
    """Written by ranks with the stand-in for CUDA, by the command itself; read in this process, from the files alone."""
    config = configured(variant, "megatron", zero_stage=1, **mesh)
    before = published(config, tmp_path / "before")
    (tmp_path / "config.json").write_text(config.model_dump_json(by_alias=True))
    command = [sys.executable, "-m", "llmtrain_trainer", "convert", "--config", str(tmp_path / "config.json")]
    command += ["--from", f"file://{before}", "--from-format", "hf", "--to", f"file://{tmp_path / 'store'}", "--to-format", "megatron"]
    environment = os.environ | {"LLMTRAIN_CUDA_STAND_IN": "cuda_stand_in", "PYTHONPATH": str(STAND_IN)}
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    assert "Wrote checkpoint step-00000000-a0-r0" in answer.stdout
    convert(config, place("megatron", tmp_path / "store"), place("hf", tmp_path / "after"))
    assert torch.equal(logits(tmp_path / "after"), logits(before))


@pytest.mark.processes
def test_what_is_damaged_is_not_converted(configured: Callable[..., TrainerConfig], tmp_path: Path) -> None:
    config = configured("grouped-query", "native")
    convert(config, place("hf", published(config, tmp_path / "before")), place("native", tmp_path / "store"))
    (shard,) = (tmp_path / "store").glob("step-*/*.distcp")
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    with pytest.raises(BadData, match="there is no good checkpoint"):
        convert(config, place("native", tmp_path / "store"), place("hf", tmp_path / "after"))
    assert not (tmp_path / "after").exists()


@pytest.mark.processes
def test_bf16_jobs_publish_bf16(configured: Callable[..., TrainerConfig], tmp_path: Path) -> None:
    config = configured("grouped-query", "native")
    half = config.model_copy(update={"training": config.training.model_copy(update={"precision": "bf16"})})
    convert(config, place("hf", published(config, tmp_path / "before")), place("native", tmp_path / "store"))
    convert(half, place("native", tmp_path / "store"), place("hf", tmp_path / "after"))
    (file,) = (tmp_path / "after").glob("*.safetensors")
    assert {weight.dtype for weight in load_file(file).values()} == {torch.bfloat16}


def adapters(config: TrainerConfig, directory: Path, **settings: Any) -> Path:
    """Random adapters as peft publishes them."""
    directory.mkdir(parents=True)
    (directory / "config.json").write_text(json.dumps(config.model.config))
    network = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(directory))
    torch.manual_seed(5)
    model = get_peft_model(
        network, LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", r=4, init_lora_weights=False, **settings)
    )
    model.save_pretrained(directory)
    return directory


@pytest.mark.processes
def test_adapters_go_from_engine_to_engine_without_their_model(configured: Callable[..., TrainerConfig], tmp_path: Path) -> None:
    native, other = configured("plain", "native", tp=2, peft=LORA), configured("plain", "deepspeed", dp=2, zero_stage=3, peft=LORA)
    before = adapters(native, tmp_path / "before", lora_alpha=8)
    weights = {"config": None, "source": f"file://{published(native, tmp_path / 'model')}"}
    other = other.model_copy(update={"model": other.model.model_copy(update=weights)})
    convert(native, place("hf", before), place("native", tmp_path / "native"))
    convert(other, place("native", tmp_path / "native"), place("deepspeed", tmp_path / "deepspeed"))
    convert(other, place("deepspeed", tmp_path / "deepspeed"), place("hf", tmp_path / "after"))
    stored, found = (load_file(directory / "adapter_model.safetensors") for directory in (before, tmp_path / "after"))
    assert len(stored) == 4 * 7 * 2 and stored.keys() == found.keys()
    assert all(torch.equal(found[name], weight) for name, weight in stored.items())
    PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tmp_path / "model"), tmp_path / "after")


def test_adapters_of_another_scale_are_refused(configured: Callable[..., TrainerConfig], tmp_path: Path) -> None:
    config = configured("plain", "native", peft=LORA)
    with pytest.raises(BadData, match=r"its lora_alpha is 16, and spec.peft makes it 8.0. Set spec.peft as it was trained"):
        convert(config, place("hf", adapters(config, tmp_path / "from", lora_alpha=16)), place("native", tmp_path / "to"))
    assert not (tmp_path / "to").exists()


@pytest.mark.processes
def test_a_manifest_with_adapters_does_not_fit_a_checkpoint_without(configured: Callable[..., TrainerConfig], tmp_path: Path) -> None:
    config = configured("plain", "native")
    convert(config, place("hf", published(config, tmp_path / "before")), place("native", tmp_path / "store"))
    with pytest.raises(BadData, match="written by a run without adapters"):
        convert(configured("plain", "native", peft=LORA), place("native", tmp_path / "store"), place("hf", tmp_path / "after"))


REFUSED = [
    ("native", "hf", "hf", {}, None, "--to-format is hf: the source has that format already. Copy the files."),
    ("native", "hf", "deepspeed", {}, None, "--to-format is deepspeed: the manifest's engine is native"),
    ("native", "hf", "native", {}, 7, "--step is 7: Hugging Face's files have no steps. Leave it out."),
    ("native", "megatron", "native", {"peft": LORA}, None, "spec.peft.method is lora: engine megatron has no adapters. Leave peft out"),
    ("native", "hf", "native", {"peft": LORA}, None, "there is no file"),
    ("native", "hf", "native", {}, None, "there is no file"),
    ("native", "native", "hf", {}, None, "there is no checkpoint"),
    ("native", "native", "hf", {}, 3, "has no good checkpoint of that step"),
]


@pytest.mark.parametrize(("engine", "source", "target", "more", "step", "words"), REFUSED)
def test_what_cannot_be_converted_is_refused(
    configured: Callable[..., TrainerConfig],
    tmp_path: Path,
    engine: str,
    source: str,
    target: str,
    more: dict[str, Any],
    step: int | None,
    words: str,
) -> None:
    (tmp_path / "from").mkdir()
    with pytest.raises(ValueError) as caught:
        convert(configured("plain", engine, **more), place(source, tmp_path / "from"), place(target, tmp_path / "to"), step)
    assert words in str(caught.value)
    assert not (tmp_path / "to").exists()


def test_megatron_files_are_not_promised_without_gpus(configured: Callable[..., TrainerConfig], tmp_path: Path) -> None:
    config = configured("grouped-query", "megatron", zero_stage=1)
    with pytest.raises(BadData, match=r"writes its files on CUDA GPUs only: the layout takes 1, and here are 0. Convert to hf"):
        convert(config, place("hf", published(config, tmp_path / "before")), place("megatron", tmp_path / "to"))
    assert not (tmp_path / "to").exists()
