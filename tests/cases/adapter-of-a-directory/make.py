"""A tiny pretrained model with a tokenizer, and text to fine-tune it on."""

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

torch.manual_seed(0)
letters = pre_tokenizers.ByteLevel.alphabet()
tokens = {token: index for index, token in enumerate(["<eos>", *sorted(letters)])}
plain = Tokenizer(models.BPE(vocab=tokens, merges=[]))
plain.pre_tokenizer, plain.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
PreTrainedTokenizerFast(tokenizer_object=plain, eos_token="<eos>").save_pretrained("base")
sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
LlamaForCausalLM(LlamaConfig(vocab_size=264, max_position_embeddings=64, **sizes)).save_pretrained("base")
rows = [{"prompt": f"What is {n} and {n}? ", "completion": f"It is {2 * n}."} for n in range(40)]
Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
