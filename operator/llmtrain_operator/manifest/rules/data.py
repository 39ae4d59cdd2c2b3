"""Fields on the model, the tokenizer and the datasets that must suit each other."""

from __future__ import annotations

from collections.abc import Callable

from llmtrain_operator.manifest.rules.rule import Rule, Section, shared
from llmtrain_trainer.config.tables.data_rules import A_STREAM_HAS_NO_KNOWN_END, A_STREAM_HOLDS_NOTHING_OUT, VALIDATION_IS_READ_AGAIN
from llmtrain_trainer.config.tables.tasks import TASKS


def _names_nothing(section: Section) -> bool:
    return not section.get("source") and not section.get("train")


LABELLED = [name for name, traits in TASKS.items() if traits.labels]
"""Tasks that learn labels."""

LABEL_FORMATS = [name for task in LABELLED for name in TASKS[task].formats]
"""Formats whose rows have them."""

_SUITS = f"(d.format in {LABEL_FORMATS}) == (self.task in {LABELLED})"
"""A CEL expression on a dataset `d`."""


def _labels_suit(spec: Section) -> bool:
    datasets = [*spec["dataset"], *spec.get("evaluation", {}).get("dataset", [])]
    return spec["task"] == "pretrain" or all((dataset["format"] in LABEL_FORMATS) == (spec["task"] in LABELLED) for dataset in datasets)


def _formats_suit(field: str) -> Callable[[Section], bool]:
    """A check that pretraining can use the format of each dataset in a field of spec."""
    evaluated = field.startswith("evaluation.")

    def holds(spec: Section) -> bool:
        datasets = spec.get("evaluation", {}).get("dataset", []) if evaluated else spec["dataset"]
        return spec["task"] != "pretrain" or all(dataset["format"] in TASKS["pretrain"].formats for dataset in datasets)

    return holds


ON_DATA: tuple[Rule, ...] = (
    Rule(
        at="spec.model",
        field="source",
        reads=("source", "config"),
        cel="has(self.source) != has(self.config)",
        holds=lambda self: ("source" in self) != ("config" in self),
        rule="a model has either a source or a config",
        way_out="Give source for existing weights, or config for random weights in that shape",
    ),
    Rule(
        at="spec.model",
        field="revision",
        reads=("source", "revision"),
        cel="!has(self.revision) || (has(self.source) && self.source.startsWith('hf://'))",
        holds=lambda self: "revision" not in self or self.get("source", "").startswith("hf://"),
        rule="only an hf:// source has revisions",
        way_out="Leave revision out, or take the model from hf://owner/name",
    ),
    Rule(
        at="spec.tokenizer",
        field="train",
        reads=("source", "train"),
        cel="!(has(self.source) && has(self.train))",
        holds=lambda self: not ("source" in self and "train" in self),
        rule="a tokenizer is loaded or trained, not both",
        way_out="Keep either source or train",
    ),
    Rule(
        at="spec.tokenizer.train",
        field="vocabSize",
        reads=("algorithm", "vocabSize"),
        cel="self.algorithm != 'bpe' || self.vocabSize >= 259",
        holds=lambda self: self["algorithm"] != "bpe" or self["vocabSize"] >= 259,
        rule="byte-level bpe needs 256 bytes, 2 special tokens and at least one merge",
        way_out="Give at least 259, or another algorithm",
    ),
    *(
        Rule(
            at=f"spec.{datasets}[]",
            field="split",
            reads=("split", "streaming"),
            cel="!self.streaming || !(self.split.contains('%') || self.split.contains('[-') || self.split.contains(':-'))",
            holds=lambda self: not self["streaming"] or not any(mark in self["split"] for mark in ("%", "[-", ":-")),
            rule="how many rows a streaming dataset has is not known",
            way_out="Write a slice of row numbers such as train[0:1000], or set streaming to false",
        )
        for datasets in ("dataset", "evaluation.dataset")
    ),
    Rule(
        at="spec",
        field="tokenizer",
        reads=("model", "tokenizer"),
        cel="!has(self.model.config) || (has(self.tokenizer) && (has(self.tokenizer.source) || has(self.tokenizer.train)))",
        holds=lambda self: "config" not in self["model"] or not _names_nothing(self.get("tokenizer", {})),
        rule="a model from an inline config has no tokenizer",
        way_out="Give tokenizer.source, or tokenizer.train to train one from the datasets",
    ),
    Rule(
        at="spec",
        field="tokenizer.train",
        reads=("model", "tokenizer"),
        cel="!has(self.tokenizer) || !has(self.tokenizer.train) || has(self.model.config) || self.model.init == 'random'",
        holds=lambda self: "train" not in self.get("tokenizer", {}) or "config" in self["model"] or self["model"]["init"] == "random",
        rule="pretrained weights work only with their own tokenizer",
        way_out="Leave tokenizer.train out, or start from random weights with model.init: random",
    ),
    *(
        Rule(
            at="spec",
            field=datasets,
            reads=("task", datasets.partition(".")[0]),
            cel=f"{given}self.{datasets}.all(d, d.format in {list(TASKS['pretrain'].formats)} || self.task != 'pretrain')",
            holds=_formats_suit(datasets),
            rule="task pretrain takes formats text, lines and tokens only, and trains on every token",
            way_out="Write task: sft to train on conversations or answers, or format: text",
        )
        for datasets, given in (("dataset", ""), ("evaluation.dataset", "!has(self.evaluation) || "))
    ),
    Rule(
        at="spec",
        field="task",
        reads=("task", "dataset", "evaluation"),
        cel=f"self.task == 'pretrain' || (self.dataset.all(d, {_SUITS}) && "
        f"(!has(self.evaluation) || self.evaluation.dataset.all(d, {_SUITS})))",
        holds=_labels_suit,
        rule="rows of format textLabel have a label, which task classify learns, and it alone",
        way_out="Write task: classify and format: textLabel in every dataset, or neither of them",
    ),
    Rule(
        at="spec",
        field="labels",
        reads=("task", "labels"),
        cel=f"size(self.labels) == 0 || (size(self.labels) > 1 && self.task in {LABELLED})",
        holds=lambda self: not self["labels"] or (len(self["labels"]) > 1 and self["task"] in LABELLED),
        rule="labels are what task classify tells apart, so there are at least two of them",
        way_out="Leave labels out, or name all of them and write task: classify",
    ),
    *(
        Rule(
            at=f"spec.{datasets}[]",
            field="roles",
            reads=("format", "roles"),
            cel="size(self.roles) == 0 || self.format in ['messages', 'sharegpt']",
            holds=lambda self: not self["roles"] or self["format"] in ("messages", "sharegpt"),
            rule="only turns of conversations have roles",
            way_out="Write format: messages or format: sharegpt, or leave roles out",
        )
        for datasets in ("dataset", "evaluation.dataset")
    ),
    shared(
        VALIDATION_IS_READ_AGAIN,
        at="spec.evaluation.dataset[]",
        field="streaming",
        reads=("streaming",),
        cel="!self.streaming",
        holds=lambda self: not self["streaming"],
    ),
    shared(
        A_STREAM_HOLDS_NOTHING_OUT,
        reads=("dataset", "evaluation"),
        cel="!has(self.evaluation) || self.evaluation.split == 0.0 || !self.dataset.exists(d, d.streaming)",
    ),
    shared(
        A_STREAM_HAS_NO_KNOWN_END,
        reads=("dataset", "training.maxSteps"),
        cel="has(self.training.maxSteps) || !self.dataset.exists(d, d.streaming)",
    ),
)
