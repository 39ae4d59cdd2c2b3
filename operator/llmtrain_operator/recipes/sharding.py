"""Keys that say what is sharded over the replicas: DeepSpeed's settings, and FSDP's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from llmtrain_operator.recipes.counterpart import Counterpart, RecipeKey, Settings, Told, is_on, switch
from llmtrain_operator.recipes.values import each, section, text, whole


def _deepspeed(value: Any, _: Settings) -> Told:
    """DeepSpeed's settings: a file, by the stage in its name (zero2.json, ds_z3_offload_config.json), or the settings themselves."""
    if isinstance(value, Mapping):
        return _deepspeed_settings(value)
    name = text(value).lower().rpartition("/")[2]
    found = re.search(r"z(?:ero)?_?([0-3])", name)
    if not found:
        note = "the stage is not in the file's name: set parallelism.zeroStage; further keys go to parallelism.deepspeed"
        return Told(outcome=Counterpart.DIFFERS, fields={"parallelism.engine": "deepspeed"}, note=note)
    stage = int(found.group(1))
    fields = {"parallelism.engine": "deepspeed", "parallelism.zeroStage": stage}
    if "offload" not in name or stage == 0:
        return Told(outcome=Counterpart.MAPS, fields=fields, note="by the file's name; further keys of it go to parallelism.deepspeed")
    fields |= {"parallelism.offload.optimizer": "cpu"} | ({"parallelism.offload.parameters": "cpu"} if stage == 3 else {})
    return Told(
        outcome=Counterpart.DIFFERS, fields=fields, note="offload by the file's name: parallelism.offload says what is kept in host memory"
    )


def _deepspeed_settings(value: Mapping[str, Any]) -> Told:
    zero = section(value.get("zero_optimization"))
    stage = whole(zero.get("stage", 0))
    fields: dict[str, Any] = {"parallelism.engine": "deepspeed", "parallelism.zeroStage": stage}
    for theirs, ours in (("offload_optimizer", "optimizer"), ("offload_param", "parameters")):
        if (device := section(zero.get(theirs)).get("device", "none")) in ("cpu", "nvme"):
            fields[f"parallelism.offload.{ours}"] = device
    return Told(outcome=Counterpart.DIFFERS, fields=fields, note="stage and offload; further keys go to parallelism.deepspeed")


DEEPSPEED: RecipeKey = switch(RecipeKey(outcome=Counterpart.MAPS, into=("parallelism.engine", "parallelism.zeroStage"), read=_deepspeed))

_STAGES = {"full_shard": 3, "true": 3, "shard_grad_op": 2, "no_shard": 0, "hybrid_shard": 3, "hybrid_shard_zero2": 2}
_PARTIAL = (
    "gradients and optimizer states are sharded: engine deepspeed does that, engine native shards weights too (zeroStage: 3) or nothing"
)


def sharded(value: Any, _: Settings) -> Told:
    """FSDP's strategy: a word, several of them, or true."""
    said = [word for item in each(value) for word in str(item).lower().split()]
    stages = [_STAGES[word] for word in said if word in _STAGES]
    if not stages:
        raise ValueError(f"no strategy of FSDP is among {', '.join(_STAGES)}")
    fields: dict[str, Any] = {"parallelism.zeroStage": stages[0]}
    if stages[0] == 2:
        return Told(outcome=Counterpart.DIFFERS, fields=fields | {"parallelism.engine": "deepspeed"}, note=_PARTIAL)
    notes = [OFFLOAD] if "offload" in said else []
    notes += ["weights are sharded over all replicas, not within each node"] if any("hybrid" in word for word in said) else []
    return Told(
        outcome=Counterpart.DIFFERS if notes else Counterpart.MAPS, fields=fields, note="; ".join(notes) or "FSDP2 of engine native"
    )


OFFLOAD = "engine native keeps all on the device; engine deepspeed has parallelism.offload"
FSDP: RecipeKey = switch(RecipeKey(outcome=Counterpart.MAPS, into=("parallelism.zeroStage",), note="FSDP2 of engine native", read=sharded))


def _resharded(value: Any, _: Settings) -> Told:
    note = "weights are gathered again in the backward pass"
    if is_on(value) and str(value).lower() != "shard_grad_op":
        return Told(outcome=Counterpart.SAME, note=note)
    return Told(outcome=Counterpart.DIFFERS, note=f"{note}: less memory, more communication, the same result")


RESHARD = RecipeKey(outcome=Counterpart.SAME, note="weights are gathered again in the backward pass", read=_resharded)
