"""Chat templates by name: what each writes of a conversation, which is what its models were trained on."""

from __future__ import annotations

from typing import Any

import chat_kinds as kinds
import pytest
from small_job import Job, config_of

from llmtrain_trainer.config.tables.chat_templates import CHAT_TEMPLATES
from llmtrain_trainer.data.bad_data import BadData
from llmtrain_trainer.run_dir.notices import told

SYSTEM = {"role": "system", "content": "Be brief."}
TURNS = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello."},
    {"role": "user", "content": "Two?"},
    {"role": "assistant", "content": "2"},
]
VICUNA = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
QWEN = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
BELOW = "Below is an instruction that describes a task. Write a response that appropriately completes the request."


def llama3(role: str, text: str) -> str:
    return f"<|start_header_id|>{role}<|end_header_id|>\n\n{text}<|eot_id|>"


def chatml(*turns: tuple[str, str]) -> str:
    return "".join(f"<|im_start|>{role}\n{text}<|im_end|>\n" for role, text in turns)


ASKED = [("user", "Hi"), ("assistant", "Hello."), ("user", "Two?"), ("assistant", "2")]
EXPECTED: dict[str, tuple[str, str]] = {
    "chatml": (chatml(*ASKED), chatml(("system", "Be brief."), *ASKED)),
    "qwen": (chatml(("system", QWEN), *ASKED), chatml(("system", "Be brief."), *ASKED)),
    "llama2": (
        "<s>[INST] Hi [/INST] Hello. </s><s>[INST] Two? [/INST] 2 </s>",
        "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nHi [/INST] Hello. </s><s>[INST] Two? [/INST] 2 </s>",
    ),
    "llama3": (
        "<s>" + "".join(llama3(*turn) for turn in ASKED),
        "<s>" + llama3("system", "Be brief.") + "".join(llama3(*turn) for turn in ASKED),
    ),
    "mistral": (
        "<s>[INST] Hi[/INST] Hello.</s>[INST] Two?[/INST] 2</s>",
        "<s>[INST] Be brief.\n\nHi[/INST] Hello.</s>[INST] Two?[/INST] 2</s>",
    ),
    "gemma": (
        "<s><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\nHello.<end_of_turn>\n"
        "<start_of_turn>user\nTwo?<end_of_turn>\n<start_of_turn>model\n2<end_of_turn>\n",
        "<s><start_of_turn>user\nBe brief.\n\nHi<end_of_turn>\n<start_of_turn>model\nHello.<end_of_turn>\n"
        "<start_of_turn>user\nTwo?<end_of_turn>\n<start_of_turn>model\n2<end_of_turn>\n",
    ),
    "phi": (
        "<|user|>\nHi<|end|>\n<|assistant|>\nHello.<|end|>\n<|user|>\nTwo?<|end|>\n<|assistant|>\n2<|end|>\n</s>",
        "<|system|>\nBe brief.<|end|>\n<|user|>\nHi<|end|>\n<|assistant|>\nHello.<|end|>\n"
        "<|user|>\nTwo?<|end|>\n<|assistant|>\n2<|end|>\n</s>",
    ),
    "deepseek": (
        "<s><\uff5cUser\uff5c>Hi<\uff5cAssistant\uff5c>Hello.<\uff5cend\u2581of\u2581sentence\uff5c>"
        "<\uff5cUser\uff5c>Two?<\uff5cAssistant\uff5c>2<\uff5cend\u2581of\u2581sentence\uff5c>",
        "<s>Be brief.<\uff5cUser\uff5c>Hi<\uff5cAssistant\uff5c>Hello.<\uff5cend\u2581of\u2581sentence\uff5c>"
        "<\uff5cUser\uff5c>Two?<\uff5cAssistant\uff5c>2<\uff5cend\u2581of\u2581sentence\uff5c>",
    ),
    "alpaca": (
        f"{BELOW}\n\n### Instruction:\nHi\n\n### Response:\nHello.</s>\n\n### Instruction:\nTwo?\n\n### Response:\n2</s>\n\n",
        "Be brief.\n\n### Instruction:\nHi\n\n### Response:\nHello.</s>\n\n### Instruction:\nTwo?\n\n### Response:\n2</s>\n\n",
    ),
    "vicuna": (
        f"<s>{VICUNA} USER: Hi ASSISTANT: Hello.</s>USER: Two? ASSISTANT: 2</s>",
        "<s>Be brief. USER: Hi ASSISTANT: Hello.</s>USER: Two? ASSISTANT: 2</s>",
    ),
}
ASKS = {"chatml": "<|im_start|>assistant\n", "qwen": "<|im_start|>assistant\n", "llama2": "", "mistral": "", "phi": "<|assistant|>\n"}
ASKS |= {"llama3": "<|start_header_id|>assistant<|end_header_id|>\n\n", "gemma": "<start_of_turn>model\n", "vicuna": "ASSISTANT:"}
ASKS |= {"deepseek": "<\uff5cAssistant\uff5c>", "alpaca": "### Response:\n"}


def written(name: str, messages: list[dict[str, Any]], **given: Any) -> str:
    from transformers.utils.chat_template_utils import render_jinja_template

    tokens = {"bos_token": "<s>", "eos_token": "</s>"}
    texts, _ = render_jinja_template(conversations=[messages], chat_template=CHAT_TEMPLATES[name], **tokens, **given)
    return str(texts[0])


@pytest.mark.parametrize("name", CHAT_TEMPLATES)
def test_a_named_template_writes_what_its_models_know(name: str) -> None:
    assert (written(name, TURNS), written(name, [SYSTEM, *TURNS])) == EXPECTED[name]


@pytest.mark.parametrize("name", CHAT_TEMPLATES)
def test_a_question_is_written_as_before_its_answer_with_what_asks_for_it(name: str) -> None:
    asked = written(name, TURNS[:3], add_generation_prompt=True)
    assert asked.endswith(ASKS[name])
    assert EXPECTED[name][0].startswith(asked)


@pytest.mark.parametrize("name", CHAT_TEMPLATES)
def test_answers_are_learned_and_questions_are_not(name: str) -> None:
    learned, ignored = kinds.learned_and_ignored(CHAT_TEMPLATES[name], {"messages": [SYSTEM, *TURNS]})
    assert "Hello." in learned
    assert "2" in learned
    assert "Two?" not in learned
    assert "Be brief." in ignored


def test_tools_and_calls_are_written_as_qwen_writes_them() -> None:
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
    call = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Oslo"}}}
    turns = [
        {"role": "user", "content": "Rain?"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "yes"},
        {"role": "tool", "content": "wet"},
        {"role": "assistant", "content": "Yes."},
    ]
    text = written("qwen", [SYSTEM, *turns], tools=[tool])
    head, _, rest = text.partition("<|im_end|>\n")
    assert head.startswith("<|im_start|>system\nBe brief.\n\n# Tools\n\nYou may call one or more functions")
    assert '<tools>\n{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}\n</tools>\n\nFor each' in head
    assert head.endswith('<tool_call>\n{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>')
    assert rest == (
        "<|im_start|>user\nRain?<|im_end|>\n"
        '<|im_start|>assistant\n<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call><|im_end|>\n'
        "<|im_start|>user\n<tool_response>\nyes\n</tool_response>\n<tool_response>\nwet\n</tool_response><|im_end|>\n"
        "<|im_start|>assistant\nYes.<|im_end|>\n"
    )


def prepared(job: Job, rows: list[dict[str, Any]], template: str, **dataset: Any) -> None:
    kinds.tokenizer(None).save_pretrained(job.root / "tok")
    given = [{"source": job.rows_file("a.jsonl", rows), "format": "messages", **dataset}]
    tokenizer = {"source": f"file://{job.root / 'tok'}", "chatTemplate": template}
    job.prepare(config_of(given, task="sft", tokenizer=tokenizer, training={"sequenceLength": 192, "packing": False}))


def test_a_named_template_is_the_exported_tokenizers_and_tokens_that_it_lacks_are_told(job: Job) -> None:
    from llmtrain_trainer.data.formats.encoding import load_tokenizer

    for _ in range(2):  # from the cache too
        prepared(job, [{"messages": TURNS}] * 16, "llama3")
        said = [line for line in told(job.run) if "llama3 writes" in line]
        assert said == [
            "tokenizer.chatTemplate: llama3 writes <|start_header_id|>, <|end_header_id|>, <|eot_id|>, which the tokenizer does not have "
            "as tokens: they are written in letters."
        ]
    assert load_tokenizer(job.run.prepared / "tokenizer").chat_template == CHAT_TEMPLATES["llama3"]


def test_the_system_of_a_dataset_comes_first_where_a_row_has_none() -> None:
    row = {"messages": TURNS}
    same = kinds.learned_and_ignored(kinds.CHATML, {"messages": [SYSTEM, *TURNS]})
    assert kinds.learned_and_ignored(kinds.CHATML, row, system="Be brief.") == same
    assert kinds.learned_and_ignored(kinds.CHATML, {"messages": [SYSTEM, *TURNS]}, system="Be long.") == same
    alpaca = {"instruction": "Hi", "output": "Hello."}
    assert "Be brief." in kinds.learned_and_ignored(kinds.CHATML, alpaca, format="alpaca", system="Be brief.")[1]
    pair = {"prompt": TURNS[:1], "completion": TURNS[1:2]}
    learned, ignored = kinds.learned_and_ignored(kinds.CHATML, pair, format="promptCompletion", system="Be brief.")
    assert learned == "Hello.<|im_end|>"
    assert "Be brief." in ignored
    with pytest.raises(
        BadData, match=r"system is Be brief.: the prompt of f row 1 is text, which has no turns. Write it into dataset\[0\]"
    ):
        kinds.encode(kinds.CHATML, {"prompt": "a", "completion": "b"}, format="promptCompletion", system="Be brief.")
