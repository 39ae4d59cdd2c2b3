"""A chat template is a program: one that does not end, or takes all memory, is refused like one that raises."""

from __future__ import annotations

import resource
import signal
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from small_job import Job, config_of

from llmtrain_trainer.data.bad_data import BadData
from llmtrain_trainer.data.formats import chat_template, control_tokens
from llmtrain_trainer.data.sources import row_rules
from llmtrain_trainer.data.template_bounds import TooLongError, bounded

ENDLESS = "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}{% endfor %}{% endfor %}{% endfor %}"
LARGE = "{{ 'x' * 30000000000 }}"
DEEP = "{% macro m(n) %}{{ m(n) }}{% endmacro %}{{ m(1) }}"


@pytest.mark.parametrize(
    ("template", "why"),
    [(ENDLESS, "of the processor's time"), (LARGE, "MemoryError"), (DEEP, "nested too deep")],
    ids=["time", "memory", "depth"],
)
def test_a_template_without_end_or_measure_is_refused_with_its_row(
    job: Job, monkeypatch: pytest.MonkeyPatch, template: str, why: str
) -> None:
    for module in (chat_template, control_tokens):
        monkeypatch.setattr(module, "bounded", partial(bounded, seconds=0.3))
    rows = [{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}] * 3
    dataset = {"source": job.rows_file("m.jsonl", rows), "format": "messages"}
    tokenizer = {"train": {"vocabSize": 300}, "chatTemplate": template}
    with pytest.raises(BadData, match=rf"m\.jsonl row 1: the chat template refuses the conversation \(.*{why}"):
        job.prepare(config_of([dataset], task="sft", tokenizer=tokenizer))


def test_bounds_end_with_what_they_hold() -> None:
    before = resource.getrlimit(resource.RLIMIT_AS), signal.getsignal(signal.SIGVTALRM)
    with pytest.raises(TooLongError), bounded(0.05):
        while True:
            pass
    assert (resource.getrlimit(resource.RLIMIT_AS), signal.getsignal(signal.SIGVTALRM)) == before
    assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0.0, 0.0)


def test_nothing_runs_without_bounds_on_another_thread() -> None:
    def run() -> None:
        with bounded():
            raise AssertionError("it ran")

    with ThreadPoolExecutor(1) as pool, pytest.raises(RuntimeError, match="runs on the main thread alone"):
        pool.submit(run).result()


def test_rules_of_rows_are_bounded_where_a_tokenizer_is_trained_on_them(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_rules, "bounded", partial(bounded, seconds=0.3))
    dataset = {"source": job.rows_file("a.jsonl", [{"text": "a", "n": 7}] * 3), "where": "n**(n**9) > 1"}
    with pytest.raises(BadData, match=r"a\.jsonl row 1: dataset\[0\]\.where cannot be computed \(it takes more than"):
        job.prepare(config_of([dataset]))
