"""Losses are those of the whole weights but for rounding, and the exports are whole and do not speak of quantization."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file


def losses(run: str) -> list[float]:
    (file,) = Path(run).rglob("metrics.jsonl")
    return [row["loss"] for line in file.read_text().splitlines() if "loss" in (row := json.loads(line))]


whole = losses("whole")
for kind in ("fp8", "int8", "gptq"):
    print(kind, losses(kind), "whole", whole)
    assert all(abs(a - b) < 0.05 for a, b in zip(losses(kind), whole, strict=True))
    (exported,) = [path.parent for path in Path(f"out-{kind}").rglob("config.json")]
    assert "quantization_config" not in json.loads((exported / "config.json").read_text())
    matrices = [weight for name, weight in load_file(exported / "model.safetensors").items() if "proj" in name]
    assert matrices and all(weight.dtype == torch.float32 and weight.abs().max() < 2 for weight in matrices)
