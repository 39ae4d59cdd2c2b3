"""Jobs that nobody should write, made from the schema itself and a seed: the same number is the same job. By test_fuzz, benchmarks.

Each is a good manifest with one to four changes: a field set to some value that its schema allows, so that fields contradict each other, or
to one that it does not (wrong types, limits, huge and strange text, deep nests, fields that do not exist); odd names, labels, annotations.
"""

from __future__ import annotations

import copy
import itertools
import random
import re
from collections.abc import Iterable, Iterator
from pathlib import Path as File
from typing import Any

import yaml

from llmtrain_operator.kube.api.client import Client, path_of

Json = Any
Path = tuple[str | int, ...]
CRD = File(__file__).parents[2] / "crds" / "llmtrain.io_llmtrainjobs.yaml"
PROPERTIES = yaml.safe_load(CRD.read_text())["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]

TEXTS = [
    "",
    " ",
    "a",
    "0",
    "null",
    "true",
    "1e999",
    "-1",
    "\n",
    "\t",
    "é",
    "\u202e",
    "\u0000",
    "💥" * 30,
    "../../etc/passwd",
    "$(id)",
    "{{ . }}",
]
TEXTS += [
    "x" * 70,
    "x" * 300,
    "x" * 5000,
    "hf://",
    "s3://b",
    "pvc://c/d",
    "file://",
    "hf://a/b@main",
    "1.5",
    "64Gi",
    "90s",
    "bf16",
    "%s%n",
    "'\";--",
]
SIZES = [0, -1, 7, 10**9, 720_720, 735_134_400, 9 * 10**18, 1e300, [7], "7", None]
"""Of a config.json: over some of them one could count for hours."""

NUMBERS = [0, -1, 1, 2, 3, 7, 4096, 2**31, 2**53, -(2**63), 2**63 - 1, 10**30, 0.5, -0.0, 1e-300, 1e300]
OTHERS: list[Json] = [None, True, False, [], {}, [None], {"": None}, [[[]]], {"a": {"b": {"c": 1}}}]
LARGEST_GANG = 3
"""Nodes of a job that may be sound: its pods are made."""


def _config(job: Json) -> Json:
    """spec.model.config, as far as an earlier change left one."""
    spec = job.get("spec")
    model = spec.get("model") if isinstance(spec, dict) else None
    return model.get("config") if isinstance(model, dict) else None


def odd_job(good: Json, number: int, seed: int) -> Json:
    """Job number `number` of the seed. `good` is a whole manifest."""
    dice = random.Random(f"{seed}/{number}")
    job = copy.deepcopy(good)
    job["metadata"]["name"] = f"odd-{number:05}"
    fields = list(_fields(PROPERTIES["spec"], ("spec",)))
    for _ in range(dice.randint(1, 4)):
        kind = dice.random()
        if kind < 0.06:
            _metadata(job, dice)
            continue
        if kind < 0.12 and isinstance(config := _config(job), dict):
            config[dice.choice([*config, "mlp_only_layers", "num_experts", "x"])] = dice.choice([*SIZES, _odd(dice)])
            continue
        path, schema = dice.choice(fields)
        if kind < 0.16:
            _put(
                job, (*path[:-1], dice.choice(["colour", "Nodes", path[-1] if isinstance(path[-1], str) else "x", "__proto__"])), _odd(dice)
            )
        else:
            _put(job, path, sound(schema, dice) if kind < 0.75 else odd(schema, dice))
    _bound(job)
    return job


def odd_patch(number: int, seed: int) -> tuple[str, Json]:
    """Subresource and merge patch of something that happens to a job in the middle of its life."""
    dice = random.Random(f"{seed}/patch/{number}")
    path, schema = dice.choice(list(_fields(PROPERTIES["spec"], ("spec",))))
    change: Json = {}
    _put(change, path, sound(schema, dice) if dice.random() < 0.7 else odd(schema, dice))
    _bound(change)
    where, field = dice.choice(list(_fields(PROPERTIES["status"], ("status",))))
    status: Json = {}
    _put(status, where, sound(field, dice))
    some: list[tuple[str, Json]] = [
        ("", change),
        ("", {"spec": {"suspend": dice.random() < 0.5}}),
        ("", {"metadata": {"labels": {"llmtrain.io/job": dice.choice(["other", "", None])}}}),
        ("", {"metadata": {"annotations": {"llmtrain.io/odd": dice.choice(TEXTS)}}}),
        ("/status", status),
        ("/status", {"status": {"attempt": dice.choice([0, 1, 7, 2**31]), "endedAttempt": dice.choice([0, 1, 2**31])}}),
        ("/status", {"status": {"phase": dice.choice(["Complete", "Failed", "Running", "Queued"]), "conditions": []}}),
    ]
    return dice.choice(some)


def sound(schema: Json, dice: random.Random) -> Json:
    """A value that the schema of a single field allows, mostly near its limits."""
    if "enum" in schema:
        return dice.choice(schema["enum"])
    kind = schema.get("type")
    if schema.get("x-kubernetes-int-or-string"):
        return dice.choice([1, 64, "1", "64Gi", "500m", "1e3"])
    if kind == "boolean":
        return dice.random() < 0.5
    if kind in ("integer", "number"):
        return _number(schema, dice, whole=kind == "integer")
    if kind == "string":
        return _text(schema, dice)
    if kind == "array":
        most = min(schema.get("maxItems", 4), 4)
        return [sound(schema["items"], dice) for _ in range(dice.randint(min(schema.get("minItems", 0), most), most))]
    if "properties" in schema:
        needed = schema.get("required", [])
        chosen = [name for name in schema["properties"] if name in needed or dice.random() < 0.3]
        return {name: sound(schema["properties"][name], dice) for name in chosen}
    if "additionalProperties" in schema:
        return {dice.choice(["a", "rdma/hca", "b.c/d"]): sound(schema["additionalProperties"], dice) for _ in range(dice.randint(0, 2))}
    return dice.choice(OTHERS)


def odd(schema: Json, dice: random.Random) -> Json:
    """A value that it most probably does not allow."""
    limits = [schema[name] + step for name, step in (("minimum", -1), ("maximum", 1)) if name in schema]
    longer = ["y" * (schema["maxLength"] + 1)] if schema.get("maxLength", 10**9) < 10_000 else []
    return dice.choice([_odd(dice), _odd(dice), *limits, *longer])


def _odd(dice: random.Random) -> Json:
    deep: Json = "bottom"
    for _ in range(dice.choice([dice.randint(2, 60), 250])):
        deep = {"a": deep} if dice.random() < 0.5 else [deep]
    return copy.deepcopy(dice.choice([dice.choice(TEXTS), dice.choice(NUMBERS), dice.choice(OTHERS), deep]))


def _number(schema: Json, dice: random.Random, *, whole: bool) -> float:
    least, most = schema.get("minimum", 0), schema.get("maximum", 10**6)
    nudge = (1 if whole else 1e-6) if schema.get("exclusiveMinimum") else 0
    found = dice.choice([least + nudge, most, dice.uniform(least, min(most, least + 20)), 1, 2, 3, 4, 8])
    found = max(least + nudge, min(most, found))
    return int(found) if whole else float(found)


def _text(schema: Json, dice: random.Random) -> str:
    candidates = [*TEXTS, *schema.get("examples", []), *([schema["default"]] if isinstance(schema.get("default"), str) else [])]
    fits = [text for text in candidates if schema.get("minLength", 0) <= len(text) <= schema.get("maxLength", 10**9)]
    fits = [text for text in fits if re.search(schema.get("pattern", ""), text)]
    return str(dice.choice(fits or TEXTS))


def _fields(schema: Json, path: Path) -> Iterator[tuple[Path, Json]]:
    """Every field of a schema, sections included; of lists the first item."""
    yield path, schema
    for name, field in schema.get("properties", {}).items():
        yield from _fields(field, (*path, name))
    if isinstance(schema.get("items"), dict):
        yield from _fields(schema["items"], (*path, 0))


def _put(tree: Json, path: Path, value: Json) -> None:
    """Set a value, making the sections on the way; nothing happens where something else stands in the way."""
    for step, following in itertools.pairwise(path):
        empty: Json = [] if isinstance(following, int) else {}
        if isinstance(step, int):
            if not isinstance(tree, list):
                return
            tree.extend([empty] * (step + 1 - len(tree)))
        elif not isinstance(tree, dict):
            return
        else:
            tree[step] = empty if tree.get(step) is None else tree[step]
        tree = tree[step]
    last = path[-1]
    if isinstance(tree, dict):
        tree[last] = value
    elif isinstance(tree, list) and isinstance(last, int):
        tree[last:] = [value]


async def lift_finalizers(client: Client, namespace: str, jobs: Iterable[Json]) -> None:
    """Of jobs as they were listed: nobody serves an odd one's, and its namespace would stay."""
    for metadata in (job["metadata"] for job in jobs):
        if metadata.get("finalizers"):
            await client.merge(
                path_of("llmtrain.io/v1alpha1", "LLMTrainJob", namespace, metadata["name"]), {"metadata": {"finalizers": None}}
            )


def _metadata(job: Json, dice: random.Random) -> None:
    odd_metadata: list[Json] = [
        {"annotations": {"llmtrain.io/odd": "z" * 200_000}},
        {"annotations": {"a b": "c"}},
        {"annotations": {"llmtrain.io/attempt": "-1", "llmtrain.io/job": "💥"}},
        {"labels": {"llmtrain.io/job": "another", "llmtrain.io/attempt": "x"}},
        {"labels": {"a": "no label"}},
        {"finalizers": ["no-domain"]},
        {"name": dice.choice(["", "A", "a" * 254, "a..b", "ü", "-", "1", "a" * 63, "a." * 30 + "a", "x" * 253])},
        {"generateName": "odd-", "name": None},
        {"ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "nobody", "uid": ""}]},
    ]
    job["metadata"] |= dice.choice(odd_metadata)


def _bound(job: Json) -> None:
    """A job that is sound gets pods: not thousands."""
    resources = (job.get("spec") or {}).get("resources") if isinstance(job.get("spec"), dict) else None
    if isinstance(resources, dict) and type(resources.get("nodes")) is int and resources["nodes"] > LARGEST_GANG:
        resources["nodes"] = resources["nodes"] % LARGEST_GANG + 1 if resources["nodes"] <= 4096 else resources["nodes"]
