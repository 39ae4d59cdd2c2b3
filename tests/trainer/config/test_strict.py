"""What every type of the manifest has in common: names, refusals, spans of time, URIs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from llmtrain_trainer.config import Mesh, Training, seconds
from llmtrain_trainer.config.strict import Duration, Name, PositiveInt, Source, StoreUri


def takes(kind: object, value: object) -> bool:
    try:
        TypeAdapter(kind).validate_python(value)
    except ValidationError:
        return False
    return True


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1s", 1),
        ("90s", 90),
        ("15m", 900),
        ("1h30m", 5400),
        ("1d", 86_400),
        ("2d3h4m5s", 2 * 86_400 + 3 * 3600 + 4 * 60 + 5),
        ("5s1h", 3605),
        ("30m30m", 3600),
    ],
)
def test_a_span_of_time_is_the_sum_of_its_parts(text: str, expected: int) -> None:
    assert takes(Duration, text) and seconds(text) == expected


@pytest.mark.parametrize(
    "text", ["", "s", "5", "0s", "05m", "1.5h", "-1s", "1 h", " 1h", "1h ", "1h\n", "1H", "1w", "1m30", "٣s", "1" * 10 + "s"]
)
def test_what_is_no_span_is_refused_when_it_is_parsed(text: str) -> None:
    assert not takes(Duration, text)


@pytest.mark.parametrize("text", ["", "5", "1h ", "x", "1h30", "h1"])
def test_what_is_no_span_is_never_taken_for_a_shorter_one(text: str) -> None:
    with pytest.raises(ValueError, match="is not a time span"):
        seconds(text)


@given(st.lists(st.tuples(st.integers(1, 10**9 - 1), st.sampled_from("smhd")), min_size=1, max_size=3))
def test_every_span_that_is_parsed_has_its_seconds(parts: list[tuple[int, str]]) -> None:
    text = "".join(f"{count}{unit}" for count, unit in parts)
    if takes(Duration, text):
        assert seconds(text) == sum(count * {"s": 1, "m": 60, "h": 3600, "d": 86_400}[unit] for count, unit in parts)
    else:
        assert len(text) > 32


@pytest.mark.parametrize(
    ("uri", "stores", "reads"),
    [
        ("s3://bucket", True, True),
        ("s3://bucket/prefix/", True, True),
        ("pvc://claim/path", True, True),
        ("file:///path", True, True),
        ("hf://owner/name", False, True),
        ("file:///", False, False),
        ("file://host/path", False, False),
        ("s3:///prefix", False, False),
        ("hf://", False, False),
        ("http://host/x", False, False),
        ("/path", False, False),
        ("S3://bucket", False, False),
        ("", False, False),
        ("xs3://bucket", False, False),
        ("s3://" + "b" * 1020, False, False),
    ],
)
def test_a_uri_is_stored_to_or_read_from_or_refused(uri: str, stores: bool, reads: bool) -> None:
    assert (takes(StoreUri, uri), takes(Source, uri)) == (stores, reads)


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        *(("a", True), ("team-a", True), ("a.b-c.d", True), ("0", True), ("a" * 253, True), ("a" * 254, False)),
        *((odd, False) for odd in ("", "-a", "a-", "A", "a..b", ".a", "a_b", "a.-b", "a\n")),
    ],
)
def test_a_name_is_one_of_kubernetes(name: str, is_one: bool) -> None:
    assert takes(Name, name) is is_one


@pytest.mark.parametrize(
    ("count", "is_one"), [(1, True), (10**9, True), (0, False), (-1, False), (10**9 + 1, False), (1.5, False), ("x", False)]
)
def test_a_count_is_at_least_one_and_bounded(count: object, is_one: bool) -> None:
    assert takes(PositiveInt, count) is is_one


def test_fields_are_written_as_in_the_manifest_and_read_either_way() -> None:
    one = Training.model_validate({"globalBatchSize": 8, "sequenceLength": 16})
    assert one == Training(global_batch_size=8, sequence_length=16)
    assert one.model_dump(by_alias=True)["globalBatchSize"] == 8


def test_a_field_that_is_not_known_is_refused_and_none_is_changed_later() -> None:
    with pytest.raises(ValidationError, match="batchSize"):
        Training.model_validate({"globalBatchSize": 8, "sequenceLength": 16, "batchSize": 4})
    with pytest.raises(ValidationError, match="frozen"):
        Training(global_batch_size=8, sequence_length=16).seed = 2


@given(st.integers(1, 8), st.integers(1, 8), st.integers(1, 8), st.integers(1, 8))
def test_ranks_are_the_product_of_the_degrees_that_hold_different_work(pp: int, dp: int, cp: int, tp: int) -> None:
    """Experts are distributed over ranks that are there already."""
    assert Mesh(pp=pp, dp=dp, cp=cp, tp=tp, ep=1, stages=((0, 1),)).world_size == pp * dp * cp * tp
    assert Mesh(pp=pp, dp=dp, cp=cp, tp=tp, ep=dp * cp, stages=((0, 1),)).world_size == pp * dp * cp * tp
