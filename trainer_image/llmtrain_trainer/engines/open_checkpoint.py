"""The CheckpointReader of a fetched checkpoint."""

from __future__ import annotations

from pathlib import Path

from transformers import PreTrainedModel

from llmtrain_trainer.checkpoint_readers.reader import CheckpointReader
from llmtrain_trainer.config import TrainerConfig
from llmtrain_trainer.config.tables.adapters import is_adapter
from llmtrain_trainer.data.bad_data import BadData
from llmtrain_trainer.engines.registry import READERS, imported
from llmtrain_trainer.model.skeleton import skeleton


def open_source(config: TrainerConfig, directory: Path, model_dir: Path, file_format: str) -> CheckpointReader:
    """`directory`: every file verified. `config`: of a job with its model, whose config.json is in `model_dir`. `file_format`: as the
    checkpoint's manifest names it.

    Raises BadData where the model is another one than the checkpoint's, or has adapters and the checkpoint none.
    """
    network = skeleton(config, model_dir)
    found: CheckpointReader = imported(READERS[file_format])(directory, network)
    if config.peft is not None and not any(map(is_adapter, found.shapes)):
        raise BadData("spec.peft", config.peft.method, "the checkpoint was written by a run without adapters", "Leave peft out")
    _compare(network, found)
    return found


def _compare(network: PreTrainedModel, found: CheckpointReader) -> None:
    """Every weight that is trained is there in its shape, and none that the model lacks: else a part of one of them would be lost."""
    weights = dict(network.named_parameters(remove_duplicate=False))
    for name, weight in network.named_parameters():
        if name not in found.shapes:
            if weight.requires_grad:
                raise _another(name, f"the checkpoint does not hold its {name}")
        elif found.shapes[name] != weight.shape:
            raise _another(name, f"its {name} is {list(weight.shape)}, and the checkpoint's is {list(found.shapes[name])}")
    if more := sorted(set(found.shapes) - set(weights)):
        raise _another(more[0], f"the checkpoint holds {more[0]}, which the model lacks")


def _another(name: str, rule: str) -> BadData:
    field = "spec.peft" if is_adapter(name) else "spec.model"
    way_out = "Give the manifest of the job that wrote the checkpoint, or train from step 0 with another spec.checkpoint.destination"
    return BadData(field, "another one than the checkpoint's", rule, way_out)
