"""A generation prompt that training does not show is told of, with the way to ask so that it does."""

from __future__ import annotations

from typing import Any

import chat_kinds as kinds
import pytest
from small_job import Job, config_of
from test_told import chat, turns

from llmtrain_trainer.data.formats.encoding import Encoder
from llmtrain_trainer.data.sources.dataset import Row
from llmtrain_trainer.run_dir.notices import told

# A <think> for the model to go on with, unless it is told not to think: then an empty block (GLM 4.5, Qwen3 hybrids)
PREFILLED = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' and enable_thinking is false %}<think>\n\n</think>\n\n"
    "{% endif %}{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is false %}<think>\n\n</think>\n\n{% else %}<think>\n{% endif %}{% endif %}"
)
# The same, where answers are written without the block: the switch that turns thinking off asks as training shows (DeepSeek V3.1)
SWITCHED = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% if thinking is not false %}<think>\n{% endif %}{% endif %}"
)
# It asks under another name than it writes
RENAMED = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>model\n{% endif %}"
)
MARKED = kinds.MARKED.replace("assistant\n{% endif %}", "assistant\n<think>\n{% endif %}")


def about_asking(job: Job) -> list[str]:
    return [line for line in told(job.run) if "generation prompt" in line]


@pytest.mark.parametrize(
    ("template", "asked"),
    [(kinds.STRIPPED, "<|Assistant|><think>"), (PREFILLED, "<|im_start|>assistant\\n<think>"), (RENAMED, "model"), (MARKED, "<think>")],
    ids=["stripped", "prefilled", "renamed", "marked"],
)
def test_a_generation_prompt_that_training_does_not_show_is_told_with_its_count(job: Job, template: str, asked: str) -> None:
    job.prepare(chat(job, [turns("What?", f"four {i}") for i in range(9)], template))
    (sentence,) = about_asking(job)
    assert asked in sentence
    assert "other text precedes 9 of 9 learned answers" in sentence
    assert sentence.endswith("give a tokenizer.chatTemplate that writes the same in both places")
    job.run.notices.unlink()
    way_out = {"tokenizer": {"source": f"file://{job.root / 'tok'}", "chatTemplate": kinds.CHATML}}
    job.prepare(chat(job, [turns("What?", f"four {i}") for i in range(9)], template, spec=way_out))
    assert about_asking(job) == []


@pytest.mark.parametrize("name", sorted(set(kinds.ALL) - {"stripped"}))
def test_templates_that_ask_as_they_write_say_nothing(job: Job, name: str) -> None:
    conversation = {"messages": turns("What?", "four")["messages"] + turns("And?", "five")["messages"]}
    job.prepare(chat(job, [conversation] * 9, kinds.ALL[name], length=128))
    assert about_asking(job) == []


def test_a_switch_of_the_template_that_asks_as_training_shows_is_named(job: Job) -> None:
    job.prepare(chat(job, [turns("What?", f"four {i}") for i in range(9)], SWITCHED))
    (sentence,) = about_asking(job)
    assert sentence.endswith('with {"thinking": false} in chat_template_kwargs they are the same: prompt the trained model with that')


def test_rows_that_set_the_switch_themselves_are_told_of_since_others_must_ask_so_too(job: Job) -> None:
    rows = [{**turns("What?", f"four {i}"), "chat_template_kwargs": {"thinking": False}} for i in range(9)]
    job.prepare(chat(job, rows, SWITCHED))
    (sentence,) = about_asking(job)
    assert 'prompt the trained model with the same ones ({"thinking": false})' in sentence
    rows = [{**turns("What?", f"four {i}"), "chat_template_kwargs": {"enable_thinking": False}} for i in range(9)]
    job.run.notices.unlink()
    job.prepare(chat(job, rows, PREFILLED))  # whose answers begin as it asks without the switch, too
    assert about_asking(job) == []


def test_answers_with_the_reasoning_that_the_prompt_begins_are_no_others(job: Job) -> None:
    rows = [turns("What?", f"<think>\nbecause\n</think>\n\nfour {i}") if i % 3 else turns("What?", "four") for i in range(9)]
    job.prepare(chat(job, rows, PREFILLED))
    (sentence,) = about_asking(job)
    assert "precedes 3 of 9 learned answers" in sentence


def test_an_answer_that_shares_a_token_with_its_prompt_is_told_of(job: Job) -> None:
    kinds.tokenizer(None).save_pretrained(job.root / "tok")

    def prepare(prompt: str, completion: str) -> str:
        rows = [{"prompt": f"What is {i}?{prompt}", "completion": f"{completion}four"} for i in range(9)]
        dataset = {"source": job.rows_file("p.jsonl", rows), "format": "promptCompletion"}
        job.run.notices.unlink(missing_ok=True)
        training = {"sequenceLength": 64, "packing": False}
        job.prepare(config_of([dataset], task="sft", tokenizer={"source": f"file://{job.root / 'tok'}"}, training=training))
        return " ".join(told(job.run))

    assert "9 answers begin inside the last token of their prompt" in prepare(" ", "")
    assert "inside a token" not in prepare("", " ")
    assert "inside a token" not in prepare("\n", "")
    assert "9 prompts and answers are joined as they are, without a chat template" in prepare("\n", "")


def test_a_prompt_is_made_tokens_again_only_where_one_may_reach_into_the_answer() -> None:
    class Counted(Encoder):
        def _reads_otherwise(self, prompt: str, ids: Any, guarded: bool) -> bool:
            asked.append(prompt)
            return super()._reads_otherwise(prompt, ids, guarded)

    asked: list[str] = []
    from llmtrain_trainer.config import Dataset

    encode = Counted("d", Dataset(source="file:///x", format="promptCompletion"), kinds.tokenizer(None))
    encode([Row("r", {"prompt": f"What is {i}?", "completion": " four"}) for i in range(5)])
    assert asked == []
    encode([Row("r", {"prompt": "What? ", "completion": "four"})])
    assert asked == ["What? "]
