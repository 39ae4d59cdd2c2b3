"""The CustomResourceDefinition, generated from the types: `python -m llmtrain_operator.manifest.crd` prints the file in crds/.

Descriptions come from the docstrings under the fields, cross-field rules from rules.py. This module defines which fields may change later.
"""

from __future__ import annotations

from typing import Any

import yaml

from llmtrain_operator.api.job import GROUP, KIND, PLURAL, VERSION, LLMTrainJob
from llmtrain_operator.manifest.rules.registry import RULES
from llmtrain_operator.manifest.schema import Schema, structural
from llmtrain_trainer.config.training import FINE_TUNING

NEVER = ("task", "labels", "model", "tokenizer", "dataset", "mixing", "curriculum", "peft", "training", "evaluation", "managedBy")
"""Fields that say what is trained, and on what: a new value needs a new job. suspend, deadlines, resilience, cadence, retention and output
may change."""

ONLY_SUSPENDED = ("parallelism", "resources", "scheduling")
"""Fields that say where a job runs, and with which engine: a checkpoint restores into any layout, but not under running pods."""

_ANOTHER_JOB = "it cannot change once the job exists. Create another job"
_WHEN_SUSPENDED = "it can change only while the job is suspended. Set suspend to true first"

# (name, type, path below the object, priority): priority 1 shows with `kubectl get -o wide` only.
_COLUMNS = (
    ("Phase", "string", ".status.phase", 0),
    ("Step", "integer", ".status.progress.step", 0),
    ("Total", "integer", ".status.progress.targetSteps", 0),
    ("%", "integer", ".status.progress.percent", 0),
    ("Loss", "number", ".status.progress.loss", 0),
    ("Tok/s/GPU", "number", ".status.progress.tokensPerSecondPerGpu", 0),
    ("MFU", "number", ".status.progress.mfu", 0),
    ("Goodput", "number", ".status.goodput.ratio", 0),
    ("Restarts", "integer", ".status.restarts.total", 0),
    ("Last-Ckpt", "date", ".status.checkpoint.time", 0),
    ("ETA", "string", ".status.progress.eta", 0),
    ("Age", "date", ".metadata.creationTimestamp", 0),
    ("Queue", "string", ".spec.scheduling.queue", 1),
    ("Nodes", "integer", ".spec.resources.nodes", 1),
    ("GPUs", "integer", ".status.plan.gpus", 1),
    ("Model", "string", ".status.plan.model", 1),
)


def custom_resource_definition() -> dict[str, Any]:
    """The whole object, as a dict for YAML or for an API client."""
    version = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "additionalPrinterColumns": [{"name": n, "type": t, "jsonPath": p, "priority": o} for n, t, p, o in _COLUMNS],
        "schema": {"openAPIV3Schema": object_schema()},
    }
    names = {
        "kind": KIND,
        "listKind": f"{KIND}List",
        "plural": PLURAL,
        "singular": KIND.lower(),
        "shortNames": ["ltj"],
        "categories": ["ml"],
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {"group": GROUP, "names": names, "scope": "Namespaced", "versions": [version]},
    }


def object_schema() -> Schema:
    """The structural schema with its CEL rules. apiVersion, kind and metadata belong to Kubernetes; the name's rule is CEL."""
    schema = structural(LLMTrainJob)
    name = schema["properties"]["metadata"]["properties"]["name"]
    for part in ("apiVersion", "kind"):
        schema["properties"][part] = {"type": "string", "description": schema["properties"][part]["description"]}
    schema["properties"]["metadata"] = {"type": "object"}
    schema["required"] = ["spec"]
    rule = f"size(self.metadata.name) <= {name['maxLength']} && self.metadata.name.matches('{name['pattern']}')"
    longest = name["maxLength"]
    message = f"metadata.name: it must be lower-case letters, digits and dashes, at most {longest}. Write it like llama3-8b-sft"
    _validate(schema, rule, message)
    for each in RULES:
        _validate(_section(schema, each.at), each.cel, each.message)
    for rule, message in _changes():
        _validate(schema["properties"]["spec"], rule, message)
    _validate_names(schema["properties"]["spec"])
    plain: Schema = _storable(schema)
    return plain


def _changes() -> list[tuple[str, str]]:
    """Transition rules of spec. They are on spec because Kubernetes skips rules on optional fields that are added or removed."""
    rules = [(f"has(self.{f}) == has(oldSelf.{f}) && (!has(self.{f}) || self.{f} == oldSelf.{f})", f"{f}: {_ANOTHER_JOB}") for f in NEVER]
    rules += [(f"oldSelf.suspend || self.{f} == oldSelf.{f}", f"{f}: {_WHEN_SUSPENDED}") for f in ONLY_SUSPENDED]
    both = "!has(self.checkpoint) || !has(oldSelf.checkpoint)"
    return [
        *rules,
        (
            "has(self.checkpoint) == has(oldSelf.checkpoint)",
            "checkpoint: it cannot be added or removed once the job exists. Create another job",
        ),
        (f"{both} || self.checkpoint.destination == oldSelf.checkpoint.destination", f"checkpoint.destination: {_ANOTHER_JOB}"),
        (f"{both} || oldSelf.suspend || self.checkpoint.resume == oldSelf.checkpoint.resume", f"checkpoint.resume: {_WHEN_SUSPENDED}"),
    ]


def _validate(schema: Schema, rule: str, message: str) -> None:
    schema.setdefault("x-kubernetes-validations", []).append({"rule": rule, "message": message})


def _validate_names(schema: Schema) -> None:
    """Add the rules for the keys of maps in CEL, since Kubernetes does not support propertyNames."""
    names = schema.get("propertyNames", {})
    claims = [f"size(name) <= {names['maxLength']}"] if "maxLength" in names else []
    claims += [f"name.matches(r'{names['pattern']}')"] if "pattern" in names else []
    if claims:
        such = f", such as {names['examples'][0]}" if names.get("examples") else ""
        _validate(schema, f"self.all(name, {' && '.join(claims)})", f"each name must be valid in Kubernetes{such}")
    inner = [*schema.get("properties", {}).values(), *(schema[key] for key in ("items", "additionalProperties") if key in schema)]
    for each in inner:
        if isinstance(each, dict):
            _validate_names(each)


def _section(schema: Schema, path: str) -> Schema:
    for step in path.split("."):
        schema = schema["properties"][step.removesuffix("[]")]
        if step.endswith("[]"):
            schema = schema["items"]
    return schema


def _storable(schema: Any, inside_properties: bool = False) -> Any:
    """The schema without keywords that Kubernetes' OpenAPI 3.0 does not support; properties of the same name are kept."""
    if isinstance(schema, list):
        return [_storable(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: _storable(value, inside_properties=key == "properties" and not inside_properties)
        for key, value in schema.items()
        if inside_properties or key not in ("examples", "propertyNames", FINE_TUNING)
    }


def render() -> str:
    """The text of crds/llmtrain.io_llmtrainjobs.yaml."""
    return "# Generated from operator/llmtrain_operator/job by `make generate`.\n" + yaml.safe_dump(
        custom_resource_definition(), sort_keys=False, width=140
    )


if __name__ == "__main__":
    print(render(), end="")
