"""An inline chat template is compiled as transformers compiles it, so that a mistake is found before anything starts. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from jinja2 import TemplateError, meta, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from llmtrain_operator.manifest.divisors import listed
from llmtrain_operator.manifest.problem import Problem
from llmtrain_operator.plan.layout.request import LayoutRequest
from llmtrain_trainer.config.tables.chat_templates import CHAT_TEMPLATES, text_of
from llmtrain_trainer.config.tables.row_expressions import lazy

FIELD = "spec.tokenizer.chatTemplate"
TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token", "additional_special_tokens")
GIVEN = ("messages", "tools", "documents", "add_generation_prompt", *TOKENS)
"""Variables that a template is given; `chat_template_kwargs` of a row may give more."""

FUNCTIONS = ("raise_exception", "strftime_now")
MOST_SHOWN = 60
"""Characters of a template that a refusal shows."""


class _Generation(Extension):
    """{% generation %} ... {% endgeneration %}, with which a template marks what is learned."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=line)


def chat_template(request: LayoutRequest) -> Problem | None:
    """A template that cannot be compiled, or that needs a variable that nothing gives."""
    tokenizer = request.job.spec.tokenizer
    if tokenizer is None or tokenizer.chat_template is None:
        return None
    found = fault(text_of(tokenizer.chat_template))
    return found and Problem(FIELD, shown(tokenizer.chat_template), *found)


@lru_cache(maxsize=64)
def fault(template: str) -> tuple[str, str] | None:
    """Rule and way out for what is wrong with a template; None if nothing is."""
    if "{" not in template:
        way_out = f"Write the text of a template, or one of {listed(list(CHAT_TEMPLATES), 'and')}"
        return "it is neither a Jinja template nor the name of one", way_out
    environment = _environment()
    try:
        tree = environment.parse(template)
        environment.compile(template)
    except TemplateError as error:
        line = getattr(error, "lineno", None)
        return f"it is not a valid Jinja template ({error.message}{f' in its line {line}' if line else ''})", "Correct the template"
    except RecursionError:
        return "it is nested too deeply to be compiled", "Write a shorter template"
    except (SyntaxError, ValueError, OverflowError) as error:  # of the Python that Jinja makes of it
        return f"it cannot be compiled ({error})"[:MOST_SHOWN], "Write a simpler template"
    if any(tree.find_all((nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends))):
        return "it includes another template, and there is none beside it", "Write all of it here"
    if not any(name.name == "messages" for name in tree.find_all(nodes.Name)):
        return "it does not write the messages", "Write a template that goes over messages, or leave chatTemplate out"
    set_inside = {name.name for name in tree.find_all(nodes.Name) if name.ctx != "load"}
    unknown = sorted(_undeclared(environment, tree) - {*GIVEN, *FUNCTIONS, *environment.globals, *set_inside})
    if needed := [name for name in unknown if _is_needed(tree, name)]:
        name = needed[0]
        rule = f"it needs {listed(needed, 'and')}, and a template is given {listed(GIVEN[:4], 'and')} and the tokenizer's special tokens"
        return rule, f"Correct the name, or write {{% if {name} is defined %}} around what may be left out"
    return None


def _undeclared(environment: Any, tree: nodes.Template) -> set[str]:
    """As meta.find_undeclared_variables, which computes constants."""
    generator = meta.TrackingCodeGenerator(environment)
    generator.optimizer = None
    generator.visit(tree)
    return generator.undeclared_identifiers


def _environment() -> Any:
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols])
    lazy(environment)
    for name in FUNCTIONS:
        environment.globals[name] = None
    return environment


def _is_needed(tree: nodes.Template, name: str) -> bool:
    """Whether a variable is used and nowhere asked about, as with `is defined`, `if` or `default`."""
    return name not in set(_asked(tree))


def _asked(tree: nodes.Template) -> Iterator[str]:
    """Variables about which the template asks before it uses them."""
    for node in tree.find_all((nodes.Test, nodes.Filter, nodes.If, nodes.CondExpr, nodes.And, nodes.Or, nodes.Not, nodes.Compare)):
        if isinstance(node, nodes.Filter) and node.name not in ("default", "d"):
            continue
        yield from (inner.name for inner in _tested(node) if isinstance(inner, nodes.Name))


def _tested(node: nodes.Node) -> Iterator[nodes.Node]:
    """What a condition looks at directly."""
    if isinstance(node, nodes.If | nodes.CondExpr):
        yield node.test
    elif isinstance(node, nodes.Compare):
        yield node.expr
    elif isinstance(node, nodes.And | nodes.Or):
        yield from (node.left, node.right)
    elif isinstance(node, nodes.Test | nodes.Filter | nodes.Not) and node.node is not None:
        yield node.node


def shown(template: str) -> str:
    """On one line, as a refusal shows it."""
    line = " ".join(template.split())
    return line if len(line) <= MOST_SHOWN else f"{line[:MOST_SHOWN]}..."
