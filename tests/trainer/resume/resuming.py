"""A run that saved, and the run that goes on from it, as values: preparation is real, ranks are not started."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))

from small_job import Job, config_of

from llmtrain_trainer.checkpoint.manifest import CheckpointFile, Manifest, Meta
from llmtrain_trainer.config import TrainerConfig
from llmtrain_trainer.resume.continuation import Resumption, record, resumption

SHAPE = {"model_type": "llama", "vocab_size": 512, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4}
SHAPE |= {"num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": True}
LORA = {"method": "lora", "rank": 8, "alpha": 16}


class Runs:
    """A run of 10 steps that saved after step 3, and what another run makes of it."""

    def __init__(self, root: Path) -> None:
        self.job = Job(root)
        self.text = [{"source": self.job.text_file()}]

    def config(self, **changes: Any) -> TrainerConfig:
        training = {"maxSteps": 10, "schedule": {"name": "cosine"}, **changes.pop("training", {})}
        given = {"dataset": self.text, "model": {"config": SHAPE}, "evaluation": {"split": 0.2}, **changes}
        return config_of(given.pop("dataset"), training=training, **given)

    def save(self, config: TrainerConfig, *, step: int = 3) -> Manifest:
        prepared = self.job.prepare(config)
        meta = Meta(
            step=step,
            consumed_samples=8 * step,
            target_steps=prepared.target_steps,
            record=json.loads(json.dumps(record(config, prepared))),
            course=prepared.course(config.training.seed),
        )
        return manifest_of(meta)

    def kept_tokenizer(self) -> dict[str, Any]:
        """One that does not follow the data."""
        self.job.prepare(self.config())
        place = shutil.copytree(self.job.run.prepared / "tokenizer", self.job.root / "kept")
        return {"tokenizer": {"source": f"file://{place}"}}

    def go_on(self, manifest: Manifest, config: TrainerConfig) -> Resumption:
        return resumption(manifest, config, self.job.prepare(config))


def manifest_of(meta: Meta) -> Manifest:
    """Of a committed checkpoint with this meta.json."""
    name = f"step-{meta.step:08d}-a1-r1"
    return Manifest(name=name, save_id="s", created=0.0, meta=meta, files=(CheckpointFile(path="f", bytes=0, sha256="0" * 64, node=0),))


def pretrained(root: Path, seed: int) -> dict[str, Any]:
    """A small model of SHAPE with weights of this seed; returns the manifest's model."""
    torch.manual_seed(seed)
    AutoModelForCausalLM.from_config(AutoConfig.for_model(**SHAPE)).save_pretrained(root)
    return {"source": f"file://{root}"}
