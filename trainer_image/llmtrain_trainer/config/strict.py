"""The base of every type that is parsed from text: frozen, camelCase outside, unknown fields refused."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel


class Strict(BaseModel):
    """Frozen; the docstring under a field is its description in the CRD and in `kubectl explain`."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
    )


PositiveInt = Annotated[int, Field(ge=1, le=1_000_000_000)]
"""A count of at least one."""

Ratio = Annotated[float, Field(ge=0.0, le=1.0)]
"""A fraction from 0 to 1, both included."""

Decay = Annotated[float, Field(ge=0.0, lt=1.0)]
"""The decay of a moving average: with 1 the average would stay 0."""

Duration = Annotated[str, Field(pattern=r"^([1-9][0-9]{0,8}(s|m|h|d))+$", max_length=32, examples=["15m", "1h30m"])]
"""A time span above zero, such as 90s, 15m, 24h or 1h30m."""

StoreUri = Annotated[
    str, Field(pattern=r"^((s3|pvc)://[^/].*|file:///.+)$", max_length=1024, examples=["s3://bucket/prefix", "file:///absolute/path"])
]
"""A prefix that can be written: s3://bucket/prefix, pvc://claim/path or file:///absolute/path."""

Source = Annotated[
    str,
    Field(
        pattern=r"^((hf|s3|pvc)://[^/].*|file:///.+)$",
        max_length=1024,
        examples=["hf://owner/name", "s3://bucket/prefix", "file:///absolute/path"],
    ),
]
"""A source to read: hf://owner/name, s3://bucket/prefix, pvc://claim/path or file:///absolute/path."""

Name = Annotated[
    str,
    Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$", max_length=253, examples=["team-a", "s3-creds"]),
]
"""The name of another Kubernetes object: lower-case letters, digits, dashes and dots."""

_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def seconds(duration: Duration) -> int:
    """Seconds of a Duration: 5400 for 1h30m. Its pattern was checked when the text was parsed; other text raises ValueError."""
    parts = re.findall(r"([0-9]+)([smhd])", duration)
    if not parts or "".join(count + unit for count, unit in parts) != duration:
        raise ValueError(f"duration {duration!r} is not a time span: write whole numbers with s, m, h or d, such as 90s or 1h30m.")
    return sum(int(count) * _UNIT_SECONDS[unit] for count, unit in parts)
