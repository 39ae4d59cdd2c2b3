"""Layouts of each engine in benchmarks/parity.py: the variant, the mesh, what the engine is told besides. Plain data."""

from __future__ import annotations

from typing import Any

MESHES: tuple[dict[str, int], ...] = (
    {},
    {"dp": 2},
    {"tp": 2},
    {"pp": 2},
    {"pp": 2, "virtual": 2},
    {"dp": 2, "tp": 2},
    {"pp": 2, "dp": 2},
    {"pp": 2, "tp": 2},
    {"pp": 2, "dp": 2, "virtual": 2},
    {"pp": 2, "dp": 2, "tp": 2},
)
CONTEXT, EXPERT = {"cp": 2}, {"dp": 2, "ep": 2}
CUT: dict[str, tuple[dict[str, int], ...]] = {
    "plain": (CONTEXT, CONTEXT | {"tp": 2}, CONTEXT | {"dp": 2}, CONTEXT | {"pp": 2}, CONTEXT | {"pp": 2, "tp": 2}),
    "packed": (CONTEXT, CONTEXT | {"tp": 2}, CONTEXT | {"dp": 2}, CONTEXT | {"pp": 2, "virtual": 2}),
    "grouped-query": (CONTEXT, {"cp": 4}),
    **dict.fromkeys(("clipping", "lora", "dora", "classify", "tied-embeddings", "zero0", "recompute", "qwen3", "gpt2", "bf16"), (CONTEXT,)),
    "mixtral": (
        CONTEXT,
        CONTEXT | {"ep": 2},
        EXPERT,
        EXPERT | {"dp": 4},
        EXPERT | {"tp": 2},
        EXPERT | {"pp": 2},
        EXPERT | {"pp": 2, "tp": 2},
    ),
    "mixtral-clipping": (EXPERT, EXPERT | {"dp": 4}, {"tp": 2}),
    "mixtral-balanced": (EXPERT, CONTEXT | {"ep": 2}, {"tp": 2}, {"pp": 2}),
    "mixtral-lora": (EXPERT, {"tp": 2}),
    "mixtral-zero0": (EXPERT, EXPERT | {"dp": 4}),
    **dict.fromkeys(("qwen2-moe", "qwen3-moe", "mixtral-bf16"), (EXPERT, {"tp": 2})),
}
"""Meshes of native that cut sequences or experts, by variant."""

OFFLOAD = {"offload": {"optimizer": "cpu", "parameters": "cpu"}}
DP, TP, PP = {"dp": 2}, {"tp": 2}, {"pp": 2}

DEEPSPEED: tuple[dict[str, Any], ...] = (
    *({"variant": "clipping", "zero_stage": stage} | DP for stage in range(4)),
    *({"variant": "plain", "zero_stage": stage} | DP for stage in range(4)),
    {"variant": "clipping", "zero_stage": 1, "more": {"offload": {"optimizer": "cpu"}}} | DP,
    {"variant": "clipping", "zero_stage": 3, "more": OFFLOAD} | DP,
    *({"variant": "lora", "zero_stage": stage} | DP for stage in range(4)),
    {"variant": "tied-embeddings", "zero_stage": 3} | DP,
    {"variant": "recompute", "zero_stage": 3} | DP,
    {"variant": "gpt2", "zero_stage": 1} | DP,
    {"variant": "mixtral", "zero_stage": 2} | DP,
    {"variant": "packed", "zero_stage": 2} | DP,
    *({"variant": "bf16", "zero_stage": stage} | DP for stage in range(1, 4)),
    *({"variant": "clipping", "zero_stage": stage} | TP for stage in range(4)),
    {"variant": "lora", "zero_stage": 1} | TP,
    {"variant": "qwen3", "zero_stage": 1} | TP,
    {"variant": "tied-embeddings", "zero_stage": 1} | TP,
    *({"variant": variant, "zero_stage": stage} | PP for variant in ("clipping", "tied-embeddings") for stage in range(2)),
    {"variant": "clipping", "zero_stage": 1, "more": {"offload": {"optimizer": "cpu"}}} | PP,
    *({"variant": variant, "zero_stage": 1} | PP for variant in ("lora", "packed", "gpt2", "odd-layers", "grouped-query", "bf16")),
    *({"variant": "clipping", "zero_stage": stage} | DP | TP for stage in (1, 3)),
    *({"variant": variant, "zero_stage": 1} | PP | DP for variant in ("clipping", "tied-embeddings", "lora")),
    *({"variant": variant, "zero_stage": 1} | PP | TP for variant in ("clipping", "qwen3")),
    *({"variant": variant, "zero_stage": 1} | PP | DP | TP for variant in ("clipping", "lora", "tied-embeddings", "bf16")),
    {"variant": "clipping", "zero_stage": 0} | PP | DP | TP,
)

ACCELERATE: tuple[dict[str, Any], ...] = (
    *({"variant": variant, "zero_stage": stage} | DP for variant in ("plain", "clipping", "lora", "mixtral") for stage in (0, 2, 3)),
    *(
        {"variant": variant, "zero_stage": stage} | DP
        for variant in (
            *("rslora", "dora", "lora-plus", "tied-embeddings", "grouped-query", "odd-layers", "recompute", "packed", "qwen3", "gpt2"),
            *("mixtral-balanced", "mixtral-lora", "qwen2-moe", "qwen3-moe", "classify", "classify-lora", "bf16"),
        )
        for stage in (0, 3)
    ),
    *({"variant": variant, "zero_stage": stage} for variant in ("clipping", "lora", "bf16") for stage in (0, 3)),
    {"variant": "clipping", "zero_stage": 3, "dp": 4},
)

EP, VIRTUAL, ONE = {"dp": 2, "ep": 2}, PP | {"virtual": 2}, {"zero_stage": 1}
MEGATRON: tuple[dict[str, Any], ...] = tuple(
    ONE | case
    for case in (
        {"variant": "plain"},
        *({"variant": "clipping"} | mesh for mesh in ({}, DP, DP | {"zero_stage": 0}, TP, PP, VIRTUAL, {"cp": 2})),
        *({"variant": "tied-embeddings"} | mesh for mesh in (TP, PP, VIRTUAL)),
        *({"variant": "grouped-query"} | mesh for mesh in (TP, {"cp": 2})),
        {"variant": "odd-layers"} | PP,
        *({"variant": "recompute"} | mesh for mesh in (TP, PP)),
        *({"variant": "packed"} | mesh for mesh in (DP, VIRTUAL, {"cp": 2})),
        *({"variant": "qwen3"} | mesh for mesh in ({}, TP)),
        *({"variant": "mixtral"} | mesh for mesh in ({}, DP, EP, TP, PP, EP | {"zero_stage": 0})),
        *({"variant": "bf16"} | mesh for mesh in ({}, DP, TP)),
        *({"variant": "clipping"} | mesh for mesh in (PP | DP | TP, VIRTUAL | DP | TP)),
        {"variant": "tied-embeddings"} | PP | DP | TP,
        {"variant": "mixtral"} | PP | EP | TP,
    )
)
