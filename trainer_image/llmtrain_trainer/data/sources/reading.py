"""What reading a dataset came across that is not an error, counted, and said in one sentence each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, field

from llmtrain_trainer.config.dataset import Dataset
from llmtrain_trainer.data.bad_data import BadData
from llmtrain_trainer.data.sources.local_files import in_words
from llmtrain_trainer.data.sources.readers import Row

MISSING_MARKS = {"NaN", "nan", "NA", "N/A", "#N/A", "<NA>", "null", "NULL", "None"}
"""What pandas and others write into a field without a value; a CSV file has no other way than to leave it empty."""


MOST_BAD = 0.5
"""Share of rows that cannot be used beyond which data is refused, whatever badRows says."""


@dataclass(slots=True)
class Reading:
    """Of one dataset, as far as it was read."""

    found: int = 0
    """Rows of the files, those outside the slice of the split too."""

    rows: int = 0
    """Rows that the split takes, those that are passed over too."""

    ends_early: str = ""
    """The split, where its slice ends behind the last row."""

    silent: int = 0
    """Rows passed over since they say nothing: a column that is needed is null, or what is learned is empty."""

    first_silent: str = ""
    """File and row of the first of them."""

    unmet: int = 0
    """Rows that do not meet the dataset's `where`."""

    unanswered: int = 0
    """Questions that have no answer on purpose."""

    duplicates: int = 0
    """Rows that say the same as an earlier one and are left out."""

    unfit: int = 0
    """Rows left out as too short or too long."""

    bad: int = 0
    """Rows left out since they cannot be read or trained on."""

    first_bad: str = ""
    """What is wrong with the first of them."""

    present: set[str] = field(default_factory=set)
    """Columns that `where` or `template` names and a row has."""

    needed: dict[str, str] = field(default_factory=dict)
    """Columns that one of them uses without asking whether they are there, though no row until then had them: where or template."""

    left_out: Counter[str] = field(default_factory=Counter)
    """Columns that one of them names, with the number of rows that leave them out, where they are null."""

    columns: set[str] = field(default_factory=set)
    """Names of all columns of rows that have those that are read."""

    strays: list[Row] = field(default_factory=list)
    """Single objects of .json files that lie beside data and are none."""

    halves: int = 0
    """Rows in which one half of a surrogate pair stood alone: JSON can write that, text cannot hold it."""

    missing: Counter[str] = field(default_factory=Counter)
    """Marks such as NaN that stand alone in a column that is read of a CSV file, with the number of rows."""

    empty_files: int = 0

    @property
    def wanted(self) -> int:
        """Rows that neither `where` nor `clean` leaves out, nor questions without an answer."""
        return self.rows - self.unmet - self.unfit - self.duplicates - self.unanswered

    def add_columns(self, named: Set[str], there: Set[str]) -> None:
        """Count a row in which these columns are there. `named`: those that `where` and `template` name."""
        self.present |= named & there
        self.left_out.update(named - there)

    def add_missing(self, row: Row, columns: Sequence[str]) -> None:
        """Count a row of which a column says only that it has no value, as other programs write that."""
        self.missing.update({value for column in columns if (value := row.values.get(column)) in MISSING_MARKS})

    def skip(self, dataset: Dataset, error: BadData) -> None:
        """Count a row that is left out. Raises the error itself where the dataset says that it ends the job."""
        if dataset.bad_rows == "stop":
            raise error
        self.bad += 1
        self.first_bad = self.first_bad or f"{error.value}: {error.rule}"

    def check_bad(self, field: str, dataset: Dataset) -> None:
        """Raises BadData where more rows were left out than are taken for exceptions."""
        if self.bad > MOST_BAD * self.wanted:
            rule = f"{self.bad} of {self.wanted} rows of {dataset.source} cannot be read or trained on, more than half"
            way_out = f"Correct the data, or check {field}.format and its columns"
            raise BadData(f"{field}.badRows", dataset.bad_rows, f"{rule} (the first: {self.first_bad})", way_out)

    def check_columns(self, field: str, dataset: Dataset) -> None:
        """Raises BadData where a column is used by `where` or `template` that no row has."""
        name = next((name for name in self.needed if name not in self.present), None)
        if name is None:
            return
        what = self.needed[name]
        rule = f"it uses the column {name}, which none of {self.rows} rows of {dataset.source} has"
        way_out = f"Correct the name, or write {name} | default('') where rows may leave it out"
        given = dataset.where if what == "where" else ", ".join(dataset.template.model_dump(exclude_none=True)) if dataset.template else ""
        raise BadData(f"{field}.{what}", given, rule, way_out)

    def sentences(self, field: str) -> Iterator[str]:
        """For whoever started the job."""
        yield from self.by_kind(field).values()

    def by_kind(self, field: str) -> dict[str, str]:
        """The same, by what it is of."""
        said = {}
        if self.silent:
            rows = f"{self.silent} of {self.rows} rows are null or empty"
            said["silent"] = f"{field}: {rows} and were passed over (the first: {self.first_silent})."
        if self.unmet:
            said["unmet"] = f"{field}: {self.unmet} of {self.rows} rows do not meet {field}.where and were left out."
        for name in sorted(self.left_out.keys() & self.present):
            rows = f"{self.left_out[name]} of {self.rows} rows have no column {name}"
            said[f"left out {name}"] = f"{field}: {rows}, which {field} names in where or template: it is null there."
        if self.unanswered:
            rows = f"{self.unanswered} of {self.rows} questions have no answer"
            said["unanswered"] = f"{field}: {rows} and were left out; {field}.noAnswer would be learned for them."
        if self.duplicates:
            rows = f"{self.duplicates} of {self.rows} rows say the same as an earlier one"
            said["duplicates"] = f"{field}: {rows} and were left out, as {field}.clean.duplicates: exact says."
        if self.unfit:
            rows = f"{self.unfit} of {self.rows} rows are shorter or longer than {field}.clean allows"
            said["unfit"] = f"{field}: {rows} and were left out."
        if self.bad:
            rows = f"{self.bad} of {self.rows} rows cannot be read or trained on"
            said["bad"] = f"{field}: {rows} and were left out, as badRows: skip says (the first: {self.first_bad})."
        if self.strays:
            names = in_words([row.place.removesuffix(" row 1") for row in self.strays])
            verbs = ("holds", "was") if len(self.strays) == 1 else ("hold", "were")
            said["strays"] = f"{field}: {names} {verbs[0]} none of the columns that are read and {verbs[1]} passed over."
        if self.halves:
            rows = "row holds" if self.halves == 1 else "rows hold"
            said["halves"] = f"{field}: {self.halves} {rows} halves of surrogate pairs; each half became U+FFFD."
        if self.missing:
            marks = ", ".join(sorted(self.missing))
            said["missing"] = (
                f"{field}: {self.missing.total()} rows of CSV files have only {marks} in a column, which is trained on as that text; leave "
                "fields empty that have no value."
            )
        if self.ends_early:
            said["ends early"] = f"{field}: split {self.ends_early} ends after the last of {self.found} rows."
        if self.empty_files:
            said["empty"] = f"{field}: {self.empty_files} {'file is' if self.empty_files == 1 else 'files are'} empty."
        return said
