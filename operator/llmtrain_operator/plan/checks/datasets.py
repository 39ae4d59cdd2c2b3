"""Settings of datasets that leave nothing to train on. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from llmtrain_operator.manifest.problem import Problem
from llmtrain_operator.plan.layout.request import LayoutRequest
from llmtrain_trainer.config.dataset import Dataset


def room_for_prompts(request: LayoutRequest) -> Problem | None:
    """Tokens that are reserved for answers must leave some of the row to the prompt."""
    length = request.job.spec.training.sequence_length
    for path, dataset in datasets_of(request):
        reserve = dataset.truncate.reserve
        if reserve is not None and reserve >= length:
            rule = f"a row of {length} tokens (training.sequenceLength) has to have room for the prompt too"
            return Problem(f"{path}.truncate.reserve", str(reserve), rule, f"Use at most {length - 1}, or leave it out")
    return None


def bounds_of_characters(request: LayoutRequest) -> Problem | None:
    """The shortest text that is kept must not be longer than the longest one."""
    for path, dataset in datasets_of(request):
        least, most = dataset.clean.min_characters, dataset.clean.max_characters
        if least is not None and most is not None and least > most:
            rule = f"it is larger than maxCharacters ({most}), so no row would be kept"
            return Problem(f"{path}.clean.minCharacters", str(least), rule, f"Use at most {most}")
    return None


def ids_of_a_tokenizer(request: LayoutRequest) -> Problem | None:
    """Token ids are those of a tokenizer that is there: none can be trained from them."""
    tokenizer = request.job.spec.tokenizer
    path = next((path for path, dataset in datasets_of(request) if dataset.format == "tokens"), None)
    if path is None or tokenizer is None or tokenizer.train is None:
        return None
    rule = f"the ids of {path} come from a tokenizer, and another one would be trained"
    return Problem("spec.tokenizer.train", tokenizer.train.algorithm, rule, "Name the tokenizer that made the ids in tokenizer.source")


def datasets_of(request: LayoutRequest) -> Iterator[tuple[str, Dataset]]:
    """Each with its path in the manifest, those of evaluation too."""
    spec = request.job.spec
    yield from ((f"spec.dataset[{i}]", dataset) for i, dataset in enumerate(spec.dataset))
    evaluated = spec.evaluation.dataset if spec.evaluation else ()
    yield from ((f"spec.evaluation.dataset[{i}]", dataset) for i, dataset in enumerate(evaluated))
