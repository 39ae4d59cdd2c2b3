"""The spec of a small job, for the tests of the commands. Most change a field or two."""

from __future__ import annotations

from typing import Any

SPEC: dict[str, Any] = {
    "model": {
        "config": {
            "model_type": "llama",
            "hidden_size": 64,
            "intermediate_size": 172,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "vocab_size": 512,
            "max_position_embeddings": 64,
        }
    },
    "tokenizer": {"train": {"algorithm": "bpe", "vocabSize": 512}},
    "dataset": [{"source": "s3://data/text.jsonl"}],
    "training": {"globalBatchSize": 8, "sequenceLength": 64, "maxSteps": 10, "precision": "fp32"},
    "checkpoint": {"destination": "s3://bucket/demo"},
    "resources": {"nodes": 1, "procsPerNode": 2},
}
