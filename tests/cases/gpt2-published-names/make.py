"""A small GPT-2 with files named as the published ones: no `transformer.` prefix, the tied head left out, masks beside the weights."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

torch.manual_seed(0)
out = Path("model")
out.mkdir()
config = GPT2Config(n_embd=32, n_head=4, n_layer=2, n_positions=64, vocab_size=320, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0)
network = GPT2LMHeadModel(config)
weights = {k.removeprefix("transformer."): v.contiguous().clone() for k, v in network.state_dict().items() if k != "lm_head.weight"}
masks = {f"h.{layer}.attn.bias": torch.ones(1, 1, 64, 64).tril() for layer in range(2)}
save_file(weights | masks, out / "model.safetensors", metadata={"format": "pt"})
(out / "config.json").write_text(json.dumps({k: v for k, v in config.to_dict().items() if k != "tie_word_embeddings"}, default=str))
alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
backend = Tokenizer(models.BPE({token: number for number, token in enumerate([*alphabet, "<|end|>"])}, []))
backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|end|>").save_pretrained(out)
texts = [f"The model reads line {number} and tells what comes next." for number in range(60)]
Path("a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
