"""Chat templates that behave as those of known families do, and a tokenizer with their control tokens."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from llmtrain_trainer.config import Dataset, TokenizerTraining
from llmtrain_trainer.data.formats.encoding import Encoded, Encoder
from llmtrain_trainer.data.sources.dataset import Row
from llmtrain_trainer.prepare import tokenizer as tokenizers

SPECIAL = [
    "<bos>",
    "<|im_start|>",
    "<|im_end|>",
    "<|User|>",
    "<|Assistant|>",
    "<|eot|>",
    "<|head|>",
    "<|/head|>",
    "[INST]",
    "[/INST]",
    "[TOOLS]",
]
ORDINARY = ["<think>", "</think>", "<call>", "</call>"]

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# Reasoning only in answers after the last question, an empty block in the last answer, tools and calls as JSON (Qwen3)
HYBRID = (
    "{% if tools %}<|im_start|>system\n{% if messages[0].role == 'system' %}{{ messages[0].content }}\n{% endif %}"
    "{% for t in tools %}{{ t | tojson }}\n{% endfor %}<|im_end|>\n"
    "{% elif messages[0].role == 'system' %}<|im_start|>system\n{{ messages[0].content }}<|im_end|>\n{% endif %}"
    "{% set ns = namespace(last=-1) %}{% for m in messages %}"
    "{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}"
    "{% for m in messages %}{% set content = m.content if m.content is string else '' %}"
    "{% if m.role == 'user' or (m.role == 'system' and not loop.first) %}<|im_start|>{{ m.role }}\n{{ content }}<|im_end|>\n"
    "{% elif m.role == 'assistant' %}{% set thought = '' %}"
    "{% if m.reasoning_content is string %}{% set thought = m.reasoning_content %}"
    "{% elif '</think>' in content %}{% set thought = content.split('</think>')[0].split('<think>')[-1] %}"
    "{% set content = content.split('</think>')[-1].lstrip('\n') %}{% endif %}"
    "<|im_start|>assistant\n"
    "{% if loop.index0 > ns.last and (loop.last or thought) %}<think>\n{{ thought.strip('\n') }}\n</think>\n\n{% endif %}{{ content }}"
    "{% for c in m.tool_calls or [] %}{{ '\n' if content or not loop.first }}<call>\n"
    '{"name": "{{ c.function.name }}", "arguments": '
    "{{ c.function.arguments if c.function.arguments is string else c.function.arguments | tojson }}}\n</call>{% endfor %}<|im_end|>\n"
    "{% elif m.role == 'tool' %}{% if loop.first or messages[loop.index0 - 1].role != 'tool' %}<|im_start|>user{% endif %}"
    "\n<response>\n{{ content }}\n</response>"
    "{% if loop.last or messages[loop.index0 + 1].role != 'tool' %}<|im_end|>\n{% endif %}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# Headers, trimmed content, JSON calls with a single call at most, tool results as JSON (Llama 3)
HEADERS = (
    "<bos>{% for m in messages %}{% if not m.tool_calls %}<|head|>{{ 'ipython' if m.role == 'tool' else m.role }}<|/head|>\n\n"
    "{% if m.role == 'tool' %}{{ m.content | tojson }}{% else %}{{ m.content | trim }}{% endif %}<|eot|>"
    "{% else %}{% if m.tool_calls | length != 1 %}{{ raise_exception('one call at once') }}{% endif %}<|head|>assistant<|/head|>\n\n"
    '{"name": "{{ m.tool_calls[0].function.name }}", "parameters": {{ m.tool_calls[0].function.arguments | tojson }}}<|eot|>'
    "{% endif %}{% endfor %}{% if add_generation_prompt %}<|head|>assistant<|/head|>\n\n{% endif %}"
)
# Roles must alternate, the system's words stand in the last question, no generation prompt (Mistral)
BRACKETS = (
    "<bos>{% if messages[0].role == 'system' %}{% set system = messages[0].content %}{% set rest = messages[1:] %}"
    "{% else %}{% set system = '' %}{% set rest = messages %}{% endif %}"
    "{% for m in rest %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}"
    "{% if m.role == 'user' %}[INST] {% if system and m == (rest | selectattr('role', 'equalto', 'user') | list)[-1] %}{{ system }}\n\n"
    "{% endif %}{{ m.content }}[/INST]{% else %} {{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"
)
# All reasoning dropped, other roles passed over, arguments joined as text (DeepSeek-R1)
STRIPPED = (
    "<bos>{% for m in messages %}{% if m.role == 'user' %}<|User|>{{ m.content }}{% elif m.role == 'assistant' %}"
    "{% set c = m.content %}{% if '</think>' in c %}{% set c = c.split('</think>')[-1] %}{% endif %}<|Assistant|>{{ c }}"
    "{% for call in m.tool_calls or [] %}{{ 'CALL ' + call.function.name + '\n' + call.function.arguments }}{% endfor %}<|im_end|>"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}<|Assistant|><think>\n{% endif %}"
)
# Parts of content only (vision families)
PARTS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% for part in m.content %}{% if part.type == 'text' %}{{ part.text }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# The answers marked, their end token too
MARKED = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}"
    "{% generation %}{{ m.content }}<|im_end|>{% endgeneration %}"
    "{% else %}{{ m.content }}<|im_end|>{% endif %}\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# Another token ends the last answer than the others (gpt-oss)
CHANNELS = (
    "{% for m in messages %}{% if m.role == 'assistant' %}"
    "{% if m.thinking and loop.last %}<|head|>analysis<|/head|>{{ m.thinking }}<|im_end|>{% endif %}"
    "<|head|>final<|/head|>{{ m.content }}{{ '<|eot|>' if loop.last else '<|im_end|>' }}"
    "{% else %}<|head|>{{ m.role }}<|/head|>{{ m.content }}<|im_end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|head|>{% endif %}"
)
# The end token once more where nothing is asked (Phi-3)
TWICE = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|eot|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% else %}{{ eos_token }}{% endif %}"
)
ALL = {"chatml": CHATML, "hybrid": HYBRID, "headers": HEADERS, "brackets": BRACKETS, "stripped": STRIPPED, "parts": PARTS, "marked": MARKED}
ALL |= {"channels": CHANNELS, "twice": TWICE}


@cache
def _trained() -> str:
    texts = ["What is two and two? It is four. And three? It is five. Be brief. user assistant system tool"] * 3
    return str(tokenizers.train(TokenizerTraining(algorithm="bpe", vocab_size=300), lambda: texts).backend_tokenizer.to_str())


def tokenizer(template: str | None) -> Any:
    """Byte-level BPE with the control tokens of all templates here."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    made = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(_trained()), eos_token="<|end|>", pad_token="<|pad|>")
    made.add_special_tokens({"bos_token": "<bos>", "additional_special_tokens": SPECIAL[1:]})
    made.add_tokens(ORDINARY)
    made.chat_template = template
    return made


def encode(template: str | None, values: dict[str, Any], **dataset: Any) -> tuple[Any, Encoded]:
    """The tokenizer and one row."""
    made = tokenizer(template)
    given = Dataset.model_validate({"source": "file:///x", "format": "messages", **dataset})
    return made, Encoder("dataset[0]", given, made)([Row("f row 1", json.loads(json.dumps(values)))])[0]


def learned_and_ignored(template: str | None, values: dict[str, Any], **dataset: Any) -> tuple[str, str]:
    """Text of the learned tokens and of the others."""
    made, document = encode(template, values, **dataset)
    return made.decode(document.ids[document.loss_mask].tolist()), made.decode(document.ids[~document.loss_mask].tolist())
