"""What it is trained on: one entry a dataset, mixed by weight."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from llmtrain_trainer.config.strict import PositiveInt, Source, Strict

Column = Annotated[str, Field(min_length=1, max_length=128)]


class Columns(Strict):
    """Names of the columns (json keys) that hold each part, where they differ from the defaults."""

    text: Column = "text"
    """The document, for format text."""

    prompt: Column = "prompt"
    """What the model is given, for format promptCompletion."""

    completion: Column = "completion"
    """What it must answer, for format promptCompletion."""

    messages: Column = "messages"
    """The list of {role, content}, for format messages. A message may have tool_calls, reasoning_content, and weight: 0 (not learned)."""

    tools: Column = "tools"
    """The list of tools that a conversation may call, given to the chat template. A row need not have it."""


class Dataset(Strict):
    """One source of samples."""

    source: Source
    """A file, a directory or a glob on file://, s3:// or pvc://, or a dataset repository on hf://.

    Files end in .txt (a document a file), .jsonl, .ndjson, .json, .csv or .parquet, .gz and .zst read through; other endings are text, and
    no data beside files with rows. Hidden files, _SUCCESS, README and LICENSE of a directory are passed over, and named.
    """

    format: Literal["text", "promptCompletion", "messages"] = "text"
    """text trains on every token; promptCompletion and messages on the answers only."""

    columns: Columns = Columns()
    """Where the parts are, if under other names."""

    split: Annotated[str, Field(min_length=1, max_length=64)] = "train"
    """Split of an hf:// dataset."""

    weight: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    """Share of this dataset among the samples drawn, relative to the others' weights. A dataset that runs out starts its next epoch."""

    max_samples: PositiveInt | None = None
    """Read at most this many documents, from the start."""

    ignore_columns: Annotated[tuple[Column, ...], Field(max_length=256)] = ()
    """Columns that are left out on purpose. Other columns that hold something and are not read are told of, or refused."""

    control_tokens: bool = False
    """Whether the letters of a control token in the data, such as <|im_end|>, become that token.

    false keeps them ordinary text, so that no text can end a turn. true is for texts that a chat template has written.
    """

    drop_reasoning: bool = False
    """Accept that the chat template drops the reasoning (<think>...</think>) of all answers. Without it such data is refused."""

    max_cut: Annotated[float, Field(ge=0.0, le=1.0)] = 0.5
    """Refuse the data if more than this share of its conversations has a prompt that leaves no room for the answer.

    Such prompts lose their beginning, so that the answer fits into training.sequenceLength.
    """

    streaming: bool = False
    """Tokenise while training instead of before it. Needs training.maxSteps, since the end is not known."""


class Evaluation(Strict):
    """Loss on data that is not trained on."""

    dataset: Annotated[tuple[Dataset, ...], Field(max_length=64)] = ()
    """Datasets of their own. Left out: `split` of the training data. Give one of the two."""

    split: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Share of the training documents held back, chosen by a hash of the document, so the choice never changes. Of a few text files: the
    end of each."""

    every_steps: PositiveInt = 100
    """Evaluate after every this many steps, and at the end."""

    max_samples: PositiveInt = 256
    """At most this many sequences an evaluation."""
