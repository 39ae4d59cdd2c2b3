"""Maps whose keys another program reads: DeepSpeed's configuration, config.json, chat templates."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llmtrain_operator.plan.checks.chat_template import fault
from llmtrain_operator.plan.engines.deepspeed_keys import KEYS, Keys, wrong_keys
from llmtrain_operator.plan.model.unknown_keys import misspelt, unread
from llmtrain_trainer.config.deepspeed import OWNED
from llmtrain_trainer.config.tables.families import TRAINED


def deepspeed_source() -> Path:
    found = importlib.util.find_spec("deepspeed")
    if found is None or found.submodule_search_locations is None:
        pytest.skip("deepspeed is not installed")
    return Path(found.submodule_search_locations[0])


def names(keys: Keys) -> Iterator[str]:
    for name, inner in keys.items():
        yield name
        if not isinstance(inner, str):
            yield from names(inner)


def test_deepspeed_reads_every_key_that_may_be_given() -> None:
    source = deepspeed_source()
    files = [path for folder in ("runtime", "monitor", "profiling", "utils", "comm") for path in (source / folder).rglob("*.py")]
    text = "\n".join(path.read_text() for path in files)
    assert [name for name in names(KEYS) if f'"{name}"' not in text and f"'{name}'" not in text and f"    {name}:" not in text] == []


def test_every_key_of_zero_may_be_given_or_has_a_field() -> None:
    tree = ast.parse((deepspeed_source() / "runtime" / "zero" / "config.py").read_text())
    config = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "DeepSpeedZeroConfig")
    fields = {_name(node) for node in config.body if isinstance(node, ast.AnnAssign)}
    zero = KEYS["zero_optimization"]
    assert not isinstance(zero, str)
    known = {*zero, *(key.removeprefix("zero_optimization.") for key in OWNED)}
    assert fields - known <= {"zenflow", "cpu_offload_param"}  # an optimizer of its own; the old name of offload_param


def _name(node: ast.AnnAssign) -> str:
    assert isinstance(node.target, ast.Name)
    call = node.value
    aliases = [key.value for key in call.keywords if key.arg == "alias"] if isinstance(call, ast.Call) else []
    return str(aliases[0].value) if aliases and isinstance(aliases[0], ast.Constant) else node.target.id


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"gradient_cliping": 1.0}, "Leave gradient_cliping out, and set spec.training.gradientClipping"),
        ({"zero_optimization": {"stage3_max_live_parameter": 1}}, "Write zero_optimization.stage3_max_live_parameters"),
        ({"zero_optimization": True}, "Write its keys, or leave zero_optimization out"),
        ({"zero_optimization": {"offload_optimizer": {"pin_memoy": True}}}, "Write zero_optimization.offload_optimizer.pin_memory"),
        ({"steps_per_print": -1}, "Write a whole number of at least 0, or leave steps_per_print out"),
        ({"autotuning": {"enabled": True}}, "Leave autotuning out"),
    ],
)
def test_a_key_of_deepspeed_that_nothing_reads_is_refused_with_the_nearest(given: dict[str, Any], said: str) -> None:
    (problem,) = wrong_keys(given)
    assert said in str(problem)


@pytest.mark.parametrize("given", [{"zero_optimization": {"reduce_bucket_size": 5e8, "overlap_comm": True}}, {"steps_per_print": 10}, {}])
def test_keys_of_deepspeed_pass(given: dict[str, Any]) -> None:
    assert list(wrong_keys(given)) == []


@pytest.mark.parametrize("model_type", TRAINED)
def test_every_key_that_transformers_writes_into_a_config_is_known(model_type: str) -> None:
    from transformers import AutoConfig

    config = AutoConfig.for_model(model_type).to_dict()
    assert unread(config) == [], "name them in plan/model/unknown_keys.py"
    assert list(misspelt(config)) == []


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("num_key_value_head", "num_key_value_heads"),
        ("tie_word_embedding", "tie_word_embeddings"),
        ("rms_norm_epsilon", "rms_norm_eps"),
        ("rope_tetha", "rope_theta"),
        ("my_own_note", None),
    ],
)
def test_a_misspelt_key_of_a_config_is_named_and_a_foreign_one_is_told(key: str, meant: str | None) -> None:
    config = {"model_type": "llama", key: 4}
    assert [way_out for *_, way_out in misspelt(config)] == ([f"Write {meant}"] if meant else [])
    assert unread(config) == [key]


WHOLE = "{% for m in messages %}{{ m.content }}{% endfor %}"


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{% for m in messages %}{{ m.content }}", "Unexpected end of template"),
        ("{% for m in messages %}{{ m.content | shout }}{% endfor %}", "No filter named 'shout'"),
        ("{% for m in messages %}{{ m is spoken }}{% endfor %}", "No test named 'spoken'"),
        ("{% for m in messages %}{{ message.content }}{% endfor %}", "it needs message"),
        (WHOLE + "{{ bos }}", "it needs bos"),
        (WHOLE + "{{ render(tools) }}", "it needs render"),
        ("{% import 'macros' as m %}" + WHOLE, "includes another template"),
        ("You are helpful.", "neither a Jinja template nor the name of one"),
        ("{{ 'You are helpful.' }}", "does not write the messages"),
        ("".join(f"{{% for m{i} in messages %}}" for i in range(25)) + "{% endfor %}" * 25, "cannot be compiled"),
        ("{{ " + "(" * 4000 + "messages" + ")" * 4000 + " }}", "nested too deeply"),
    ],
)
def test_a_template_that_can_write_no_conversation_is_refused(template: str, said: str) -> None:
    found = fault(template)
    assert found is not None and said in found[0]


@pytest.mark.parametrize(
    "template",
    [
        WHOLE,
        "{{ bos_token }}" + WHOLE + "{% if add_generation_prompt %}a{% endif %}{{ strftime_now('%d') }}{{ raise_exception('x') }}",
        WHOLE + "{% if enable_thinking is defined and enable_thinking %}{{ enable_thinking }}{% endif %}",
        WHOLE + "{% if enable_thinking is not false %}t{% endif %}{{ date_string | default('today') }}",
        WHOLE + "{% if messages[0].role == 'system' %}{% set words = messages[0].content %}{% endif %}{{ words }}",
        "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% if loop.last %}{% break %}{% endif %}{% endfor %}",
        "{% macro turn(m) %}{{ m.content }}{% endmacro %}{% set ns = namespace(n=0) %}{% for m in messages %}{{ turn(m) }}{% endfor %}",
    ],
)
def test_a_template_as_models_have_it_passes(template: str) -> None:
    assert fault(template) is None
