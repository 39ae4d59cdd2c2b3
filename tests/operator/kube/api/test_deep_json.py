"""JSON that is nested deeper than Python's parser reads: what is cut, and that nothing else is lost with it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from llmtrain_operator.kube.api.client import ApiError, Client
from llmtrain_operator.kube.api.deep_json import CUT, read_json

DEEP = 3000
texts = st.text(st.sampled_from('ab"\\[]{}\n,:é'), max_size=12)
values = st.recursive(
    texts | st.integers() | st.none(), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3)
)


def nested(depth: int, opening: str = '{"a":', closing: str = "}", inside: str = "1") -> str:
    return opening * depth + inside + closing * depth


@given(before=values, after=values)
@example(before="\\", after="\\")
@example(before='\\"}', after={"\\": "{["})
def test_whatever_lies_beside_a_deep_value_is_read_as_it_was_written(before: Any, after: Any) -> None:
    raw = f'{{"before":{json.dumps(before)},"deep":{nested(DEEP)},"after":{json.dumps(after)}}}'
    found = read_json(raw.encode())
    assert (found["before"], found["after"]) == (before, after)


@given(key=texts, text=texts)
def test_strings_within_the_deep_value_end_nothing(key: str, text: str) -> None:
    opening = f"{{{json.dumps(text)}:{json.dumps(text)},{json.dumps(key + 'x' + text)}:"
    found = read_json(f'[{nested(DEEP, opening)},"last"]'.encode())
    assert len(found) == 2 and found[1] == "last"


@pytest.mark.parametrize(("opening", "closing"), [('{"a":', "}"), ("[", "]"), ('[{"a":', "}]")], ids=["objects", "lists", "both"])
def test_what_is_cut_is_null_below_the_levels_that_are_kept(opening: str, closing: str) -> None:
    value, depth = read_json(nested(DEEP, opening, closing).encode()), 0
    while value is not None:
        value, depth = value["a"] if isinstance(value, dict) else value[0], depth + 1
    assert depth == CUT


def test_a_value_that_can_be_read_whole_is_not_cut() -> None:
    value, depth = read_json(nested(CUT + 20).encode()), 0
    while isinstance(value, dict):
        value, depth = value["a"], depth + 1
    assert (depth, value) == (CUT + 20, 1)


@pytest.mark.parametrize(
    "raw",
    [nested(DEEP)[:-1], nested(DEEP, closing="]"), '"' + nested(DEEP), nested(DEEP) + "]", "}" * 5 + nested(DEEP)],
    ids=["open", "mismatch", "quote", "one too many", "closed first"],
)
def test_what_is_no_json_is_a_value_error_however_deep(raw: str) -> None:
    with pytest.raises(ValueError):
        read_json(raw.encode())


async def test_a_job_with_a_backslash_beside_a_deep_value_is_listed_with_the_others(server: Any, client: Client) -> None:
    odd = f'{{"metadata":{{"name":"odd"}},"spec":{{"path":"C:\\\\","model":{nested(DEEP)}}}}}'
    server.answer = lambda _: (200, f'{{"items":[{{"metadata":{{"name":"one"}}}},{odd},{{"metadata":{{"name":"two"}}}}]}}'.encode())
    assert [each["metadata"]["name"] for each in await client.list("/apis/x/v1/jobs")] == ["one", "odd", "two"]


@pytest.mark.parametrize("code", [200, 500])
async def test_an_answer_of_brackets_that_never_close_is_an_api_error(server: Any, client: Client, code: int) -> None:
    server.answer = lambda _: (code, b'{"a":' * DEEP)
    with pytest.raises(ApiError):
        await client.get("/api/v1/nodes/n0")


async def test_a_refusal_that_quotes_a_deep_object_still_gives_its_reason(server: Any, client: Client) -> None:
    server.answer = lambda _: (422, f'{{"reason":"Invalid","message":"too deep","details":{nested(DEEP)}}}'.encode())
    with pytest.raises(ApiError, match="Invalid: too deep"):
        await client.get("/api/v1/nodes/n0")
