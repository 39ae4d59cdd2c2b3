"""What the plan counts of DoRA: a magnitude for each output of an adapted layer, and what computes the lengths of rows."""

from __future__ import annotations

import pytest

from llmtrain_operator.plan.layout.throughput import trainable_parameters
from llmtrain_operator.plan.memory.activations import magnitude_scratch, magnitude_values
from llmtrain_operator.plan.model.families import shape_of
from llmtrain_operator.plan.model.weights import adapted
from llmtrain_trainer.config import Peft

SHAPE = shape_of(
    {
        "model_type": "llama",
        "vocab_size": 64,
        "hidden_size": 16,
        "intermediate_size": 40,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
    }
)
OUTPUTS = {"q_proj": 16, "k_proj": 8, "v_proj": 8, "o_proj": 16, "gate_proj": 40, "up_proj": 40, "down_proj": 16}


@pytest.mark.parametrize("targets", [("all-linear",), ("q_proj", "down_proj")])
def test_a_magnitude_is_trained_for_each_output(targets: tuple[str, ...]) -> None:
    plain, dora = (Peft(method=method, rank=4, target_modules=targets) for method in ("lora", "dora"))
    more = sum(OUTPUTS[name] for name in (OUTPUTS if "all-linear" in targets else targets))
    assert trainable_parameters(SHAPE, dora) - trainable_parameters(SHAPE, plain) == 3 * more


def test_outputs_of_base_and_adapter_are_kept_for_backward() -> None:
    assert magnitude_values(adapted(SHAPE, Peft(method="dora"), 0), 1) == 2 * sum(OUTPUTS.values())


def test_the_largest_matrix_decides_what_lengths_of_rows_need() -> None:
    assert magnitude_scratch(adapted(SHAPE, Peft(method="dora"), 0)) == 40 * (40 + 3 * 16)
    assert magnitude_scratch(()) == 0
