"""Parameter counts of published models, from the key values of their config.json. test_each_family.py asks transformers itself."""

from __future__ import annotations

from typing import Any

import pytest

from llmtrain_operator.plan.model.families import shape_of

SIZES = ("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "intermediate_size", "vocab_size")
LATENT = {"kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128}

PUBLISHED: list[tuple[str, str, tuple[int, ...], dict[str, Any], int]] = [
    (
        "deepseek-v3",
        "deepseek_v3",
        (7168, 61, 128, 128, 18432, 129280),
        LATENT
        | {
            "moe_intermediate_size": 2048,
            "n_routed_experts": 256,
            "n_shared_experts": 1,
            "num_experts_per_tok": 8,
            "first_k_dense_replace": 3,
            "q_lora_rank": 1536,
        },
        671_026_404_352,
    ),
    (
        "deepseek-v2-lite",
        "deepseek_v2",
        (2048, 27, 16, 16, 10944, 102400),
        LATENT
        | {
            "moe_intermediate_size": 1408,
            "n_routed_experts": 64,
            "n_shared_experts": 2,
            "num_experts_per_tok": 6,
            "first_k_dense_replace": 1,
            "q_lora_rank": None,
        },
        15_706_484_224,
    ),
    (
        "deepseek-v2",
        "deepseek_v2",
        (5120, 60, 128, 128, 12288, 102400),
        LATENT
        | {
            "moe_intermediate_size": 1536,
            "n_routed_experts": 160,
            "n_shared_experts": 2,
            "num_experts_per_tok": 6,
            "first_k_dense_replace": 1,
            "q_lora_rank": 1536,
        },
        235_741_434_880,
    ),
    ("olmoe", "olmoe", (2048, 16, 16, 16, 1024, 50304), {"num_experts": 64, "num_experts_per_tok": 8}, 6_919_161_856),
    ("phi-2", "phi", (2560, 32, 32, 32, 10240, 51200), {}, 2_779_683_840),
    ("phi-4", "phi3", (5120, 40, 40, 10, 17920, 100352), {}, 14_659_507_200),
    ("phi-3-mini", "phi3", (3072, 32, 32, 32, 8192, 32064), {}, 3_821_079_552),
    ("gemma-2-9b", "gemma2", (3584, 42, 16, 8, 14336, 256000), {"head_dim": 256}, 9_241_705_984),
    ("gemma-2-27b", "gemma2", (4608, 46, 32, 16, 36864, 256000), {"head_dim": 128}, 27_227_128_320),
    ("gemma-7b", "gemma", (3072, 28, 16, 16, 24576, 256000), {"head_dim": 256}, 8_537_680_896),
    ("gemma-3-1b", "gemma3_text", (1152, 26, 4, 1, 6912, 262144), {"head_dim": 256}, 999_885_952),
    ("starcoder2-3b", "starcoder2", (3072, 30, 24, 2, 12288, 49152), {"use_bias": True}, 3_030_371_328),
    ("starcoder2-15b", "starcoder2", (6144, 40, 48, 4, 24576, 49152), {"use_bias": True, "tie_word_embeddings": False}, 15_957_889_024),
    ("smollm3", "smollm3", (2048, 36, 16, 4, 11008, 128256), {}, 3_075_098_624),
    ("glm-4-9b", "glm", (4096, 40, 32, 2, 13696, 151552), {"head_dim": 128}, 9_399_951_360),
    ("glm-4-32b", "glm4", (6144, 61, 48, 2, 23040, 151552), {"head_dim": 128, "attention_bias": False}, 32_566_081_536),
    ("olmo-2-7b", "olmo2", (4096, 32, 32, 32, 11008, 100352), {}, 7_298_617_344),
    ("olmo-2-13b", "olmo2", (5120, 40, 40, 40, 13824, 100352), {}, 13_716_198_400),
    ("olmo-7b", "olmo", (4096, 32, 32, 32, 11008, 50304), {}, 6_888_095_744),
    ("granite-3.1-8b", "granite", (4096, 40, 32, 8, 12800, 49155), {"tie_word_embeddings": True}, 8_170_848_256),
    ("command-r", "cohere", (8192, 40, 64, 64, 22528, 256000), {}, 34_980_831_232),
    ("command-r-plus", "cohere", (12288, 64, 96, 8, 33792, 256000), {"use_qk_norm": True}, 103_810_674_688),
    ("aya-command-r7b", "cohere2", (4096, 32, 32, 8, 14336, 256000), {}, 8_028_033_024),
    ("pythia-6.9b", "gpt_neox", (4096, 32, 32, 32, 16384, 50432), {}, 6_857_302_016),
    ("gpt-neox-20b", "gpt_neox", (6144, 44, 64, 64, 24576, 50432), {}, 20_554_567_680),
    ("stablelm-3b", "stablelm", (2560, 32, 32, 32, 6912, 50304), {}, 2_795_443_200),
    ("stablelm-2-1.6b", "stablelm", (2048, 24, 32, 32, 5632, 100352), {"use_qkv_bias": True}, 1_644_515_328),
    ("ernie-0.3b", "ernie4_5", (1024, 18, 16, 2, 3072, 103424), {"head_dim": 128}, 360_748_032),
    ("exaone-4-1.2b", "exaone4", (2048, 30, 32, 8, 4096, 102400), {"tie_word_embeddings": True}, 1_279_391_488),
    ("seed-oss", "seed_oss", (5120, 64, 80, 8, 27648, 155136), {"head_dim": 128}, 36_151_104_512),
    (
        "glm-4.5-air",
        "glm4_moe",
        (4096, 46, 96, 8, 10944, 151552),
        {
            "head_dim": 128,
            "attention_bias": True,
            "moe_intermediate_size": 1408,
            "n_routed_experts": 128,
            "n_shared_experts": 1,
            "num_experts_per_tok": 8,
            "first_k_dense_replace": 1,
        },
        106_852_245_504,
    ),
    ("phi-1_5", "phi", (2048, 24, 32, 32, 8192, 51200), {}, 1_418_270_720),
]
"""Name, family, SIZES, other keys, parameters."""


@pytest.mark.parametrize(("family", "sizes", "more", "parameters"), [row[1:] for row in PUBLISHED], ids=[row[0] for row in PUBLISHED])
def test_the_count_of_a_published_model_is_exact(family: str, sizes: tuple[int, ...], more: dict[str, Any], parameters: int) -> None:
    assert shape_of({"model_type": family} | dict(zip(SIZES, sizes, strict=True)) | more).parameters == parameters
