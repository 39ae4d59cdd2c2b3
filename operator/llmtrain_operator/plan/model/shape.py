"""Sizes of a transformer: matrices, parameters, FLOPs."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from llmtrain_operator.plan.model.traits import PLAIN, Traits
from llmtrain_trainer.config.tables.families import family_named
from llmtrain_trainer.config.tables.family import LinearNames


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """A linear layer, or one for each expert of an MoE layer."""

    name: str
    """Last part of its module path, as in peft.targetModules."""

    inputs: int
    outputs: int
    bias: bool = False
    copies: int = 1
    """Number of copies: the experts."""

    used: int = 1
    """Number of copies that a token passes through."""

    linear: bool = True
    """Whether it can have an adapter: routers and fused experts are not linear layers in transformers, and for some families peft confuses
    the names of dense layers with those of experts."""

    split: Literal["column", "row", "none"] = "none"
    """How tensor parallelism splits it: over its outputs, over its inputs, or not at all."""

    @property
    def parameters(self) -> int:
        return self.copies * (self.inputs * self.outputs + self.bias * self.outputs)

    @property
    def active(self) -> int:
        """Multiplications per token in the forward pass."""
        return self.used * self.inputs * self.outputs


@dataclass(frozen=True, slots=True, kw_only=True)
class Latent:
    """Sizes of attention whose keys and values are made of a narrow vector, as in DeepSeek V2."""

    queries: int
    """Width of the narrow queries; 0: they are made of the hidden values."""

    keys: int
    plain: int
    rotated: int
    """Parts of a head's query and key without and with RoPE."""

    values: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """A decoder, or an encoder and a decoder if encoder_layers is not 0. Sizes are those of config.json."""

    model_type: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocab: int
    tied: bool
    max_positions: int | None
    names: LinearNames
    learned_positions: bool = False
    gated: bool = True
    qkv_bias: bool = False
    out_bias: bool = False
    mlp_bias: bool = False
    head_bias: bool = False
    norm_weight: bool = True
    norm_bias: bool = False
    norms_per_layer: int = 2
    qk_norm: Literal["none", "head", "full"] = "none"
    """head: one norm vector for all heads of q and one for k; full: over all heads' outputs."""

    encoder_layers: int = 0
    position_buckets: int = 0
    """T5's relative position table: buckets x heads, one in the encoder and one in the decoder."""

    experts: int = 0
    experts_per_token: int = 0
    expert_ffn: int = 0
    shared_ffn: int = 0
    shared_gate: bool = False
    dense_layers: frozenset[int] = frozenset()
    """Dense layers of an MoE model."""

    latent: Latent | None = None
    classes: int = 0
    """Outputs of the head of a classifier; 0: the head is that of a language model, over the vocabulary."""

    traits: Traits = PLAIN
    counted: bool = True
    """Whether the sizes are known; else only model_type and vocab mean anything: see OTHER_FAMILIES."""

    @property
    def attention_width(self) -> int:
        """Outputs of the query projection."""
        return self.heads * (self.latent.plain + self.latent.rotated if self.latent else self.head_dim)

    @property
    def kv_width(self) -> int:
        """Of keys and of values; the mean where they differ."""
        if self.latent:
            return self.heads * (self.latent.plain + self.latent.rotated + self.latent.values) // 2
        return self.kv_heads * self.head_dim

    def is_mixture(self, layer: int) -> bool:
        return self.experts > 0 and layer not in self.dense_layers

    def kinds(self, first: int = 0, last: int | None = None) -> tuple[tuple[int, int], ...]:
        """Layers `first` to `last` - 1 (default: all) by kind: (the model's first layer of that kind, number of layers).

        Layers of a kind cost the same, and there are at most two kinds, so that no code loops over layers.
        """
        last = self.layers if last is None else last
        if not self.experts:
            return ((0, last - first),)
        dense, mixture = _in_order(self.dense_layers)
        among = bisect_left(dense, last) - bisect_left(dense, first)
        return tuple((layer, count) for layer, count in ((dense[0] if dense else 0, among), (mixture, last - first - among)) if count)

    def vocabulary_parts(self, tp: int) -> int:
        """Number of parts into which tensor parallelism splits embedding and LM head: 1 if tp does not divide the vocabulary."""
        return tp if self.vocab % tp == 0 else 1

    def matrices(self, layer: int) -> tuple[Matrix, ...]:
        """Linear layers of decoder layer `layer`, in the order of the forward pass."""
        return _matrices(self, self.is_mixture(layer))

    def layer_parameters(self, layer: int) -> int:
        return sum(matrix.parameters for matrix in self.matrices(layer)) + self._norms(3 if self.encoder_layers else self.norms_per_layer)

    @property
    def embedding_parameters(self) -> int:
        """Embedding and learned positions."""
        return self.vocab * self.hidden + (self.hidden * (self.max_positions or 0) if self.learned_positions else 0)

    @property
    def outputs(self) -> int:
        """Width of the head: the vocabulary, or the labels."""
        return self.classes or self.vocab

    @property
    def shares_head(self) -> bool:
        """Whether the head is the embedding."""
        return self.tied and not self.classes

    def output_parts(self, tp: int) -> int:
        """Number of parts into which tensor parallelism splits the head; that of a classifier is replicated."""
        return 1 if self.classes else self.vocabulary_parts(tp)

    @property
    def head_parameters(self) -> int:
        """The head; a matrix of the LM head is not counted if it is tied to the embedding."""
        bias = self.vocab if self.head_bias and not self.classes else 0
        return (0 if self.shares_head else self.outputs * self.hidden) + bias

    @property
    def final_norm_parameters(self) -> int:
        return self.hidden * (self.norm_weight + self.norm_bias)

    @property
    def parameters(self) -> int:
        """Number of parameters, as `sum(p.numel() for p in model.parameters())` counts them."""
        embedding_and_head = self.embedding_parameters + self.final_norm_parameters + self.head_parameters
        return embedding_and_head + _totals(self)[0] + self._encoder()

    @property
    def matmul_parameters(self) -> int:
        """Parameters that multiply a token: without embeddings and norms, only the chosen experts of an MoE layer, with the
        head, tied or not."""
        encoder = self.encoder_layers * sum(matrix.active for matrix in self._attention() + self._feed_forward(self.ffn))
        return _totals(self)[1] + encoder + self.outputs * self.hidden

    def linears(self, targets: tuple[str, ...] | Literal["all-linear"], layer: int) -> tuple[Matrix, ...]:
        """The matrices of a layer that get adapters for `targets`."""
        every = targets == "all-linear"
        return tuple(m for m in self.matrices(layer) if m.linear and (every or m.name in targets))

    def _attention(self) -> tuple[Matrix, ...]:
        if self.latent:
            return self._latent(self.latent)
        into, out, _, _ = self.names
        widths = (self.attention_width, self.kv_width, self.kv_width)
        outputs = widths if len(into) == 3 else (sum(widths),)
        projections = tuple(
            Matrix(name=name, inputs=self.hidden, outputs=width, bias=self.qkv_bias, split="column")
            for name, width in zip(into, outputs, strict=True)
        )
        return (*projections, Matrix(name=out, inputs=self.attention_width, outputs=self.hidden, bias=self.out_bias, split="row"))

    def _latent(self, sizes: Latent) -> tuple[Matrix, ...]:
        queries, bias = self.attention_width, self.out_bias
        narrow = Matrix(name="q_a_proj", inputs=self.hidden, outputs=sizes.queries, bias=bias)
        wide = Matrix(name="q_b_proj", inputs=sizes.queries, outputs=queries, split="column")
        into = (narrow, wide) if sizes.queries else (Matrix(name="q_proj", inputs=self.hidden, outputs=queries, split="column"),)
        keys, expanded = sizes.keys + sizes.rotated, self.heads * (sizes.plain + sizes.values)
        return (
            *into,
            Matrix(name="kv_a_proj_with_mqa", inputs=self.hidden, outputs=keys, bias=bias),
            Matrix(name="kv_b_proj", inputs=sizes.keys, outputs=expanded, split="column"),
            Matrix(name="o_proj", inputs=self.heads * sizes.values, outputs=self.hidden, bias=bias, split="row"),
        )

    def _feed_forward(self, width: int) -> tuple[Matrix, ...]:
        (_, _, into, out), named = self.names, not family_named(self.model_type).dense_named_as_experts
        outputs = width * (2 if self.gated and len(into) == 1 else 1)
        ups = tuple(
            Matrix(name=name, inputs=self.hidden, outputs=outputs, bias=self.mlp_bias, linear=named, split="column") for name in into
        )
        return (*ups, Matrix(name=out, inputs=width, outputs=self.hidden, bias=self.mlp_bias, linear=named, split="row"))

    def _mixture(self) -> tuple[Matrix, ...]:
        many, used = self.experts, self.experts_per_token
        experts = (
            Matrix(name="gate", inputs=self.hidden, outputs=self.experts, linear=False),
            Matrix(name="experts.gate_up_proj", inputs=self.hidden, outputs=2 * self.expert_ffn, copies=many, used=used, linear=False),
            Matrix(name="experts.down_proj", inputs=self.expert_ffn, outputs=self.hidden, copies=many, used=used, linear=False),
        )
        shared = self._feed_forward(self.shared_ffn) if self.shared_ffn else ()
        gate = (Matrix(name="shared_expert_gate", inputs=self.hidden, outputs=1),) if self.shared_gate else ()
        return experts + shared + gate

    def _norms(self, count: int) -> int:
        own = {"none": 0, "head": 2 * self.head_dim, "full": self.attention_width + self.kv_width}[self.qk_norm]
        narrow = self.latent.queries + self.latent.keys if self.latent else 0
        return count * self.final_norm_parameters + own + narrow

    def _encoder(self) -> int:
        if not self.encoder_layers:
            return 0
        layer = sum(matrix.parameters for matrix in self._attention() + self._feed_forward(self.ffn)) + self._norms(2)
        return self.encoder_layers * layer + self.final_norm_parameters + 2 * self.position_buckets * self.heads


@lru_cache(maxsize=256)
def _matrices(shape: ModelShape, mixture: bool) -> tuple[Matrix, ...]:
    """The matrices of a layer; cached, because a search asks for the two kinds of layers thousands of times."""
    attention = shape._attention() * (2 if shape.encoder_layers else 1)
    return attention + (shape._mixture() if mixture else shape._feed_forward(shape.ffn))


@lru_cache(maxsize=256)
def _totals(shape: ModelShape) -> tuple[int, int]:
    """(Parameters of all decoder layers, those that multiply a token)."""
    weights = sum(count * shape.layer_parameters(layer) for layer, count in shape.kinds())
    return weights, sum(count * matrix.active for layer, count in shape.kinds() for matrix in shape.matrices(layer))


@lru_cache(maxsize=256)
def _in_order(dense: frozenset[int]) -> tuple[tuple[int, ...], int]:
    """(Dense layers in ascending order, first layer that is not dense)."""
    return tuple(sorted(dense)), next(layer for layer in range(len(dense) + 1) if layer not in dense)


def flops_per_token(shape: ModelShape, sequence: int, *, frozen: bool = False, adapter: int = 0) -> float:
    """Model FLOPs per trained token, forward and backward; recomputation is not counted.

    6 N + 12 L H Q T of Chowdhery et al. 2022 (PaLM), appendix B, where N are the parameters that multiply a token. The attention term is
    not halved for the causal mask. Gradients of frozen weights are not computed: 4 N, plus 6 per adapter parameter. For an
    encoder-decoder, half of the tokens are source tokens and half are target tokens, and each passes one of the two parts.
    """
    layers = shape.layers if not shape.encoder_layers else (shape.encoder_layers + 2 * shape.layers) / 2
    weights = shape.matmul_parameters / (2 if shape.encoder_layers else 1)
    return (4.0 if frozen else 6.0) * weights + 6.0 * adapter + 12.0 * layers * shape.attention_width * sequence
