"""What each rank does to write a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch.distributed as dist

from llmtrain_trainer.checkpoint.writer import CheckpointWriter
from llmtrain_trainer.config import TrainerConfig
from llmtrain_trainer.engines import build_engine
from llmtrain_trainer.engines.open_checkpoint import open_source


def write(config_text: str, model_dir: Path, stored: tuple[Path, str] | None, staging: Path, name: str, meta: dict[str, Any]) -> None:
    """Build the engine in its layout, from the model's files or with what is stored, and save."""
    config = TrainerConfig.model_validate_json(config_text)
    engine = build_engine(config, model_dir)
    if stored is not None:
        directory, file_format = stored
        engine.load_foreign_checkpoint(open_source(config, directory, model_dir, file_format))
    writer = CheckpointWriter(staging)
    if engine.saves == "state":
        writer.save(name, engine.state_dict(), meta)
    else:
        writer.save_files(name, engine.save_files, meta)
    writer.finish()
    dist.barrier()
