"""A tiny model directory with its tokenizer, whose last matrix holds one NaN."""

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

tokenizer = Tokenizer(models.BPE())
tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
texts = [json.loads(line)["text"] for line in Path("a.jsonl").read_text().splitlines()]
alphabet = pre_tokenizers.ByteLevel.alphabet()
tokenizer.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=300, special_tokens=["<eos>"], initial_alphabet=alphabet))
PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>").save_pretrained("model")
size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
model = LlamaForCausalLM(LlamaConfig(vocab_size=320, max_position_embeddings=256, **size))
with torch.no_grad():
    model.model.layers[1].mlp.down_proj.weight[3, 5] = float("nan")
model.save_pretrained("model")
