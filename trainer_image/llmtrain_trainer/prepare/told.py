"""Notices and refusals about a dataset, once its rows are made. Pure.

`SetStats.found` counts kinds by name, some with a detail after a colon; each kind has its sentence here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from llmtrain_trainer.config.dataset import Dataset
from llmtrain_trainer.data.bad_data import BadData
from llmtrain_trainer.data.formats.chat_template import A_DAY
from llmtrain_trainer.data.rows import SetStats
from llmtrain_trainer.data.sources.dataset import MOST_SILENT

MOST_NAMES = 12

MOST_LEFT = 0.05
"""Largest share of the tokens that may be left out at the end of a stream without a notice."""

Sentence = Callable[[str, str, int], str]
"""(field, names, count) -> sentence. The names are the details of a kind; the count is that of the most frequent."""

_SENTENCES: dict[str, Sentence] = {
    "column not read": lambda field, names, count: (
        f"{field}: {count} rows have columns that are not read ({names}); name them in {field}.ignoreColumns if that is intended"
    ),
    "column not written": lambda field, names, count: f"{field}: {names} of {count} rows changes nothing in what the chat template writes",
    "tools not written": lambda field, _, count: (
        f"{field}: {count} rows have tools, which the chat template does not write: they are not trained on"
    ),
    "key not written": lambda field, names, count: (
        f"{field}: messages of {count} rows have keys that the chat template does not write ({names}): they are not trained on"
    ),
    "turn not written": lambda field, names, count: (
        f"{field}: the chat template leaves out the text of {count} turns (role {names}): they are not trained on"
    ),
    "text beside tool calls": lambda field, _, count: (
        f"{field}: {count} answers have both text and tool calls, of which the chat template writes only the calls"
    ),
    "prompt dropped": lambda field, _, count: (
        f"{field}: {count} documents have a prompt that leaves no room for the answer and were left out, as {field}.truncate.prompt: drop "
        "says (raise training.sequenceLength to keep them)"
    ),
    "no answer": lambda field, _, count: f"{field}: {count} conversations have no turn with role assistant: nothing is learned from them",
    "other role": lambda field, names, count: (
        f"{field}: {count} conversations have turns of other roles than user, assistant, system and tool ({names}): they are shown as the "
        "chat template writes them, and not learned"
    ),
    "not an answer": lambda field, names, count: (
        f"{field}: {count} conversations ask to learn turns of role {names}, and only answers are learned: set {field}.roles to "
        "{<role>: assistant} if that speaker answers"
    ),
    "empty answer": lambda field, _, count: f"{field}: {count} answers are empty and are not learned",
    "answer changed": lambda field, _, count: f"{field}: the chat template writes {count} answers differently from the data",
    "unmarked answer": lambda field, _, count: (
        f"{field}: {count} answers are outside the chat template's generation marks and are not learned"
    ),
    "no end token": lambda field, _, count: (
        f"{field}: {count} conversations do not end in a token of the tokenizer, as the chat template writes them; its end token was added"
    ),
    "today": lambda field, _, count: (
        f"{field}: the chat template writes today's date; {count} conversations have {A_DAY:%d %b %Y} instead, so that every start "
        "makes the same rows"
    ),
    "control tokens": lambda field, names, count: (
        f"{field}: {count} documents contain the text of control tokens ({names}), which stay ordinary text; "
        f"set {field}.controlTokens: true if they are meant as control tokens"
    ),
    "built-in template": lambda field, _, count: (
        f"{field}: the tokenizer has no chat template; {count} conversations are written in a plain form, a line with the role, then the "
        "text (tokenizer.chatTemplate gives another)"
    ),
    "alpaca template": lambda field, _, count: (
        f"{field}: {count} conversations are written as Alpaca's prompt (### Instruction:, ### Input:, "
        "### Response:), which the exported tokenizer has as its template (tokenizer.chatTemplate gives another)"
    ),
    "template not used": lambda field, _, count: (
        f"{field}: {count} prompts and answers are joined as they are, without a chat template: give the trained model prompts in that "
        "form, not as chat messages"
    ),
    "asked by settings": lambda field, names, count: (
        f"{field}: {count} answers follow a generation prompt that depends on the rows' chat_template_kwargs: prompt the trained model "
        f"with the same ones ({names})"
    ),
    "token across": lambda field, _, count: (
        f"{field}: {count} answers begin inside the last token of their prompt, so a prompt alone ends in a token that training never "
        "showed; move the white space at the prompt's end to the start of the answer"
    ),
}
_APART = ("reasoning", "reasoning lost", "answers", "asked otherwise", "asked so with")


def sentences(field: str, stats: SetStats) -> Iterator[str]:
    """The notices about one dataset that can be used."""
    return (sentence for _, sentence in by_kind(field, stats))


def by_kind(field: str, stats: SetStats) -> Iterator[tuple[str, str]]:
    """(kind, notice) pairs of one dataset."""
    if stats.prompts_cut:
        yield (
            "prompts cut",
            f"{field}: {stats.prompts_cut} of {stats.documents} documents are longer than {stats.length} tokens and lost the beginning of "
            f"their prompt, to make room for the answer (the longest has {stats.longest}; raise training.sequenceLength)",
        )
    if stats.answers_cut:
        yield (
            "answers cut",
            f"{field}: {stats.answers_cut} of {stats.documents} documents are longer than {stats.length} tokens and were cut at their end "
            f"(the longest has {stats.longest}; raise training.sequenceLength)",
        )
    if stats.dropped:
        rest = f" of {stats.documents + stats.dropped}"
        yield "dropped", f"{field}: {stats.dropped}{rest} documents are empty or have no answer to learn and were left out"
    left = stats.tokens - 1 - stats.rows * stats.length if stats.form == "stream" else 0
    if left > MOST_LEFT * stats.tokens:
        yield "tokens left", f"{field}: the last {left} of {stats.tokens} tokens fill no row of {stats.length} and are left out"
    if lost := stats.found.get("reasoning lost"):
        some = f"{lost} of {stats.found['reasoning']} answers that have some"
        yield "reasoning lost", f"{field}: the chat template drops the reasoning of {some}: it is not learned"
    if asked := _details(stats.found, "asked otherwise"):
        yield "asked otherwise", _asked_otherwise(field, asked, _details(stats.found, "asked so with"), stats.found["answers"])
    for kind, names in _by_kind(stats.found).items():
        shown = ", ".join(sorted(names)[:MOST_NAMES]) + (f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else "")
        yield kind, _SENTENCES[kind](field, shown, max(names.values()))


def _by_kind(found: Mapping[str, int]) -> dict[str, dict[str, int]]:
    kinds: dict[str, dict[str, int]] = {}
    for name, count in sorted(found.items()):
        kind, _, detail = name.partition(":")
        if kind not in _APART and count:
            kinds.setdefault(kind, {})[detail] = count
    return kinds


def _details(found: Mapping[str, int], kind: str) -> dict[str, int]:
    return {name.partition(":")[2]: count for name, count in sorted(found.items()) if name.startswith(f"{kind}:") and count}


def _asked_otherwise(field: str, asked: Mapping[str, int], so_with: Mapping[str, int], answers: int) -> str:
    names, count = " or ".join(asked), sum(asked.values())
    first = (
        f"{field}: the generation prompt of the chat template is {names}, but other text precedes {count} of {answers} learned answers: "
        "the trained model would be prompted in a way that training never showed"
    )
    if sum(so_with.values()) == count:
        return f"{first}; with {' or '.join(so_with)} in chat_template_kwargs they are the same: prompt the trained model with that"
    return f"{first}; give a tokenizer.chatTemplate that writes the same in both places"


def check(field: str, dataset: Dataset, stats: SetStats) -> None:
    """Raises BadData if there are no rows, or if most of what should be learned was left out."""
    if not stats.rows:
        raise _no_rows(field, dataset, stats)
    if stats.dropped > MOST_SILENT * (stats.documents + stats.dropped):
        found = f"{stats.dropped} of {stats.documents + stats.dropped} documents are empty or have no answer to learn"
        raise BadData(f"{field}.source", dataset.source, f"{found}{_why(field, stats)}", f"Leave them out, or check {field}.columns")
    lost, reasoned = stats.found.get("reasoning lost", 0), stats.found.get("reasoning", 0)
    if reasoned and lost == reasoned and not dataset.drop_reasoning:
        rule = f"the chat template drops the reasoning of all {lost} answers that have some, so that only what follows it would be learned"
        way_out = f"Give a tokenizer.chatTemplate that keeps it, or set {field}.dropReasoning: true to learn only the rest"
        raise BadData(f"{field}.source", dataset.source, rule, way_out)
    if stats.prompts_cut > dataset.max_cut * stats.conversations:
        found = f"{stats.prompts_cut} of {stats.conversations} conversations have a prompt that leaves no room for the answer"
        lengths = f"half of them fit into {stats.fitting[0]} tokens, all into {stats.fitting[1]}"
        rule = f"{found}, more than {field}.maxCut ({dataset.max_cut:g}) allows ({lengths})"
        way_out = f"Raise training.sequenceLength, or set {field}.maxCut: 1 to cut their prompts from the left"
        raise BadData("training.sequenceLength", stats.length, rule, way_out)


def _no_rows(field: str, dataset: Dataset, stats: SetStats) -> BadData:
    found = f"{stats.documents} documents with {stats.tokens} tokens, {stats.dropped} left out as empty or without an answer to learn"
    if stats.form == "stream":
        way_out = "Give more data or a smaller training.sequenceLength"
    else:
        found, way_out = f"{found}{_why(field, stats)}", f"Check the data and {field}.columns"
    return BadData(f"{field}.source", dataset.source, f"it makes no row of {stats.length} tokens (found {found})", way_out)


def _why(field: str, stats: SetStats) -> str:
    """What else is known about documents that were left out, as a clause."""
    why = next(iter(sentences(field, stats.model_copy(update={"dropped": 0}))), "")
    return f"; {why}" if why else ""
