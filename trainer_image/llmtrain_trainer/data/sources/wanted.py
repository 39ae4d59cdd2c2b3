"""Which columns the format of a dataset reads. Pure."""

from __future__ import annotations

from llmtrain_trainer.config.dataset import Dataset

COLUMN_KEYS = {
    "text": ("text",),
    "lines": ("text",),
    "promptCompletion": ("prompt", "completion"),
    "messages": ("messages",),
    "sharegpt": ("conversations",),
    "alpaca": ("instruction", "output"),
    "squad": ("context", "question", "answers"),
    "textLabel": ("text", "label"),
    "tokens": ("ids",),
}
"""Fields of `columns` that name what a format reads; the last one holds what is learned."""

PART_KEYS = {"sharegpt": ("system",), "alpaca": ("input", "history", "system"), "tokens": ("labels",)}
"""Fields of `columns` that name further parts of the prompt. A row need not have them."""

IMPOSSIBLE = "is_impossible"
"""The column of SQuAD 2.0 that is true where a question has no answer; its answers may then be null or left out."""

_OF_SQUAD = ("title", IMPOSSIBLE, "plausible_answers")
"""What SQuAD's rows have besides: it says nothing that could be learned."""

_OF_TOKENS = ("attention_mask", "token_type_ids", "position_ids", "special_tokens_mask", "length", "text")
"""What tokenizers put beside ids: the first says which are padding, the others nothing that the ids do not say."""

PLAIN = ("text", "lines")
"""Formats whose rows are one text, all of it learned."""

LISTS = ("messages", "sharegpt")
"""Formats whose column is a list of turns."""

MEDIA = ("image", "images", "audio", "audios", "video", "videos")
"""Columns that hold what is not text."""

PART_OF_PROMPT = ("input", "inputs", "context", "system", "system_prompt", "history")
"""Columns that belong to what the model is given, in formats that are known elsewhere."""


def wanted_columns(dataset: Dataset) -> tuple[str, ...]:
    """Columns that this dataset's format reads."""
    return tuple(getattr(dataset.columns, key) for key in COLUMN_KEYS[dataset.format])


def prompt_parts(dataset: Dataset) -> tuple[str, ...]:
    """Columns with further parts of the prompt, which a row need not have."""
    return tuple(getattr(dataset.columns, key) for key in PART_KEYS.get(dataset.format, ()))


def optional_columns(dataset: Dataset) -> tuple[str, ...]:
    """Columns that this dataset's format reads where they are there."""
    if dataset.format in (*PLAIN, "textLabel"):
        return ()
    if dataset.format == "squad":
        return _OF_SQUAD
    if dataset.format == "tokens":
        return (*prompt_parts(dataset), *_OF_TOKENS)
    return (*prompt_parts(dataset), *template_columns(dataset))


def template_columns(dataset: Dataset) -> tuple[str, ...]:
    """Columns that a chat template is given beside the conversation."""
    if dataset.format in (*PLAIN, "textLabel", "squad", "tokens"):
        return ()
    return (dataset.columns.tools, "functions", "documents", "chat_template_kwargs")
