"""A network with DoRA adapters, built as ranks build it, starts as the network without them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from llmtrain_trainer.model.materialize import materialize
from llmtrain_trainer.model.skeleton import skeleton


def built(parity: Any, root: Path, peft: dict[str, Any] | None) -> Any:
    config = parity.config_of(parity.Case(peft=peft), 1)
    (root / "config.json").write_text(json.dumps(config.model.config))
    network = skeleton(config, root)
    materialize(network, "", None, 1, torch.device("cpu"))
    return network.eval()


def test_the_magnitudes_are_the_lengths_of_the_rows_that_were_drawn(parity: Any, tmp_path: Path) -> None:
    plain, adapted = built(parity, tmp_path, None), built(parity, tmp_path, {"method": "dora", "rank": 4, "alpha": 8.0})
    ids = torch.arange(12).reshape(1, 12)
    with torch.no_grad():
        assert torch.allclose(adapted(ids).logits, plain(ids).logits, atol=1e-5)
    magnitudes = [weight for name, weight in adapted.named_parameters() if "magnitude" in name]
    assert magnitudes and all(bool((weight > 0).all()) for weight in magnitudes)
