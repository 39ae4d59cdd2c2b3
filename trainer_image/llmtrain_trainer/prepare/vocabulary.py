"""Whether a model's embedding has a row for each token id, and new rows for added tokens."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from llmtrain_trainer.config.model import Model
from llmtrain_trainer.config.tables.engines import ENGINE_FACTS
from llmtrain_trainer.config.trainer import TrainerConfig
from llmtrain_trainer.data.bad_data import BadData
from llmtrain_trainer.model import new_rows
from llmtrain_trainer.model.new_rows import NewRows
from llmtrain_trainer.model.tokenizer_facts import TokenizerFacts
from llmtrain_trainer.run_dir.layout import write_atomically

UNUSED = 256
"""Most ids that may be unused among added tokens. With more, an id is a mistake, and its embedding would only take memory."""


@dataclass(frozen=True, slots=True)
class ModelEmbedding:
    """A model's embedding: number of rows, and the names of its weight and of the LM head's."""

    rows: int
    weights: tuple[str, ...]


def why_fixed(config: TrainerConfig) -> str | None:
    """Why the embedding of this run cannot get new rows, as a clause."""
    if not ENGINE_FACTS[config.engine].grows_embedding:
        return f"engine {config.engine} cannot add rows to an embedding"
    return "adapters do not train the embedding, so new tokens would never be learned" if config.peft is not None else None


def fit(
    model: Model, tokenizer: TokenizerFacts, table: ModelEmbedding, directory: Path, fixed: str | None, note: Callable[[str], None]
) -> int:
    """Rows of the embedding that is trained, which has one for the highest id: ids may have gaps, so that their number does not matter.

    A model of a source gets what lacks for added tokens, which config.json in `directory` then says; `note` takes a sentence about it.
    Raises BadData where the tokenizer is another model's, the shape is the manifest's own, or `fixed`.
    """
    needed = tokenizer.highest_id + 1
    if needed <= table.rows:
        return table.rows
    if model.config is not None or fixed or not _added_alone(tokenizer, table.rows):
        raise _refusal(model, tokenizer, table.rows, fixed)
    config = json.loads((directory / "config.json").read_text())
    write_atomically(directory / "config.json", json.dumps(config | {"vocab_size": needed}, indent=2) + "\n")
    start = "drawn like the others"
    if model.init == "pretrained":
        start = "the mean of the others to start with"
        write_atomically(directory / new_rows.FILE, NewRows(table.weights, needed).text())
    note(
        f"model.source: the embedding has {table.rows} rows, and tokens were added to the tokenizer up to id {tokenizer.highest_id} "
        f"({tokenizer.highest_token}): it gets {needed - table.rows} new rows, {start}, and is exported with vocab_size {needed}."
    )
    return needed


def _added_alone(tokenizer: TokenizerFacts, rows: int) -> bool:
    """Whether every token without a row was added to the tokenizer that the model was trained with."""
    own = tokenizer.highest_own_id
    return own is not None and own < rows and tokenizer.highest_id - rows < tokenizer.added + UNUSED


def _refusal(model: Model, tokenizer: TokenizerFacts, rows: int, fixed: str | None) -> BadData:
    highest = tokenizer.highest_id
    rule = f"the tokenizer's highest token id is {highest} ({tokenizer.highest_token}), and the embedding has {rows} rows"
    if model.config is not None:
        way_out = f"Set vocab_size to at least {highest + 1}, or use a tokenizer with fewer tokens"
        return BadData("model.config.vocab_size", rows, rule, way_out)
    smaller = f"name a tokenizer whose ids are below {rows} in tokenizer.source"
    if fixed and _added_alone(tokenizer, rows):
        rule = f"{rule}; {fixed}"
    if model.init == "random":
        return BadData(
            "model.source", model.source, rule, f"Write its config.json into model.config with a larger vocab_size, or {smaller}"
        )
    grow = f"Make the embedding larger (transformers: model.resize_token_embeddings({highest + 1}), then save_pretrained)"
    return BadData("model.source", model.source, rule, f"{grow} and name that directory, or {smaller}")
