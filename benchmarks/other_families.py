"""What engine accelerate does with decoders of transformers that have no row in config/tables/families.py: their names are arguments.

A small model of each name is trained for 20 steps beside HF Trainer, on one rank and on two (DDP and FSDP2), exported, read back, packed,
recomputed and adapted. Prints a line for each, and the row of config/tables/other_families.py that the figures allow; exit code 1 where a
row of the table claims more.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from llmtrain_trainer.config.tables.other_families import OTHER_FAMILIES, OtherFamily
from llmtrain_trainer.convert.launch import launch, load_script

parity = load_script(Path(__file__).with_name("parity.py"))
STEPS, TOLERANCE = 20, 1e-5
LORA = {"peft": {"method": "lora", "rank": 4, "alpha": 8.0}}
SIZES: dict[str, int] = (
    dict.fromkeys(("hidden_size", "n_embd", "d_model", "word_embed_proj_dim"), 64)
    | dict.fromkeys(("intermediate_size", "ffn_dim", "ffn_hidden_size", "n_inner"), 128)
    | dict.fromkeys(("num_hidden_layers", "num_layers", "n_layer", "n_layers"), 4)
    | dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads", "num_experts", "num_local_experts", "n_routed_experts"), 4)
    | dict.fromkeys(("num_key_value_heads", "num_kv_heads", "num_experts_per_tok"), 2)
    | dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size", "shared_intermediate_size"), 32)
    | dict.fromkeys(("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len"), 128)
    | {
        "vocab_size": 512,
        "head_dim": 16,
        "rotary_dim": 8,
        "sliding_window": 8,
        "first_k_dense_replace": 1,
        "n_shared_experts": 1,
        "n_group": 1,
        "topk_group": 1,
    }
    | {
        "kv_lora_rank": 16,
        "q_lora_rank": 24,
        "qk_nope_head_dim": 16,
        "qk_rope_head_dim": 8,
        "v_head_dim": 12,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
)
"""Key of config.json -> the size of the small model, where the family has the key."""

LEFT_OUT = ("output_router_logits", "use_cache", "transformers_version", "architectures", "dtype", "_name_or_path")


def config_of(kind: str) -> dict[str, Any]:
    """A small config.json, without dropout."""
    from transformers import CONFIG_MAPPING

    found: dict[str, Any] = CONFIG_MAPPING[kind]().to_dict()
    layers = next((found[key] for key in ("num_hidden_layers", "n_layer", "n_layers", "num_layers") if found.get(key)), 0)
    for key, value in found.items():
        if key in SIZES and (value is not None or key in ("num_key_value_heads", "n_inner")):
            found[key] = SIZES[key]
        elif isinstance(value, float) and ("dropout" in key or key.endswith(("_pdrop", "layerdrop"))):
            found[key] = 0.0
        elif isinstance(value, list) and len(value) == layers:
            found[key] = (list(dict.fromkeys(value)) * 4)[:4] if key == "layer_types" else value[:4]
    if "qk_rope_head_dim" in found:
        found |= {"head_dim": SIZES["qk_rope_head_dim"], "num_key_value_heads": 4}
    return {key: value for key, value in found.items() if key not in LEFT_OUT} | {"model_type": kind, "pad_token_id": None}


def case_of(kind: str, **more: Any) -> Any:
    """A run of the small model with engine accelerate."""
    config = config_of(kind)
    model = {"config": config, "attention": "sdpa" if _has_sdpa(kind) else "eager"}
    return parity.Case(engine="accelerate", more={"model": model, "mesh": _mesh(more)}, **more)


def _mesh(more: dict[str, Any]) -> dict[str, Any]:
    replicas = more.get("dp", 1)
    return {"procsPerNode": replicas, "dp": replicas, "zeroStage": more.get("zero_stage", 3), "stages": [[0, 4]]}


def _has_sdpa(kind: str) -> bool:
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig

    return bool(MODEL_FOR_CAUSAL_LM_MAPPING[type(AutoConfig.for_model(kind))]._supports_sdpa)


def alone(kind: str) -> dict[str, float | str]:
    """On one rank: each figure, or what was raised instead."""
    found: dict[str, float | str] = {}
    with tempfile.TemporaryDirectory() as directory:
        for name, figure in _figures(kind, Path(directory)):
            try:
                found[name] = figure()
            except Exception as error:
                found[name] = f"{type(error).__name__}: {error}"[:160]
    return found


def _figures(kind: str, directory: Path) -> Iterator[tuple[str, Callable[[], float]]]:
    traces: dict[str, Any] = {}

    def hf_trainer() -> float:
        traces["plain"] = parity.run_case(case_of(kind), STEPS)
        return float(parity.difference(traces["plain"][0], parity.run_hf_trainer(case_of(kind), STEPS)[0]))

    def recomputed() -> float:
        again = parity.run_case(case_of(kind, training={"activationCheckpointing": "full"}), STEPS)
        return float(parity.difference(again[0], traces["plain"][0]))

    yield "HF Trainer", hf_trainer
    yield "export", lambda: _exported(kind, directory / "plain")
    yield "read", lambda: _read(kind, directory / "plain")
    yield "packed", lambda: _packed(kind)
    yield "recomputed", recomputed
    yield "merged", lambda: _exported(kind, directory / "merged", **LORA)


def _built(kind: str, **more: Any) -> Any:
    return load_script(Path(__file__).with_name("building.py")).engine_of(parity.config_of(case_of(kind, **more), STEPS))


def _trained(kind: str, directory: Path, **more: Any) -> Any:
    """A trained engine, exported to `directory`."""
    from llmtrain_trainer.engines import build_engine

    directory.mkdir(parents=True, exist_ok=True)
    config = parity.config_of(case_of(kind, **more), STEPS)
    (directory / "config.json").write_text(json.dumps(config.model.config))
    engine = build_engine(config, directory)
    for step in (1, 2):
        engine.train_step(parity.batch_of(step, 0, 1, packed=False), learning_rate=1e-3, step=step, stop=False)
    engine.export(directory / "full", "full")
    return engine


def _exported(kind: str, directory: Path, **more: Any) -> float:
    """Between the logits of a run and those of its export in plain transformers; which saves it again, for `_read`."""
    import torch
    from transformers import AutoModelForCausalLM

    engine = _trained(kind, directory, **more)
    opened = AutoModelForCausalLM.from_pretrained(directory / "full", dtype=torch.float32)
    opened.save_pretrained(directory / "saved")
    return _apart(_logits(engine._network), _logits(opened))


def _read(kind: str, directory: Path) -> float:
    """Between the logits of files that transformers saved, in plain transformers and in the engine."""
    import torch
    from transformers import AutoModelForCausalLM

    from llmtrain_trainer.config.model import Model
    from llmtrain_trainer.engines import build_engine
    from llmtrain_trainer.prepare.fitting import check_model

    saved = directory / "saved"
    check_model(Model(source=f"file://{saved}"), saved, lambda _: None)
    told = parity.config_of(case_of(kind), STEPS).model_dump(by_alias=True)
    told["model"] = {"source": f"file://{saved}", "attention": told["model"]["attention"]}
    engine = build_engine(type(parity.config_of(parity.Case(), STEPS)).model_validate(told), saved)
    return _apart(_logits(engine._network), _logits(AutoModelForCausalLM.from_pretrained(saved, dtype=torch.float32)))


def _packed(kind: str) -> float:
    """Between the logits of two samples in one row and those of each by itself."""
    import torch

    network, half = _built(kind)._network, parity.LENGTH // 2 - 3
    ids = parity.batch_of(1, 0, 1, packed=False)["input_ids"][:2]
    positions = torch.cat([torch.arange(half), torch.arange(parity.LENGTH - half)]).repeat(2, 1)
    together = _logits(network, ids, positions)
    return max(_apart(together[:, :half], _logits(network, ids[:, :half])), _apart(together[:, half:], _logits(network, ids[:, half:])))


def _logits(network: Any, ids: Any = None, positions: Any = None) -> Any:
    """Of the model's own forward, which the engine's stands before."""
    import torch

    ids = parity.batch_of(1, 0, 1, packed=False)["input_ids"][:2] if ids is None else ids
    network.eval()
    with torch.no_grad():
        return type(network).forward(network, input_ids=ids, **({} if positions is None else {"position_ids": positions})).logits


def _apart(one: Any, other: Any) -> float:
    return float((one - other).abs().max())


def replicas(kinds: Sequence[str]) -> list[tuple[list[float], list[float]]]:
    """On two ranks: losses by DDP and by FSDP2 of each."""
    return [tuple(parity.run_case(case_of(kind, dp=2, zero_stage=stage), STEPS)[0] for stage in (0, 3)) for kind in kinds]  # type: ignore[misc]


def losses(kinds: Sequence[str]) -> list[list[float]]:
    return [parity.run_case(case_of(kind), STEPS)[0] for kind in kinds]


def row_of(found: dict[str, float | str], kind: str) -> OtherFamily | None:
    """What the figures allow to say; None where the family cannot be taken."""

    def right(name: str) -> bool:
        value = found.get(name)
        return isinstance(value, float) and value <= TOLERANCE

    if not all(map(right, ("HF Trainer", "export", "read", "DDP", "FSDP2"))):
        return None
    return OtherFamily(sdpa=_has_sdpa(kind), packs=right("packed"), adapters=right("merged"), recomputes=right("recomputed"))


def main() -> int:
    wrong = 0
    for kind in sys.argv[1:] or list(OTHER_FAMILIES):
        found = launch(Path(__file__), "alone", 1, kind, timeout=600)
        try:
            (plain,) = launch(Path(__file__), "losses", 1, [kind], timeout=600)
            ((ddp, fsdp),) = launch(Path(__file__), "replicas", 2, [kind], timeout=600)
            found |= {"DDP": parity.difference(ddp, plain), "FSDP2": parity.difference(fsdp, plain)}
        except RuntimeError as error:
            found["DDP"] = str(error).strip().splitlines()[-1][:160]
        row = row_of(found, kind)
        claimed = OTHER_FAMILIES.get(kind)
        more = claimed is not None and (
            row is None or any(a > b for a, b in zip(dataclasses.astuple(claimed), dataclasses.astuple(row), strict=True))
        )
        wrong += more
        shown = {name: f"{value:.1e}" if isinstance(value, float) else value for name, value in found.items()}
        print(f"{'BAD ' if more else ''}{kind}: {row} {json.dumps(shown)}", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
