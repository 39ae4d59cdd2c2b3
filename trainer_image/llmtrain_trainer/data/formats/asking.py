"""How a chat template asks for an answer, compared with the text before the answer in training.

In use, a model gets the conversation and the template's generation prompt. If training has other text in that place, such as no <think>,
the model was never trained to continue from that prompt.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from llmtrain_trainer.data.formats.chat_template import Chat, ChatTemplate, TemplateError

SWITCHES = ("enable_thinking", "thinking")
"""Variables with which templates choose between two generation prompts."""

MOST_SHOWN = 80


def asks_otherwise(template: ChatTemplate, history: Chat, asked: str, after: str, anchor: str) -> dict[str, int]:
    """Kinds of data/told.py. `asked`: what the template writes to ask for an answer to `history`; training has `after` behind `anchor`."""
    same = next((settings for settings in _switched(template, history) if _fits(template, history, settings, after, anchor)), None)
    found = {f"asked otherwise:{json.dumps(asked[:MOST_SHOWN], ensure_ascii=False)}": 1}
    return found if same is None else found | {f"asked so with:{json.dumps(same)}": 1}


def asks_by_settings(template: ChatTemplate, history: Chat, after: str, anchor: str) -> dict[str, int]:
    """The same where the row's own chat_template_kwargs make the two alike, and without them they are not."""
    if not history.settings or _fits(template, history, {}, after, anchor):
        return {}
    return {f"asked by settings:{json.dumps(history.settings, sort_keys=True)[:MOST_SHOWN]}": 1}


def _switched(template: ChatTemplate, history: Chat) -> Iterator[dict[str, Any]]:
    names = [name for name in SWITCHES if template.names(history, name)]
    return ({**history.settings, name: value} for name in names for value in (False, True))


def _fits(template: ChatTemplate, history: Chat, settings: dict[str, Any], after: str, anchor: str) -> bool:
    try:
        asked = template.render(replace(history, settings=settings), ask=True)
    except TemplateError:
        return False
    return after.startswith(asked.rpartition(anchor)[2] if anchor else asked)
