"""Tables that benchmarks write into pages under docs/."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from llmtrain_trainer.convert.launch import load_script

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def tables() -> ModuleType:
    return load_script(BENCHMARKS / "page_tables.py")


def test_a_table_takes_the_place_of_the_old_one_between_its_marks(tables: ModuleType, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- table: a -->\n| old |\n<!-- end -->\nbetween\n<!-- table: b -->\n<!-- end -->\nafter\n")
    tables.fill(page, "a", ("x", "y"), [("1", "2")])
    table = "| x | y |\n| --- | --- |\n| 1 | 2 |\n"
    assert page.read_text() == f"before\n<!-- table: a -->\n{table}<!-- end -->\nbetween\n<!-- table: b -->\n<!-- end -->\nafter\n"


def test_a_page_without_the_marks_is_refused(tables: ModuleType, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("nothing\n")
    with pytest.raises(ValueError, match=r"page\.md has 0 places for the table a"):
        tables.fill(page, "a", ("x",), [])


def test_a_mesh_has_a_column_where_enough_variants_ran_on_it_and_stages_of_zero_share_a_cell() -> None:
    page = load_script(BENCHMARKS / "parity_page.py")
    rows = [{"variant": f"v{number}", "mesh": "dp2-zero1", "max_abs_diff": 1e-6} for number in range(page.COLUMN)]
    rows += [{"variant": "v0", "mesh": mesh, "max_abs_diff": 0.0} for mesh in ("dp2-zero3-offload", "pp2-zero1")]
    head, lines = page.layouts(rows)
    assert head == ("variant", "dp2", "other meshes")
    assert lines[0] == ("v0", "1 1.0e-06, 3-offload 0", "pp2 1 0") and lines[1] == ("v1", "1 1.0e-06", "")
