"""Whether the image has what a job needs. Checked before ranks start."""

from __future__ import annotations

from importlib.util import find_spec

from llmtrain_trainer.config import Offload, TrainerConfig
from llmtrain_trainer.config.tables.engines import DEFAULT_ENGINE, ENGINE_FACTS
from llmtrain_trainer.data.bad_data import BadData


def check_installed(config: TrainerConfig) -> None:
    """Raises BadData with the field that needs a missing package."""
    package = ENGINE_FACTS[config.engine].package
    if package and not is_there(package):
        rule = f"the package {package} is not in this image"
        raise BadData("parallelism.engine", config.engine, rule, f"Use an image that has it, or engine {DEFAULT_ENGINE}")
    if config.model.attention == "flash" and not is_there("flash_attn"):
        rule = "the package flash_attn is not in this image"
        raise BadData("model.attention", "flash", rule, "Use sdpa, which picks a flash kernel on a GPU by itself")
    offload = config.offload or Offload()
    if "nvme" in (offload.optimizer, offload.parameters) and not _reads_disks():
        rule = "DeepSpeed reads and writes by libaio, which is not in this image"
        raise BadData("parallelism.offload", "nvme", rule, "Use an image with libaio-dev and g++, or cpu")


def is_there(package: str) -> bool:
    """Whether a module could be imported; only its parents are."""
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:
        return False


def _reads_disks() -> bool:
    from deepspeed.ops.op_builder import AsyncIOBuilder

    return bool(AsyncIOBuilder().is_compatible())
