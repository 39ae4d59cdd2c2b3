"""Generation ends at <|im_end|>: `generate.py EXPORT`."""

import sys

from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer, model = AutoTokenizer.from_pretrained(sys.argv[1]), AutoModelForCausalLM.from_pretrained(sys.argv[1])
asked = tokenizer.apply_chat_template(
    [{"role": "user", "content": "ping"}], add_generation_prompt=True, return_tensors="pt", return_dict=True
)
answer = tokenizer.decode(model.generate(**asked, max_new_tokens=40, do_sample=False)[0][asked["input_ids"].shape[1] :])
assert answer == "pong<|im_end|>", answer
assert tokenizer.eos_token == "<|im_end|>", tokenizer.eos_token
