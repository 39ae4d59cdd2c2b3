"""A job that goes on with another engine: trained by agents, its checkpoint converted from one prefix of an S3 server to another."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from s3_server import S3Server

sys.path.insert(0, str(Path(__file__).parents[1] / "agent"))

import torch
from safetensors.torch import load_file
from tiny_agent import MODEL, Agent, Job
from transformers import AutoConfig, AutoModelForCausalLM

from llmtrain_trainer.checkpoint.restore import list_checkpoints
from llmtrain_trainer.checkpoint.store.destination import open_store
from llmtrain_trainer.config import ExitCode, TrainerConfig
from llmtrain_trainer.convert.command import WeightsLocation, convert
from llmtrain_trainer.convert.targets import publish
from llmtrain_trainer.prepare.model_files import SHAPE, WEIGHTS, local_files

pytestmark = pytest.mark.processes
ALONE = {"procsPerNode": 1, "dp": 1}


def config_at(job: Job, uri: str, **given: Any) -> TrainerConfig:
    """The tiny job with one rank, its checkpoints in an object store."""
    config = job.config(Path("/nowhere"), **given)
    assert config.checkpoint is not None
    return config.model_copy(update={"checkpoint": config.checkpoint.model_copy(update={"destination": uri})})


def run(config: TrainerConfig, root: Path, job: Job) -> Agent:
    agent = Agent(config, root, job.cache)
    try:
        assert agent.wait() == ExitCode.DONE, agent.log()
    finally:
        agent.process.kill()
    return agent


def test_a_job_goes_on_with_another_engine_at_the_step_it_had_reached(s3: S3Server, tmp_path: Path) -> None:
    bucket, job = s3.new_bucket(), Job(tmp_path)
    ours, theirs = f"s3://{bucket}/native", f"s3://{bucket}/deepspeed"
    first = run(config_at(job, ours, steps=8, every=6, mesh=ALONE), tmp_path / "first", job)
    other = config_at(job, theirs, steps=8, engine="deepspeed", mesh=ALONE | {"zeroStage": 2})

    said = convert(other, WeightsLocation(format="native", uri=ours), WeightsLocation(format="deepspeed", uri=theirs), 6)
    assert said == f"Wrote checkpoint step-00000006-a0-r0 to {theirs}, in the layout of the manifest and with the optimizer as it was."
    assert [found.step for found in list_checkpoints(open_store(theirs))] == [6]

    second = run(other, tmp_path / "second", job)
    (restored,) = second.events("restore")
    assert restored["step"] == 6
    assert sorted(second.losses()) == [7, 8]
    assert second.losses() == pytest.approx({step: first.losses()[step] for step in (7, 8)}, abs=1e-5)


def test_published_weights_come_back_from_an_object_store_as_they_went(s3: S3Server, tmp_path: Path) -> None:
    root, config = f"s3://{s3.new_bucket()}", config_at(Job(tmp_path), "s3://unused", mesh=ALONE)
    torch.manual_seed(11)
    AutoModelForCausalLM.from_config(AutoConfig.for_model(**MODEL)).save_pretrained(tmp_path / "before")
    publish(tmp_path / "before", open_store(f"{root}/before"))
    convert(config, WeightsLocation(format="hf", uri=f"{root}/before"), WeightsLocation(format="native", uri=f"{root}/native"))
    convert(config, WeightsLocation(format="native", uri=f"{root}/native"), WeightsLocation(format="hf", uri=f"{root}/after"))
    files = {path.name: path for path in local_files("test", f"{root}/after", None, SHAPE + WEIGHTS, tmp_path / "cache")}
    assert sorted(files) == ["config.json", "model.safetensors"]
    before, after = load_file(tmp_path / "before" / "model.safetensors"), load_file(files["model.safetensors"])
    assert before.keys() == after.keys() and all(torch.equal(after[name], weight) for name, weight in before.items())
