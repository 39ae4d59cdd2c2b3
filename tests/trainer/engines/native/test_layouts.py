"""Ranks on CPU and gloo: every layout computes what one process computes, and reads what another wrote."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from llmtrain_trainer.convert.launch import launch

pytestmark = pytest.mark.processes
TOLERANCE = 1e-5
CLIP = {"gradientClipping": 0.5}
TIED = {"tie_word_embeddings": True, "num_key_value_heads": 2, "num_hidden_layers": 3}
LORA = {"method": "lora", "rank": 4, "alpha": 8.0}
PLAIN: dict[str, Any] = {"training": CLIP}
ADAPTERS: dict[str, Any] = {"peft": LORA}
HARD: dict[str, Any] = {"training": CLIP | {"activationCheckpointing": "full"}, "shape": TIED}
MEASURED: dict[str, Any] = HARD | {"measured": True}
ODD: dict[str, Any] = {"training": CLIP, "shape": {"vocab_size": 513}}
BF16: dict[str, Any] = {"training": {"precision": "bf16"}}
HARD_BASE: dict[str, Any] = {"peft": LORA, "shape": TIED}
PACKED: dict[str, Any] = {"packed": True}
LABELS = {"num_labels": 3, "pad_token_id": 511, "architectures": ["LlamaForSequenceClassification"]}
CLASSIFY: dict[str, Any] = {"task": "classify", "shape": LABELS, "training": CLIP}


@pytest.fixture(scope="module")
def alone(jobs: Path) -> dict[str, Any]:
    """What one process computes."""
    variants = {"plain": PLAIN, "adapters": ADAPTERS, "hard": MEASURED | {"training": CLIP}, "packed": PACKED, "odd": ODD}
    variants |= {"bf16": BF16, "bf16 base": BF16 | HARD_BASE}
    return dict(zip(variants, launch(jobs, "traces", 1, [*variants.values()]), strict=True))


def assert_equal(trace: Any, reference: Any, tolerance: float = TOLERANCE) -> None:
    for found, expected in zip(trace, reference, strict=True):
        assert found == pytest.approx(expected, abs=tolerance, rel=tolerance)


def test_two_ranks_compute_what_one_does(jobs: Path, alone: dict[str, Any]) -> None:
    cases = [
        ("plain", PLAIN | {"dp": 2}),
        ("plain", PLAIN | {"dp": 2, "zero_stage": 0}),
        ("adapters", ADAPTERS | {"tp": 2}),
        ("hard", MEASURED | {"pp": 2}),
        ("hard", MEASURED | {"tp": 2}),
        ("packed", PACKED | {"pp": 2, "virtual": 2}),
        ("odd", ODD | {"tp": 2}),
    ]
    for (variant, _), trace in zip(cases, launch(jobs, "traces", 2, [case for _, case in cases]), strict=True):
        assert_equal(trace, alone[variant])


def test_a_plain_hugging_face_trainer_computes_the_same(parity: ModuleType, alone: dict[str, Any]) -> None:
    found = launch(Path(str(parity.__file__)), "run_hf_trainer", 1, parity.Case(**PLAIN), 5)
    assert_equal(found, alone["plain"][:2])


def test_norms_inside_the_heads_are_trained_the_same_in_two_halves(jobs: Path, parity: ModuleType) -> None:
    qwen = {"shape": parity.QWEN3, "training": CLIP}
    (alone,) = launch(jobs, "traces", 1, [qwen])
    (halves,) = launch(jobs, "traces", 2, [qwen | {"tp": 2}])
    assert_equal(halves, alone)


def test_a_stop_that_one_rank_wishes_is_heard_by_all(jobs: Path, tmp_path: Path) -> None:
    assert launch(jobs, "stop_asked_by_one", 2, tmp_path) == [False, True]


def test_a_resume_in_the_same_layout_repeats_dropout_exactly(jobs: Path, parity: ModuleType, tmp_path: Path) -> None:
    dropout = {"shape": parity.GPT2 | {"resid_pdrop": 0.2}, "pp": 2}
    expected = launch(jobs, "save_and_go_on", 2, dropout, tmp_path)
    assert launch(jobs, "load_and_go_on", 2, [dropout], tmp_path) == [expected]


def test_a_classifier_resumes_exactly_in_its_layout_and_equally_in_another(jobs: Path, tmp_path: Path) -> None:
    expected = launch(jobs, "save_and_go_on", 2, CLASSIFY | ADAPTERS | {"pp": 2}, tmp_path)
    same, tensor = launch(jobs, "load_and_go_on", 2, [CLASSIFY | ADAPTERS | {"pp": 2}, CLASSIFY | ADAPTERS | {"tp": 2}], tmp_path)
    assert same == expected
    assert tensor == pytest.approx(expected, abs=TOLERANCE)


def test_bf16_agrees_with_one_process_within_its_rounding(jobs: Path, alone: dict[str, Any]) -> None:
    base = [BF16 | HARD_BASE | mesh for mesh in ({"tp": 2}, {"dp": 2}, {"dp": 2, "zero_stage": 0})]
    trace, *traces = launch(jobs, "traces", 2, [BF16 | {"tp": 2}, *base])
    assert_equal(trace, alone["bf16"], tolerance=1e-2)
    for each in traces:
        assert_equal(each, alone["bf16 base"], tolerance=1e-2)


def test_two_by_two_by_two_computes_what_one_process_does(jobs: Path, alone: dict[str, Any]) -> None:
    mesh = {"pp": 2, "dp": 2, "tp": 2}
    hard, adapters = launch(jobs, "traces", 8, [MEASURED | mesh, ADAPTERS | mesh])
    assert_equal(hard, alone["hard"])
    assert_equal(adapters, alone["adapters"])


def test_packed_samples_do_not_see_each_other(alone: dict[str, Any], jobs: Path) -> None:
    (unpacked,) = launch(jobs, "traces", 1, [{}])
    assert unpacked[0][0] != pytest.approx(alone["packed"][0][0], abs=TOLERANCE)


def test_a_checkpoint_of_one_layout_goes_on_in_another(jobs: Path, tmp_path: Path) -> None:
    tied = {"shape": {"tie_word_embeddings": True}, "training": CLIP}
    expected = launch(jobs, "save_and_go_on", 4, tied | {"pp": 2, "dp": 2, "virtual": 2}, tmp_path)
    alone = launch(jobs, "load_and_go_on", 1, [tied], tmp_path)
    two = launch(jobs, "load_and_go_on", 2, [tied | {"tp": 2}, tied | {"pp": 2}, tied | {"dp": 2, "zero_stage": 0}], tmp_path)
    for losses in [*alone, *two]:
        assert losses == pytest.approx(expected, abs=TOLERANCE)


def test_exports_load_in_plain_transformers_and_peft(jobs: Path, parity: ModuleType, tmp_path: Path) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    mesh = {"pp": 2, "tp": 2}
    losses = launch(jobs, "export", 4, [mesh | HARD, mesh | ADAPTERS, mesh | ADAPTERS], ["full", "adapter", "full"], tmp_path)
    launch(jobs, "export_start", 1, {}, tmp_path / "start")
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "start" / "weights")
    models = [
        AutoModelForCausalLM.from_pretrained(tmp_path / "0-full"),
        PeftModel.from_pretrained(base, tmp_path / "1-adapter"),
        AutoModelForCausalLM.from_pretrained(tmp_path / "2-full"),
    ]
    batch = parity.batch_of(99, 0, 1, packed=False)
    for model, expected in zip(models, losses, strict=True):
        with torch.no_grad():
            logits = model.eval()(input_ids=batch["input_ids"]).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch["labels"].flatten())
        assert loss.item() == pytest.approx(expected, abs=TOLERANCE)


def test_exports_of_a_classifier_load_in_plain_transformers_and_peft(jobs: Path, parity: ModuleType, tmp_path: Path) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification

    cases = [CLASSIFY | {"tp": 2}, CLASSIFY | ADAPTERS | {"tp": 2}, CLASSIFY | ADAPTERS | {"tp": 2}]
    losses = launch(jobs, "export", 2, cases, ["full", "adapter", "full"], tmp_path)
    launch(jobs, "export_start", 1, CLASSIFY, tmp_path / "start")
    base = AutoModelForSequenceClassification.from_pretrained(tmp_path / "start" / "weights")
    models = [
        AutoModelForSequenceClassification.from_pretrained(tmp_path / "0-full"),
        PeftModel.from_pretrained(base, tmp_path / "1-adapter"),
        AutoModelForSequenceClassification.from_pretrained(tmp_path / "2-full"),
    ]
    batch = parity.labelled_batch_of(99, 0, 1)
    labels = batch["labels"].max(dim=1).values
    for model, expected in zip(models, losses, strict=True):
        with torch.no_grad():
            logits = model.eval()(input_ids=batch["input_ids"]).logits
        assert torch.nn.functional.cross_entropy(logits, labels).item() == pytest.approx(expected, abs=TOLERANCE)


def test_pretrained_weights_are_read_in_every_layout(jobs: Path, tmp_path: Path) -> None:
    launch(jobs, "export_start", 1, {}, tmp_path)
    expected = launch(jobs, "first_loss_of_pretrained", 1, {}, tmp_path / "weights")
    drawn = launch(jobs, "traces", 1, [{}])[0][0][0]
    assert expected == pytest.approx(drawn, abs=TOLERANCE)
    split = launch(jobs, "first_loss_of_pretrained", 4, {"pp": 2, "tp": 2}, tmp_path / "weights")
    assert split == pytest.approx(expected, abs=TOLERANCE)
