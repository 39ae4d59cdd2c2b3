"""The base of every type that text becomes: frozen, camelCase outside, unknown fields refused.

Used by the sections below and by the operator's spec, so that both speak of a field in the same way.
"""

from __future__ import annotations

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
"""A share between 0 and 1, both included."""

Duration = Annotated[str, Field(pattern=r"^([0-9]+(s|m|h|d))+$", max_length=32)]
"""A time span such as 90s, 15m, 24h or 1h30m."""
