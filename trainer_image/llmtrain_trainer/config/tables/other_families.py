"""Decoders of transformers that engine accelerate alone trains: as they are, without a row of families.py.

A name is in when `python benchmarks/other_families.py` shows of a small model: 20 steps as HF Trainer's, an export that transformers opens
with the same logits, and published files that are read with the same logits. What it does not show of a family, the plan refuses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherFamily:
    """What was shown of one model_type."""

    sdpa: bool = True
    """Whether its attention is computed by sdpa; else by eager."""

    packs: bool = True
    """Whether samples of one row do not see each other."""

    adapters: bool = True
    """Whether a merged adapter gives the logits of the run."""

    recomputes: bool = True
    """Whether activations can be recomputed, with the same losses."""


OTHER_FAMILIES: Mapping[str, OtherFamily] = {
    "bloom": OtherFamily(sdpa=False, packs=False),
    "codegen": OtherFamily(sdpa=False),
    "falcon": OtherFamily(packs=False),
    "gpt_bigcode": OtherFamily(),
    "gpt_neo": OtherFamily(sdpa=False),
    "gpt_oss": OtherFamily(sdpa=False, packs=False),
    "gptj": OtherFamily(sdpa=False),
    "mpt": OtherFamily(sdpa=False, packs=False),
    "opt": OtherFamily(packs=False),
}
