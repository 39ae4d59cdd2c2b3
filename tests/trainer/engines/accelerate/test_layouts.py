"""Ranks on CPU and gloo: DDP and FSDP2 through Accelerate compute what one process of engine native does, and go on from their files."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from llmtrain_trainer.convert.launch import launch, load_script

pytestmark = pytest.mark.processes
TOLERANCE = 1e-5
CLIP = {"training": {"gradientClipping": 0.5}}
TIED = {"shape": {"tie_word_embeddings": True, "num_key_value_heads": 2, "num_hidden_layers": 3}}
HARD = TIED | {"training": {"gradientClipping": 0.5, "activationCheckpointing": "full"}, "measured": True}
DORA = {"peft": {"method": "dora", "rank": 4, "alpha": 8.0, "learningRateRatio": 4.0}}
LORA = {"peft": {"method": "lora", "rank": 4, "alpha": 8.0}}
DDP, GATHERED, SHARDED = ({"engine": "accelerate", "dp": 2, "zero_stage": stage} for stage in (0, 2, 3))


def test_two_replicas_compute_what_one_process_of_native_does(jobs: Path, parity: ModuleType) -> None:
    balanced = {"shape": parity.MIXTRAL | parity.BALANCED}
    variants = {"plain": CLIP, "hard": HARD, "dora": DORA, "packed": {"packed": True}, "balanced": balanced}
    alone = dict(zip(variants, launch(jobs, "traces", 1, [*variants.values()]), strict=True))
    cases = [
        ("plain", CLIP | GATHERED),
        *((variant, settings | layout) for variant, settings in variants.items() for layout in (DDP, SHARDED)),
    ]
    for (variant, case), trace in zip(cases, launch(jobs, "traces", 2, [case for _, case in cases]), strict=True):
        for found, expected in zip(trace, alone[variant], strict=True):
            assert found == pytest.approx(expected, abs=TOLERANCE, rel=TOLERANCE), case


def test_a_resume_is_exact_and_another_layout_or_engine_goes_on_equally(jobs: Path, tmp_path: Path) -> None:
    dropout = {"peft": LORA["peft"] | {"dropout": 0.2}}
    expected = launch(jobs, "save_and_go_on", 2, [CLIP | DDP, CLIP | SHARDED, dropout | SHARDED], tmp_path)
    again = [(0, CLIP | DDP), (1, CLIP | SHARDED), (2, dropout | SHARDED)]
    crossed = [(0, CLIP | SHARDED), (1, CLIP | DDP), (1, CLIP | {"dp": 2})]
    found = launch(jobs, "load_and_go_on", 2, [*again, *crossed], tmp_path)
    assert found[:3] == expected
    for number, losses in zip((0, 1, 1), found[3:], strict=True):
        assert losses == pytest.approx(expected[number], abs=TOLERANCE)


def test_exports_open_in_plain_transformers_and_peft(jobs: Path, parity: ModuleType, tmp_path: Path) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    losses = launch(jobs, "export", 2, [TIED | SHARDED, LORA | SHARDED, LORA | DDP], ["full", "adapter", "full"], tmp_path)
    launch(jobs, "export_start", 1, {"engine": "accelerate"}, tmp_path / "start")
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "start" / "weights")
    models = [
        AutoModelForCausalLM.from_pretrained(tmp_path / "0-full"),
        PeftModel.from_pretrained(base, tmp_path / "1-adapter"),
        AutoModelForCausalLM.from_pretrained(tmp_path / "2-full"),
    ]
    batch = parity.batch_of(99, 0, 1, packed=False)
    for model, expected in zip(models, losses, strict=True):
        with torch.no_grad():
            logits = model(input_ids=batch["input_ids"]).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch["labels"].flatten())
        assert loss.item() == pytest.approx(expected, abs=TOLERANCE)


def test_a_family_without_a_row_trains_as_hf_trainer_does(jobs: Path, parity: ModuleType) -> None:
    others = load_script(Path(__file__).parents[4] / "benchmarks" / "other_families.py")
    reference = launch(Path(str(parity.__file__)), "run_hf_trainer", 1, others.case_of("opt"), 5)
    found = launch(Path(str(parity.__file__)), "run_cases", 2, [others.case_of("opt", dp=2, zero_stage=stage) for stage in (0, 3)], 5)
    for losses, norms, *_ in found:
        assert losses == pytest.approx(reference[0], abs=TOLERANCE)
        assert norms == pytest.approx(reference[1], rel=TOLERANCE)
