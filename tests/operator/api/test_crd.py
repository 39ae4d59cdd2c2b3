"""The CRD: in step with the types, structural by Kubernetes' rules, and described throughout."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, get_args

import pytest
import yaml
from pydantic import BaseModel, Field

import llmtrain_trainer.config as trainer_config
from llmtrain_operator.api import job as spec
from llmtrain_operator.api.job import LLMTrainJob
from llmtrain_operator.api.job import status as status_module
from llmtrain_operator.manifest import crd
from llmtrain_operator.manifest.parse import manifest_schema, parse_object
from llmtrain_operator.manifest.schema import defaulted, structural
from llmtrain_trainer.config import Strict

SCHEMA = crd.object_schema()
FORBIDDEN = {
    "$defs",
    "$ref",
    "$schema",
    "additionalItems",
    "const",
    "contains",
    "definitions",
    "dependencies",
    "deprecated",
    "discriminator",
} | {
    *("else", "examples", "id", "if", "patternProperties", "prefixItems", "propertyNames", "readOnly", "then", "title", "writeOnly", "xml")
}


def nodes(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, inner in schema.get("properties", {}).items():
        yield from nodes(inner, f"{path}.{name}".lstrip("."))
    for key, mark in (("items", "[]"), ("additionalProperties", "[*]")):
        if isinstance(schema.get(key), dict):
            yield from nodes(schema[key], path + mark)


def test_the_file_in_the_tree_is_in_step() -> None:
    committed = Path(__file__).parents[3] / "crds" / "llmtrain.io_llmtrainjobs.yaml"
    assert committed.read_text() == crd.render(), "run make generate"


def test_the_file_is_one_object_without_anchors() -> None:
    assert yaml.safe_load(crd.render()) == crd.custom_resource_definition()
    assert not re.search(r"(^|\s)[&*]id\d", crd.render())


def test_every_node_is_structural() -> None:
    for path, schema in nodes(SCHEMA):
        check_structural(path, schema)


def check_structural(path: str, schema: dict[str, Any]) -> None:
    assert not FORBIDDEN & set(schema), path
    assert isinstance(schema.get("type"), str) or schema.get("x-kubernetes-int-or-string"), f"{path} has no type"
    assert not ("properties" in schema and "additionalProperties" in schema), path
    assert schema.get("additionalProperties") is not False, path
    assert not schema.get("uniqueItems"), path
    assert schema.get("default", 0) is not None, path
    assert all(isinstance(schema.get(bound, True), bool) for bound in ("exclusiveMinimum", "exclusiveMaximum")), path
    if not schema.get("x-kubernetes-int-or-string"):
        for option in schema.get("anyOf", ()):
            assert not {"type", "description", "default", "additionalProperties", "nullable"} & set(option), path


def test_every_text_list_and_map_under_spec_is_bounded() -> None:
    """The API server refuses CEL rules whose cost it cannot bound."""
    for path, schema in nodes(SCHEMA["properties"]["spec"]):
        if "enum" not in schema and not schema.get("x-kubernetes-int-or-string"):
            check_bounded(path, schema)


def check_bounded(path: str, schema: dict[str, Any]) -> None:
    limit = {"string": "maxLength", "array": "maxItems"}.get(schema.get("type", ""))
    assert limit is None or limit in schema or all("enum" in option or limit in option for option in schema.get("anyOf", [{}])), path
    assert "additionalProperties" not in schema or "maxProperties" in schema, path


def test_every_default_satisfies_the_section_it_is_for() -> None:
    """The API server checks a default as it stands, before it fills in the defaults inside."""
    for path, schema in nodes(SCHEMA):
        if "default" in schema:
            assert defaulted(schema["default"], schema) == schema["default"], path


def models() -> list[type[BaseModel]]:
    """Every section of the manifest, the status and the trainer's contract."""
    everywhere = [*vars(trainer_config).values(), *vars(spec).values(), *vars(status_module).values()]
    found = {each for each in everywhere if isinstance(each, type) and issubclass(each, Strict) and each is not Strict}
    return sorted(found, key=lambda model: (model.__module__, model.__name__))


def test_every_section_is_looked_at() -> None:
    reached: set[type[BaseModel]] = set()

    def reach(annotation: Any) -> None:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel) and annotation not in reached:
            reached.add(annotation)
            for field in annotation.model_fields.values():
                reach(field.annotation)
        for inner in get_args(annotation):
            reach(inner)

    reach(LLMTrainJob)
    reach(trainer_config.TrainerConfig)
    assert reached <= set(models())


@pytest.mark.parametrize("model", models(), ids=lambda model: f"{model.__module__.split('.')[0]}.{model.__name__}")
def test_every_field_says_what_it_means(model: type[BaseModel]) -> None:
    assert model.__doc__ and len(model.__doc__.split()) >= 3
    for name, field in model.model_fields.items():
        assert field.description and len(field.description.split()) >= 3, f"{model.__name__}.{name}"


def test_every_description_reaches_kubectl_explain() -> None:
    for path, schema in nodes(SCHEMA["properties"]["spec"]):
        if path and not path.endswith("]"):
            assert len(schema["description"].split()) >= 3, path


def test_the_printed_columns_read_fields_that_exist() -> None:
    (version,) = crd.custom_resource_definition()["spec"]["versions"]
    columns = version["additionalPrinterColumns"]
    names = [column["name"].upper() for column in columns if column["priority"] == 0]
    assert names == ["PHASE", "STEP", "TOTAL", "%", "LOSS", "TOK/S/GPU", "MFU", "GOODPUT", "RESTARTS", "LAST-CKPT", "ETA", "AGE"]
    assert [column["name"].upper() for column in columns if column["priority"] == 1] == ["QUEUE", "NODES", "GPUS", "MODEL"]
    for column in columns:
        schema = SCHEMA
        for step in column["jsonPath"].strip(".").split("."):
            if step == "metadata":
                break
            schema = schema["properties"][step]
        else:
            kind = "date" if schema.get("format") == "date-time" else schema["type"]
            assert column["type"] == kind, column["name"]


def test_every_section_of_spec_may_change_never_or_only_when_said() -> None:
    free = {"checkpoint", "resilience", "output", "suspend", "activeDeadlineSeconds", "startupDeadlineSeconds", "ttlSecondsAfterFinished"}
    assert set(SCHEMA["properties"]["spec"]["properties"]) == {*crd.NEVER, *crd.ONLY_SUSPENDED, *free}
    rules = SCHEMA["properties"]["spec"]["x-kubernetes-validations"]
    for name in (*crd.NEVER, *crd.ONLY_SUSPENDED, "checkpoint", "checkpoint.destination"):
        assert any(rule["message"].startswith(f"{name}: ") and "oldSelf" in rule["rule"] for rule in rules), name


def test_the_types_and_the_schema_default_alike() -> None:
    """Every default in the schema is the one the types use, at every depth. Those that depend on the task stand in no schema."""
    by_task = {"optimizer": {"learningRate": 1e-3, "betas": [0.9, 0.99], "weightDecay": 0.2}, "schedule": {"minRatio": 0.2}}
    manifest = {
        "apiVersion": "llmtrain.io/v1alpha1",
        "kind": "LLMTrainJob",
        "metadata": {"name": "small"},
        "spec": {
            "model": {"source": "hf://acme/tiny"},
            "dataset": [{"source": "file:///data"}],
            "training": {"globalBatchSize": 8, "sequenceLength": 128, "maxSteps": 100, **by_task},
            "checkpoint": {"destination": "s3://bucket/job"},
            "peft": {},
            "evaluation": {"split": 0.1},
        },
    }
    dumped = parse_object(manifest).model_dump(mode="json", by_alias=True, exclude_none=True)
    assert dumped == defaulted(manifest, manifest_schema()) | {"metadata": {"name": "small", "namespace": "default"}}


class _Recursive(Strict):
    inner: _Recursive | None = None


class _Mixed(Strict):
    value: int | list[int]


class _Pair(Strict):
    pair: tuple[int, str]


@pytest.mark.parametrize("model", [_Recursive, _Mixed, _Pair])
def test_a_type_that_kubernetes_cannot_store_is_refused_when_the_schema_is_made(model: type[BaseModel]) -> None:
    with pytest.raises(TypeError):
        structural(model)


def test_a_property_called_examples_survives() -> None:
    class Odd(Strict):
        examples: Annotated[str, Field(examples=["x"])] = "x"

    assert "examples" in crd._storable(structural(Odd))["properties"]
    assert "examples" not in crd._storable(structural(Odd))["properties"]["examples"]


def test_the_names_of_every_map_are_judged_by_the_api_server_too() -> None:
    judged = {
        path: [rule["rule"] for rule in schema.get("x-kubernetes-validations", ()) if rule["rule"].startswith("self.all(name, ")]
        for path, schema in nodes(SCHEMA["properties"]["spec"], "spec")
        if isinstance(schema.get("additionalProperties"), dict)
    }
    assert set(judged) >= {f"spec.scheduling.{name}" for name in ("labels", "annotations", "env", "nodeSelector")}
    assert set(judged) >= {"spec.resources.rdma", "spec.resources.hugepages"}
    assert [path for path, rules in judged.items() if len(rules) != 1 or "name.matches(r'" not in rules[0]] == []
