"""What the model is trained on: one entry per dataset, mixed by weight."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from llmtrain_trainer.config.strict import PositiveInt, Source, Strict
from llmtrain_trainer.config.tables.tasks import Format

Column = Annotated[str, Field(min_length=1, max_length=128)]


class Columns(Strict):
    """Names of the columns (json keys) that hold each part, where they differ from the defaults."""

    text: Column = "text"
    """The document, for formats text and textLabel."""

    prompt: Column = "prompt"
    """The prompt, for format promptCompletion."""

    label: Column = "label"
    """The label, for format textLabel: its name, or its place among spec.labels, counted from 0."""

    completion: Column = "completion"
    """The completion that the model is trained to give, for format promptCompletion."""

    messages: Column = "messages"
    """The list of {role, content}, for format messages. A message may have tool_calls, reasoning_content, and weight: 0 (no loss)."""

    conversations: Column = "conversations"
    """The list of {from, value}, for format sharegpt."""

    instruction: Column = "instruction"
    """What is asked, for format alpaca."""

    input: Column = "input"
    """What the instruction is about, for format alpaca. A row need not have it."""

    output: Column = "output"
    """What must be answered, for format alpaca."""

    history: Column = "history"
    """Earlier turns as a list of [question, answer], for format alpaca. A row need not have it."""

    system: Column = "system"
    """What is said first, as the system, for formats sharegpt and alpaca. A row need not have it."""

    context: Column = "context"
    """What a question is about, for format squad."""

    question: Column = "question"
    """What is asked, for format squad."""

    answers: Column = "answers"
    """The answers, of which the first is learned, for format squad."""

    ids: Column = "input_ids"
    """The token ids of a document, for format tokens."""

    labels: Column = "labels"
    """The ids once more, with -100 where nothing is learned, for format tokens. A row need not have it: then all is learned."""

    tools: Column = "tools"
    """The list of tools that a conversation may call, passed to the chat template. Optional in each row."""


Split = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9_-]+(\[(-?[0-9]{1,12}%?)?:(-?[0-9]{1,12}%?)?\])?$",
        max_length=100,
        examples=["test", "train[10:100]", "train[:5%]"],
    ),
]

Separator = Annotated[str, Field(pattern=r'^[^"\\\r\n]$', max_length=1, examples=[";", "\t"])]


class Csv(Strict):
    """How .csv and .tsv files are written."""

    separator: Separator | None = None
    """The character between two columns, such as ";" or "\t". Left out: a comma in .csv files, a tab in .tsv files."""

    header: Annotated[tuple[Column, ...], Field(max_length=256)] = ()
    """Names of all columns in their order, for files whose first line is a row already."""


Written = Annotated[str, Field(min_length=1, max_length=65536)]


class RowTemplate(Strict):
    """Jinja texts that write what the format reads of the columns of a row, such as "{{ instruction }}\\n{{ input }}".

    A null column is written as nothing. Columns of the same name are replaced.
    """

    text: Written | None = None
    """The document, for formats text and lines."""

    prompt: Written | None = None
    """The prompt, for format promptCompletion."""

    completion: Written | None = None
    """The completion, for format promptCompletion."""

    instruction: Written | None = None
    """What is asked, for format alpaca."""

    input: Written | None = None
    """What the instruction is about, for format alpaca."""

    output: Written | None = None
    """What must be answered, for format alpaca."""

    system: Written | None = None
    """What is said first, for formats alpaca and sharegpt."""

    context: Written | None = None
    """What the question is about, for format squad."""

    question: Written | None = None
    """What is asked, for format squad."""


Speaker = Annotated[str, Field(pattern=r"^\S(.*\S)?$", max_length=64)]

Role = Literal["system", "user", "assistant", "tool"]


class Truncate(Strict):
    """What is cut of documents that are longer than training.sequenceLength."""

    prompt: Literal["left", "drop"] = "left"
    """left cuts the beginning of a prompt that leaves no room for the answer; drop leaves such a document out and counts it."""

    reserve: PositiveInt | None = None
    """Tokens of the row that are kept for the answer; the prompt gets the others. An answer that is shorter leaves more to the prompt.

    Default: as much as the answer needs, but a quarter of the row stays for the prompt.
    """


class Clean(Strict):
    """Rows that are left out, each kind counted and told."""

    duplicates: Literal["keep", "exact"] = "keep"
    """exact leaves out rows that say the same as an earlier row of the dataset, letter by letter."""

    min_characters: PositiveInt | None = None
    """Leave out rows whose text (prompt, answer and turns together, roles too) has fewer characters. Format tokens has no text."""

    max_characters: PositiveInt | None = None
    """Leave out rows whose text (prompt, answer and turns together, roles too) has more characters. Format tokens has no text."""


class Dataset(Strict):
    """One source of samples."""

    source: Source
    """A file, a directory or a glob on file://, s3:// or pvc://, or a dataset repository on hf://.

    Files end in .txt (one document per file), .jsonl, .ndjson, .json, .csv, .tsv, .parquet or .arrow, and may be compressed as .gz or .zst.
    Files with other endings are read as text, or ignored if the directory also has files with rows. Hidden files, _SUCCESS, README and
    LICENSE are ignored; a notice names what is ignored.
    """

    format: Format = "text"
    """text and lines train on every token, textLabel on the label of each text (task classify); the others train on the answers only.

    lines reads text files, each line a document. tokens are ids that the run's tokenizer made before, learned as their labels say.
    """

    field: Annotated[str, Field(min_length=1, max_length=256, examples=["data"])] | None = None
    """Where the rows stand in .json files that are one object: a key such as data, or keys joined by dots.

    Format squad finds its rows without it.
    """

    columns: Columns = Columns()
    """Names of the columns, where they differ from the defaults."""

    csv: Csv = Csv()
    """How .csv and .tsv files are written, if not with commas or tabs and a header line."""

    roles: Annotated[dict[Speaker, Role], Field(max_length=64)] = {}
    """Own names of speakers in messages or sharegpt, such as {bot: assistant, customer: user}.

    sharegpt knows human, gpt, observation, function_call and others by itself.
    """

    system: Annotated[str, Field(min_length=1, max_length=65536)] | None = None
    """What the system says first in each conversation that does not begin with words of the system, for formats with conversations."""

    split: Split = "train"
    """Split of the dataset, perhaps a slice of its rows: test, train[10:100], train[:5%], train[-20:].

    The files of a split have its name in their path. Outside of hf:// the default reads all files. Percentages are rounded to whole rows.
    """

    subset: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    """Subset (configuration) of the dataset, such as mrpc of hf://nyu-mll/glue.

    Its files are those that the repository's README.md names, else those with its name as a word in their path.
    """

    where: Annotated[str, Field(min_length=1, max_length=4096)] | None = None
    """Keep only rows for which this Jinja expression over their columns is true, such as "rating | int > 3 and text is not null"."""

    template: RowTemplate | None = None
    """What the format reads, written from other columns."""

    clean: Clean = Clean()
    """Duplicates and lengths that are left out. Default: nothing is."""

    truncate: Truncate = Truncate()
    """What is cut of documents that are too long, for formats with answers."""

    weight: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    """Share of the samples drawn from this dataset, relative to the others' weights. A dataset that runs out starts its next epoch.

    spec.mixing says when an epoch of all of them ends, spec.curriculum changes weights over steps.
    """

    max_samples: PositiveInt | None = None
    """Read at most this many documents, from the start."""

    ignore_columns: Annotated[tuple[Column, ...], Field(max_length=256)] = ()
    """Columns that are ignored on purpose. Any other column that has values and is not read causes a notice or a refusal."""

    control_tokens: bool = False
    """Whether text in the data that spells a control token, such as <|im_end|>, is encoded as that token.

    false encodes it as ordinary text, so that no text can end a turn. true is for texts that a chat template has rendered.
    """

    drop_reasoning: bool = False
    """Accept that the chat template drops the reasoning (<think>...</think>) of all answers. If false, such data is refused."""

    bad_rows: Literal["stop", "skip"] = "stop"
    """What a row that cannot be read or trained on does: stop ends the job with its name, skip leaves it out and counts it.

    Data of which more than half is such rows is refused either way.
    """

    no_answer: Annotated[str, Field(min_length=1, max_length=4096, examples=["There is no answer in the text."])] | None = None
    """What is learned as the answer of questions that have none, as in SQuAD 2.0, for format squad.

    If not set, such questions are left out and counted.
    """

    max_cut: Annotated[float, Field(ge=0.0, le=1.0)] = 0.5
    """Refuse the data if the prompt leaves no room for the answer in more than this share of its conversations.

    Such prompts are truncated at the start, so that the answer fits into training.sequenceLength.
    """

    streaming: bool = False
    """Tokenise while training runs, not beforehand. Needs training.maxSteps, because the amount of data is unknown."""


class WeightsFrom(Strict):
    """Weights of all datasets from a step on."""

    from_step: Annotated[int, Field(ge=2, le=1_000_000_000)]
    """The first step with these weights; steps count from 1. Before the first entry, the weights are those of the datasets."""

    weights: Annotated[tuple[Annotated[float, Field(ge=0, le=1e6)], ...], Field(min_length=1, max_length=256)]
    """One weight for each dataset, in their order. 0 draws nothing from it."""


class Evaluation(Strict):
    """Loss on data that is not trained on."""

    dataset: Annotated[tuple[Dataset, ...], Field(max_length=64)] = ()
    """Datasets for evaluation. If not set, `split` of the training data is used. Set exactly one of the two."""

    split: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Share of the training documents that is held out, chosen by a hash of each document, so that the choice never changes. With only a
    few text files, the end of each file is held out."""

    every_steps: PositiveInt = 100
    """Evaluate every this many steps, and at the end."""

    max_samples: PositiveInt = 256
    """At most this many sequences per evaluation."""
