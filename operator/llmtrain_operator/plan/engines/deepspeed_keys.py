"""The keys that `spec.parallelism.deepspeed` may hold: those of DeepSpeed 0.19's configuration that something reads here. Pure.

DeepSpeed ignores a key of the top level that it does not know, and a wrong type inside a section ends its ranks. Left out are keys that
a field of the manifest sets (config/deepspeed.py) and those of parts of DeepSpeed that this engine does not run, such as autotuning.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

from llmtrain_operator.manifest.divisors import listed
from llmtrain_operator.manifest.problem import Problem
from llmtrain_operator.manifest.suggestions import shown
from llmtrain_trainer.config.deepspeed import OWNED

FIELD = "spec.parallelism.deepspeed"
FLAG, COUNT, NUMBER, TEXT, LIST = "true or false", "a whole number of at least 0", "a number", "text", "a list"

Keys = Mapping[str, "str | Keys"]


def _all(kind: str, names: str) -> dict[str, str]:
    return dict.fromkeys(names.split(), kind)


_OFFLOADED: Keys = {
    **_all(COUNT, "buffer_count buffer_size max_in_cpu"),
    **_all(FLAG, "pin_memory pipeline_read pipeline_write fast_init super_offload"),
    **_all(NUMBER, "ratio cpuadam_cores_perc"),
}

_ZERO: Keys = {
    **_all(
        FLAG,
        "contiguous_gradients reduce_scatter use_multi_rank_bucket_allreduce allgather_partitions overlap_comm compute_grad_norm "
        "load_from_fp32_weights elastic_checkpoint cpu_offload_use_pin_memory stage3_gather_16bit_weights_on_model_save "
        "stage3_gather_fp16_weights_on_model_save stage3_use_all_reduce_for_fetch_params stage3_allgather_sequential "
        "ignore_unused_parameters legacy_stage1 round_robin_gradients parameter_alignment zero_quantized_weights "
        "zero_quantized_nontrainable_weights zero_quantized_gradients memory_efficient_linear pipeline_loading_checkpoint "
        "override_module_apply log_trace_cache_warnings enable_sanity_checks save_muon_momentum_buffer_in_memory",
    ),
    **_all(
        COUNT,
        "reduce_bucket_size allgather_bucket_size sub_group_size stage3_prefetch_bucket_size stage3_param_persistence_threshold "
        "stage3_model_persistence_threshold stage3_max_live_parameters stage3_max_reuse_distance stage3_module_granularity_threshold "
        "zero_hpz_partition_size",
    ),
    "offload_optimizer": {key: _OFFLOADED[key] for key in _OFFLOADED if key not in ("buffer_size", "max_in_cpu")},
    "offload_param": {key: _OFFLOADED[key] for key in ("buffer_count", "buffer_size", "max_in_cpu", "pin_memory")},
    "leaf_module": _all(LIST, "classes names name_suffixes"),
}

_MONITOR = {"enabled": FLAG, "output_path": TEXT, "job_name": TEXT}

KEYS: Keys = {
    **_all(
        FLAG, "prescale_gradients sparse_gradients disable_allgather dump_state disable_python_gc wall_clock_breakdown memory_breakdown"
    ),
    **_all(TEXT, "communication_data_type seq_parallel_communication_data_type log_level"),
    "gradient_predivide_factor": NUMBER,
    "steps_per_print": COUNT,
    "zero_optimization": _ZERO,
    "pipeline": _all(FLAG, "seed_layers pipe_partitioned grad_partitioned use_reentrant"),
    "aio": {
        **_all(COUNT, "block_size queue_depth intra_op_parallelism"),
        **_all(FLAG, "single_submit overlap_events use_gds"),
    },
    "comms_logger": {**_all(FLAG, "enabled prof_all verbose debug"), "prof_ops": LIST},
    "flops_profiler": {
        **_all(FLAG, "enabled detailed"),
        **_all(COUNT, "profile_step top_modules"),
        **_all(NUMBER, "module_depth recompute_fwd_factor"),
        "output_file": TEXT,
    },
    "timers": {"throughput": _all(FLAG, "enabled synchronized")},
    "tensorboard": _MONITOR,
    "csv_monitor": _MONITOR,
    "wandb": {"enabled": FLAG, **_all(TEXT, "group team project")},
}
"""Key -> the kind of its value, or the keys of the section."""


def wrong_keys(given: Mapping[str, Any], known: Keys = KEYS, path: str = "") -> Iterator[Problem]:
    """A refusal for each key that nothing reads, and each value of a wrong kind; keys that a field of the manifest sets are passed over."""
    for name, value in given.items():
        key, kind = f"{path}{name}", known.get(name)
        if key in OWNED:
            continue
        if kind is None:
            yield _unknown(key, value, known, path)
        elif value == "auto":
            way_out = f"Leave {key} out for DeepSpeed's default, or write the value"
            yield Problem(f"{FIELD}.{key}", "auto", "only Hugging Face's Trainer replaces the word auto", way_out)
        elif isinstance(kind, Mapping):
            if isinstance(value, Mapping):
                yield from wrong_keys(value, kind, f"{key}.")
            else:
                yield Problem(f"{FIELD}.{key}", shown(value), "it must be a section of keys", f"Write its keys, or leave {key} out")
        elif not _fits(value, kind):
            yield Problem(f"{FIELD}.{key}", shown(value), f"it must be {kind}", f"Write {kind}, or leave {key} out")


def _unknown(key: str, value: Any, known: Keys, path: str) -> Problem:
    name = key.removeprefix(path)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.7)
    elsewhere = [f"{section}.{name}" for section, keys in KEYS.items() if isinstance(keys, Mapping) and name in keys]
    owned = difflib.get_close_matches(key, OWNED, n=1, cutoff=0.85)
    where = f"{path.rstrip('.')} has" if path else "it has"
    if near:
        way_out = f"Write {path}{near[0]}"
    elif elsewhere:
        way_out = f"Write {elsewhere[0]}"
    elif owned:
        way_out = f"Leave {key} out, and set spec.{OWNED[owned[0]]}"
    else:
        way_out = f"Leave {key} out; {where} {listed(sorted(known), 'and')}"
    return Problem(f"{FIELD}.{key}", shown(value), "engine deepspeed reads no such key", way_out)


def _fits(value: Any, kind: str) -> bool:
    if kind == FLAG:
        return isinstance(value, bool)
    if kind in (COUNT, NUMBER):
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and (kind == NUMBER or (value >= 0 and value == int(value)))
    return isinstance(value, str if kind == TEXT else list)
