"""What each rank does to write a checkpoint from Hugging Face's files. Loaded by path in ranks that targets.py starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch.distributed as dist

from llmtrain_trainer.checkpoint.writer import Writer
from llmtrain_trainer.config import TrainerConfig
from llmtrain_trainer.engines import build_engine


def write(config_text: str, model_dir: Path, staging: Path, name: str, meta: dict[str, Any]) -> None:
    """Build the engine in its layout, which reads the files layer by layer, and save."""
    config = TrainerConfig.model_validate_json(config_text)
    engine = build_engine(config, model_dir)
    writer = Writer(staging)
    if engine.format == "dcp":
        writer.save(name, engine.state_dict(), meta)
    else:
        writer.save_files(name, engine.save_files, meta)
    writer.finish()
    dist.barrier()
