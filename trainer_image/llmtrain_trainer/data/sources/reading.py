"""What reading a dataset came across that is not an error, counted, and said in one sentence each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(slots=True)
class Reading:
    """Of one dataset, as far as it was read."""

    rows: int = 0
    """Rows found, those that are passed over too."""

    nulls: int = 0
    """Rows passed over since a column that is needed is null."""

    first_null: str = ""
    """File and row of the first of them."""

    halves: int = 0
    """Rows in which one half of a surrogate pair stood alone: JSON can write that, text cannot hold it."""

    empty_files: int = 0

    def sentences(self, field: str) -> Iterator[str]:
        """For whoever started the job."""
        yield from self.by_kind(field).values()

    def by_kind(self, field: str) -> dict[str, str]:
        """The same, by what it is of."""
        said = {}
        if self.nulls:
            said["nulls"] = f"{field}: {self.nulls} of {self.rows} rows are null and were passed over (the first: {self.first_null})."
        if self.halves:
            rows = "row holds" if self.halves == 1 else "rows hold"
            said["halves"] = f"{field}: {self.halves} {rows} halves of surrogate pairs; each half became U+FFFD."
        if self.empty_files:
            said["empty"] = f"{field}: {self.empty_files} {'file is' if self.empty_files == 1 else 'files are'} empty."
        return said
