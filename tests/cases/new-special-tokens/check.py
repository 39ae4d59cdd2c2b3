"""The export opens in transformers with all rows, and each layout had the same losses."""

import json
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM


def losses(run: str) -> list[float]:
    (file,) = Path(run).rglob("metrics.jsonl")
    return [row["loss"] for line in file.read_text().splitlines() if "loss" in (row := json.loads(line))]


first = losses("w")
for run in ("tensor", "shared-out"):
    print(run, losses(run), "one process", first)
    assert len(first) == 3 and all(abs(a - b) < 1e-4 for a, b in zip(losses(run), first, strict=True))
(exported,) = [path.parent for path in Path("out").rglob("config.json")]
network = AutoModelForCausalLM.from_pretrained(exported)
assert network.config.vocab_size == network.get_input_embeddings().num_embeddings == 317
assert torch.isfinite(network(torch.tensor([[0, 316]])).logits).all()
