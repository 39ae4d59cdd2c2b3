"""Which layers get adapters: names that a layer has, or a refusal that writes out the names that were meant. Which engine and layout
trains them."""

from __future__ import annotations

import difflib
import fnmatch
import re

from llmtrain_operator.manifest.divisors import listed
from llmtrain_operator.manifest.problem import Problem
from llmtrain_operator.plan.layout.request import LayoutRequest
from llmtrain_trainer.config.tables.adapters import ADAPTERS
from llmtrain_trainer.config.tables.engines import ENGINE_FACTS, engines_with

FIELD = "spec.peft.targetModules"
EXPERTS = ("w1", "w2", "w3", "gate_proj", "up_proj", "down_proj", "gate_up_proj", "gate", "experts")
"""Names under which routers and experts are published."""

LONGEST_PATTERN = 128
"""Most characters of a pattern that is tried as a regular expression."""

MOST_QUANTIFIERS = 4

_PATH = ("model.layers.0.self_attn.", "model.layers.0.mlp.", "model.layers.0.", "transformer.h.0.attn.", "transformer.h.0.mlp.", "")
"""Paths of the layers that hold such names, for regular expressions that match whole paths."""


def adapter_engine(request: LayoutRequest) -> Problem | None:
    """The engine must train adapters of this method."""
    peft, engine = request.job.spec.peft, request.degrees.engine
    if peft is None or engine in (able := engines_with(peft.method)):
        return None
    methods = ENGINE_FACTS[engine].adapters
    rule = f"engine {engine} trains {listed(methods)}" if methods else f"engine {engine} has no adapters and trains all weights"
    other = f"Use {listed(methods)}" if methods else "Leave peft out"
    return Problem("spec.peft.method", peft.method, rule, f"{other}, or use engine {listed(able)}")


def adapter_over_tensor(request: LayoutRequest) -> Problem | None:
    """With tensor parallelism the method's adapters must be split."""
    peft, tp = request.job.spec.peft, request.degrees.tp
    if peft is None or tp == 1 or ADAPTERS[peft.method].tensor:
        return None
    rule = f"tensor parallelism ({tp}) does not split adapters of this method"
    whole = [method for method, traits in ADAPTERS.items() if traits.tensor]
    return Problem("spec.peft.method", peft.method, rule, f"Use {listed(whole)}, or parallelism.tensor: 1")


def adapter_rates(request: LayoutRequest) -> Problem | None:
    peft, engine = request.job.spec.peft, request.degrees.engine
    if peft is None or peft.learning_rate_ratio == 1 or ENGINE_FACTS[engine].sets_rates:
        return None
    rule = f"engine {engine} has one learning rate for all weights"
    return Problem("spec.peft.learningRateRatio", f"{peft.learning_rate_ratio:g}", rule, "Leave it out, or use engine native")


def adapter_targets(request: LayoutRequest) -> Problem | None:
    """Adapters are on every layer of the model, and targets are the last part of a path."""
    peft, shape = request.job.spec.peft, request.shape
    if peft is None or shape is None or not shape.counted or "all-linear" in peft.target_modules:
        return None
    names = sorted({matrix.name for layer, _ in shape.kinds() for matrix in shape.linears("all-linear", layer)})
    given = peft.target_modules
    wrong = [target for target in given if target not in names]
    if not wrong:
        return None
    value = ", ".join(wrong)
    if shape.experts and any(target in EXPERTS for target in wrong):
        rule = "adapters on MoE routers and experts are not supported in this version"
        return Problem(FIELD, value, rule, f"Use {listed(names)}, or all-linear")
    meant = [name for name in names if name in given or any(name in _meant(target, names) for target in wrong)]
    if any(_is_pattern(target) for target in wrong) and meant:
        rule = "a target is the last part of a path, such as q_proj, and has adapters in every layer"
        return Problem(FIELD, value, rule, f"Write [{', '.join(meant)}]")
    near = difflib.get_close_matches(wrong[0], names, n=1, cutoff=0.5)
    way_out = f"Use {near[0]}" if near and len(given) == 1 else f"Write [{', '.join(meant or names)}], or all-linear"
    return Problem(FIELD, value, f"a {shape.model_type} layer has {', '.join(names)}", way_out)


def _is_pattern(target: str) -> bool:
    return re.fullmatch(r"\w+", target) is None


def _meant(target: str, names: list[str]) -> list[str]:
    """The names that a path, a glob or a regular expression stands for; for a misspelt name the nearest."""
    last = re.split(r"[./]", target)[-1]
    if last in names:
        return [last]
    if found := [name for name in names if fnmatch.fnmatchcase(name, last) or fnmatch.fnmatchcase(name, target)]:
        return found
    if found := _by_expression(target, names):
        return found
    return difflib.get_close_matches(target, names, n=1, cutoff=0.5)


def _by_expression(target: str, names: list[str]) -> list[str]:
    """As peft matches: the whole path. Expressions that may take long are not tried."""
    if len(target) > LONGEST_PATTERN or len(re.findall(r"[*+{]", target)) > MOST_QUANTIFIERS or re.search(r"\)[*+{]", target):
        return []
    try:
        pattern = re.compile(target)
    except (re.error, OverflowError, RecursionError):
        return []
    return [name for name in names if any(pattern.fullmatch(f"{path}{name}") for path in _PATH)]
