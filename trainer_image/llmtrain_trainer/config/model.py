"""The model, its tokenizer and its adapters."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from llmtrain_trainer.config.strict import PositiveInt, Source, Strict
from llmtrain_trainer.config.tables.adapters import ADAPTERS, DEFAULT_ADAPTER, AdapterMethod

CODE = ("auto_map", "attn_implementation", "_attn_implementation")
"""Keys of a config.json that name code, which transformers would download from a hub and run: files of the repository, and kernels."""

UNREAD_WEIGHTS = (".bin", ".pt", ".pth", ".gguf", ".ggml", ".h5", ".msgpack", ".ckpt", ".npz", ".onnx")
"""Endings of weight files that are not read."""

BESIDE_WEIGHTS = ("training", "optimizer", "scheduler", "rng_state", "tokenizer")
"""Prefixes of files that trainers write beside weights."""


class Model(Strict):
    """The network: pretrained weights from a source, or an architecture with random weights."""

    source: Source | None = None
    """Location of the weights and config.json. Leave it out to train from scratch with `config`."""

    revision: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    """Commit, tag or branch of an hf:// source. Pin a commit: a branch may change between two attempts."""

    config: dict[str, Any] | None = None
    """The model's config.json, inline (`model_type`, `hidden_size`, ...). Its weights are drawn at random."""

    init: Literal["pretrained", "random"] = "pretrained"
    """`random` reads only config.json from `source` and draws the weights from training.seed. A model from `config` is always random."""

    attention: Literal["sdpa", "eager", "flash"] = "sdpa"
    """Attention kernel. sdpa runs everywhere and selects a flash kernel on a GPU."""


class TokenizerTraining(Strict):
    """A tokenizer trained on the job's own datasets before the ranks start."""

    algorithm: Literal["bpe", "wordpiece", "unigram"] = "bpe"
    """bpe works on bytes, so that no text is unknown."""

    vocab_size: Annotated[int, Field(ge=64, le=4_000_000, examples=[32000])]
    """Number of tokens, special tokens included. At most the model's vocab_size."""

    min_frequency: PositiveInt = 2
    """A pair that occurs less often than this is not merged."""

    max_samples: PositiveInt | None = None
    """Train on at most this many documents. Default: all."""


class Tokenizer(Strict):
    """How text becomes token ids. Default: the tokenizer beside the model's weights."""

    source: Source | None = None
    """A directory or repository that holds tokenizer.json."""

    train: TokenizerTraining | None = None
    """Train one from the datasets instead of loading one."""

    chat_template: Annotated[str, Field(max_length=65536)] | None = None
    """A Jinja template for messages, or the name of one: chatml, llama2, llama3, mistral, qwen, gemma, phi, deepseek, alpaca, vicuna.

    Default: the tokenizer's own, or a plain role-prefixed template if it has none.
    """


class Peft(Strict):
    """Adapters: train a few parameters beside frozen weights."""

    method: AdapterMethod = DEFAULT_ADAPTER
    """lora (Hu et al., 2021); rslora, which scales by alpha / sqrt(rank) (Kalajdzievski, 2023); or dora, which also trains the length of
    each row of a weight (Liu et al., 2024). dora needs engine native without tensor parallelism."""

    rank: Annotated[int, Field(ge=1, le=4096)] = 16
    """Rank of the two low-rank factors. 8 to 64 is usual; more costs memory linearly."""

    alpha: Annotated[float, Field(gt=0)] = 32.0
    """Scale: the update is the product of the factors times alpha / rank (alpha / sqrt(rank) for rslora)."""

    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Dropout on the adapter's input."""

    target_modules: Annotated[tuple[Annotated[str, Field(min_length=1, max_length=256)], ...], Field(min_length=1, max_length=64)] = (
        "all-linear",
    )
    """Names of linear layers (the last part of their path, such as q_proj). all-linear means every linear layer except the LM head."""

    learning_rate_ratio: Annotated[float, Field(ge=1, le=1024)] = 1.0
    """Learning rate of the matrices B, and of lengths of rows, over training.optimizer.learningRate, which the others have (LoRA+, Hayou
    et al., 2024). 4 to 16 is usual; engine native only."""

    @property
    def scale(self) -> float:
        """Factor of the product of both matrices in the update."""
        return ADAPTERS[self.method].scale(self.alpha, self.rank)
