"""The fields of a manifest that hold URIs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from llmtrain_operator.api.job import Spec


@dataclass(frozen=True, slots=True)
class UriField:
    """One field that holds a URI."""

    field: str
    uri: str
    written: bool
    """Whether training writes there."""

    @property
    def claim(self) -> str | None:
        """Name of the volume claim of a pvc:// URI."""
        return self.uri.removeprefix("pvc://").partition("/")[0] if self.uri.startswith("pvc://") else None


def uris(spec: Spec) -> Iterator[UriField]:
    """Every URI of the manifest, sources before destinations."""
    evaluated = spec.evaluation.dataset if spec.evaluation else ()
    sources = {
        "spec.model.source": spec.model.source,
        "spec.tokenizer.source": spec.tokenizer.source if spec.tokenizer else None,
        **{f"spec.dataset[{index}].source": dataset.source for index, dataset in enumerate(spec.dataset)},
        **{f"spec.evaluation.dataset[{i}].source": dataset.source for i, dataset in enumerate(evaluated)},
    }
    destinations = {
        "spec.checkpoint.destination": spec.checkpoint.destination if spec.checkpoint else None,
        "spec.output.destination": spec.output.destination,
    }
    for fields, written in ((sources, False), (destinations, True)):
        yield from (UriField(field, uri, written) for field, uri in fields.items() if uri is not None)
