"""Chat templates by name, for tokenizers that bring none, such as those of base models. Each writes what its models were trained on."""

from __future__ import annotations

from collections.abc import Mapping

_ASK_CHATML = r"{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"

_CHATML = (
    r"{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}{% endfor %}"
    + _ASK_CHATML
)

_APART = (
    "{% if messages and messages[0]['role'] == 'system' %}{% set turns, system = messages[1:], messages[0]['content'] %}"
    "{% else %}{% set turns, system = messages, none %}{% endif %}"
)
"""The system's words apart from the turns."""

_IN_TURNS = (
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('the roles user and assistant must alternate') }}{% endif %}"
)

_LLAMA2 = (
    _APART + "{% for message in turns %}" + _IN_TURNS + r"{% set asked = ('<<SYS>>\n' + system + '\n<</SYS>>\n\n' if loop.first and "
    r"system is not none else '') + message['content'] %}"
    "{% if message['role'] == 'user' %}{{ bos_token }}{{ '[INST] ' + asked.strip() + ' [/INST]' }}"
    "{% else %}{{ ' ' + message['content'].strip() + ' ' }}{{ eos_token }}{% endif %}{% endfor %}"
)

_LLAMA3 = (
    "{{ bos_token }}{% for message in messages %}{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>' }}"
    r"{{ '\n\n' + message['content'] | trim + '<|eot_id|>' }}{% endfor %}"
    r"{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)

_MISTRAL = (
    _APART + "{{ bos_token }}{% for message in turns %}" + _IN_TURNS + "{% if message['role'] == 'user' %}"
    r"{{ '[INST] ' + (system + '\n\n' if loop.first and system is not none else '') + message['content'] + '[/INST]' }}"
    "{% else %}{{ ' ' + message['content'] | trim }}{{ eos_token }}{% endif %}{% endfor %}"
)

_QWEN_TOOLS = (
    r"\n\n# Tools\n\nYou may call one or more functions to assist with the user query.\n\nYou are provided with function signatures within "
    r"<tools></tools> XML tags:\n<tools>"
)
_QWEN_CALLS = (
    r"\n</tools>\n\nFor each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:"
    r"\n<tool_call>\n{\"name\": <function-name>, \"arguments\": <args-json-object>}\n</tool_call>"
)
_QWEN = (
    _APART + r"{{ '<|im_start|>system\n' }}"
    "{{ system if system is not none else 'You are Qwen, created by Alibaba Cloud. You are a helpful assistant.' }}"
    '{% if tools %}{{ "' + _QWEN_TOOLS + r'" }}{% for tool in tools %}{{ "\n" }}{{ tool | tojson }}{% endfor %}{{ "' + _QWEN_CALLS + '" }}'
    r"{% endif %}{{ '<|im_end|>\n' }}"
    "{% for message in turns %}{% if message['role'] == 'tool' %}"
    "{% if loop.first or loop.previtem['role'] != 'tool' %}{{ '<|im_start|>user' }}{% endif %}"
    r"{{ '\n<tool_response>\n' + message['content'] + '\n</tool_response>' }}"
    r"{% if loop.last or loop.nextitem['role'] != 'tool' %}{{ '<|im_end|>\n' }}{% endif %}"
    "{% else %}{{ '<|im_start|>' + message['role'] }}"
    r"{% if message['content'] or not message['tool_calls'] %}{{ '\n' + message['content'] }}{% endif %}"
    "{% for call in message['tool_calls'] or [] %}"
    r"""{{ '\n<tool_call>\n{"name": "' + call['function']['name'] + '", "arguments": ' }}"""
    r"{{ call['function']['arguments'] | tojson }}{{ '}\n</tool_call>' }}{% endfor %}{{ '<|im_end|>\n' }}{% endif %}{% endfor %}"
    + _ASK_CHATML
)

_GEMMA = (
    _APART
    + "{{ bos_token }}{% for message in turns %}"
    + _IN_TURNS
    + r"{{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else message['role']) + '\n' }}"
    r"{{ system + '\n\n' if loop.first and system is not none else '' }}"
    r"{{ message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    r"{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)

_PHI = (
    "{% for message in messages %}{% if message['role'] != 'system' or message['content'] %}"
    r"{{ '<|' + message['role'] + '|>\n' + message['content'] + '<|end|>\n' }}{% endif %}{% endfor %}"
    r"{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
)

_DEEPSEEK = (
    _APART + "{{ bos_token }}{{ system if system is not none else '' }}{% for message in turns %}"
    "{% if message['role'] == 'user' %}{{ '<\uff5cUser\uff5c>' + message['content'] }}{% elif message['role'] == 'assistant' %}"
    "{{ '<\uff5cAssistant\uff5c>' + message['content'] + '<\uff5cend\u2581of\u2581sentence\uff5c>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<\uff5cAssistant\uff5c>' }}{% endif %}"
)

ALPACA_WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request."
)
ALPACA_WITHOUT_INPUT = "Below is an instruction that describes a task. Write a response that appropriately completes the request."

ALPACA_TEMPLATE = (
    "{% if messages and messages[0]['role'] == 'system' %}{{ messages[0]['content'] + '\\n\\n' }}"
    "{% elif messages and messages[0]['input'] %}{{ '" + ALPACA_WITH_INPUT + "\\n\\n' }}"
    "{% else %}{{ '" + ALPACA_WITHOUT_INPUT + "\\n\\n' }}{% endif %}"
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}{{ '### Instruction:\\n' + message['content'] + '\\n\\n' }}"
    "{% if message['input'] %}{{ '### Input:\\n' + message['input'] + '\\n\\n' }}{% endif %}"
    "{% elif message['role'] == 'assistant' %}{{ '### Response:\\n' + message['content'] + eos_token + '\\n\\n' }}"
    "{% elif not loop.first or message['role'] != 'system' %}"
    "{{ '### ' + (message['role'] | capitalize) + ':\\n' + message['content'] + '\\n\\n' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '### Response:\\n' }}{% endif %}"
)
"""Alpaca's prompt as a chat template. A user's message may have `input` beside its content."""

_VICUNA_SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
_VICUNA = (
    _APART + '{{ bos_token }}{{ system if system is not none else "' + _VICUNA_SYSTEM + '" }}{{ " " }}{% for message in turns %}'
    "{% if message['role'] == 'user' %}{{ 'USER: ' + message['content'] + ' ' }}"
    "{% elif message['role'] == 'assistant' %}{{ 'ASSISTANT: ' + message['content'] }}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)

CHAT_TEMPLATES: Mapping[str, str] = {
    "chatml": _CHATML,
    "llama2": _LLAMA2,
    "llama3": _LLAMA3,
    "mistral": _MISTRAL,
    "qwen": _QWEN,
    "gemma": _GEMMA,
    "phi": _PHI,
    "deepseek": _DEEPSEEK,
    "alpaca": ALPACA_TEMPLATE,
    "vicuna": _VICUNA,
}
"""Name -> template: of Llama 2 and 3, Mistral 7B v0.3, Qwen 2.5, Gemma 3, Phi 3.5, DeepSeek V3 and Vicuna 1.1."""


def text_of(given: str) -> str:
    """The template that a manifest names or writes out."""
    return CHAT_TEMPLATES.get(given, given)
