"""A field that does not exist: which one was meant, by its full path, also where it stands in another section. Called by parse.py."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator

from llmtrain_operator.job.document import Path, dotted
from llmtrain_operator.job.schema import Schema, below
from llmtrain_operator.job.words import either

_OTHER_WORDS = {
    "lr": "spec.training.optimizer.learningRate",
    "batchsize": "spec.training.globalBatchSize",
    "trainbatchsize": "spec.training.globalBatchSize",
    "pertrainbatchsize": "spec.training.microBatchSize",
    "perdevicetrainbatchsize": "spec.training.microBatchSize",
    "numtrainepochs": "spec.training.epochs",
    "maxlength": "spec.training.sequenceLength",
    "dtype": "spec.training.precision",
    "gradientcheckpointing": "spec.training.activationCheckpointing",
    "tp": "spec.parallelism.tensor",
    "pp": "spec.parallelism.pipeline",
    "dp": "spec.parallelism.data",
    "cp": "spec.parallelism.context",
    "ep": "spec.parallelism.expert",
    "gpus": "spec.resources.gpusPerNode",
    "numnodes": "spec.resources.nodes",
    "replicas": "spec.resources.nodes",
    "nprocpernode": "spec.resources.procsPerNode",
    "maxrestarts": "spec.resilience.restarts.max",
}
"""What other trainers call it, as `_bare` writes it."""

_DERIVED = {
    "gradientaccumulationsteps": "Leave it out: it follows from globalBatchSize, microBatchSize and the layout",
    "worldsize": "Leave it out: it follows from nodes and the devices of each",
}


def unknown(path: Path, schema: Schema) -> tuple[str, str, Path | None]:
    """Rule, way out, and the known field that was probably meant, for a field that does not exist. `schema` is the whole manifest's."""
    *section, name = path
    properties: Schema = (below(schema, tuple(section)) or {}).get("properties", {})
    here = {_bare(each): (*section, each) for each in properties if each != "status"}
    everywhere: dict[str, list[Path]] = {}
    for known in _fields(schema, ()):
        everywhere.setdefault(_bare(str(known[-1])), []).append(known)
    bare = _bare(str(name))
    rule = "there is no such field"
    if bare in _DERIVED:
        return rule, _DERIVED[bare], None
    if bare in here:
        return rule, f"Write {dotted(here[bare])}", here[bare]
    if places := everywhere.get(bare):
        return f"{rule} here", f"It belongs to {either([dotted(place[:-1]) for place in places[:3]])}", places[0]
    if other := _OTHER_WORDS.get(bare):
        return rule, f"Write {other}", tuple(other.split("."))
    if near := difflib.get_close_matches(bare, here, n=1, cutoff=0.7):
        return rule, f"Write {dotted(here[near[0]])}", here[near[0]]
    if near := difflib.get_close_matches(bare, everywhere, n=1, cutoff=0.8):
        found = everywhere[near[0]][0]
        return rule, f"The nearest is {dotted(found)}", found
    return rule, f"Remove it; {dotted(tuple(section)) or 'a manifest'} has {either([str(each[-1]) for each in here.values()])}", None


def _bare(name: str) -> str:
    """Case and word breaks aside: max_steps, max-steps and maxsteps all mean maxSteps."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _fields(schema: Schema, path: Path) -> Iterator[Path]:
    for name, inner in schema.get("properties", {}).items():
        if name == "status" and not path:
            continue
        yield (*path, name)
        yield from _fields(inner, (*path, name))
        yield from _fields(inner.get("items", {}), (*path, name, 0))
