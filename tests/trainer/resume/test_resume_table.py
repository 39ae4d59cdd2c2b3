"""docs/operations/resume.md against the code: each row of its table, tried, has the consequence that the row promises."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from changes import Table
from resuming import pretrained

from llmtrain_trainer.resume.rules import RULES

PAGE = Path(__file__).parents[3] / "docs" / "operations" / "resume.md"


def _rows() -> dict[str, str]:
    """First cell -> second cell."""
    table = PAGE.read_text().split("| what changed | what follows |")[1].split("\n\n")[0]
    return dict(re.findall(r"^\| (.+?) \| (.+?) \|$", table, re.MULTILINE))


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    return Table(tmp_path_factory.mktemp("table"))


@pytest.mark.parametrize("row", _rows(), ids=lambda row: row.replace("`", "")[:40])
def test_each_row_of_the_page_does_what_it_says(table: Table, row: str) -> None:
    promised = _rows()[row].replace(",", ";").split(";")[0].split()[0]
    for before, now, step in table.tried(row):
        if "changing" in str(before):
            pretrained(table.root / "changing", 1)
        manifest = table.save(table.config(**before), step=step)
        if "changing" in str(before):
            pretrained(table.root / "changing", 2)
        config = table.config(**now)
        found = table.go_on(manifest, config)
        said = "refused" if found.refused else "notice" if found.told else "resumes"
        assert said == promised, f"{now}: {found.refused or found.told}"
        assert len(set(found.told)) == len(found.told) and " no sequence is skipped" not in " ".join(found.told[1:])


def test_each_field_with_a_rule_stands_in_a_row_of_its_kind() -> None:
    promised = {"exactly": "resumes exactly", "told": "notice", "data": "notice", "refused": "refused"}
    for rule in RULES:
        section = rule.field if not rule.field.startswith("training.optimizer") else "training.optimizer"
        rows = [follows for row, follows in _rows().items() if f"`{section}`" in row]
        if rule.kind != "exactly" or (rule.field.startswith("training.") and rule.field not in ("training.maxSteps", "training.epochs")):
            assert any(follows.startswith(promised[rule.kind]) or rule.field == "training.schedule" for follows in rows), rule.field
