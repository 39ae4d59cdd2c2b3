"""The figures of the structure find what they are there to find."""

from __future__ import annotations

from pathlib import Path

import pytest
from scripts.house.figures import figures
from scripts.house.picture import picture
from scripts.house.source import PACKAGES
from scripts.house.words import ruled_out

ROOT = Path(__file__).parents[2]
ONE = '''"""One."""

class One:
    """One."""

    def one(self) -> None:
        """One."""
'''


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Two packages of one module each, a test, and the glossary."""
    for place in PACKAGES.values():
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "__init__.py").write_text('"""A package."""\n')
        (tmp_path / place / "one.py").write_text(ONE)
    (tmp_path / "tests").mkdir()
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "glossary.md").write_text((ROOT / "docs" / "glossary.md").read_text())
    return tmp_path


def value(repository: Path, name: str) -> tuple[str, bool]:
    [found] = [figure for figure in figures(repository) if figure.name == name]
    return found.value, found.met


def test_a_class_name_that_stands_twice_is_named(repository: Path) -> None:
    assert value(repository, "public class names that stand twice") == ("One", False)


@pytest.mark.parametrize("text", ["from llmtrain_operator.b import two\n", 'two = "llmtrain_operator.b.two:Two"\n'])
def test_a_cycle_between_folders_is_named_also_where_a_string_closes_it(repository: Path, text: str) -> None:
    for folder in ("a", "b"):
        (repository / PACKAGES["llmtrain_operator"] / folder).mkdir()
        (repository / PACKAGES["llmtrain_operator"] / folder / "__init__.py").write_text('"""A folder."""\n')
    (repository / PACKAGES["llmtrain_operator"] / "a" / "one.py").write_text(text)
    (repository / PACKAGES["llmtrain_operator"] / "b" / "two.py").write_text("from llmtrain_operator.a.one import two\n")
    said, met = value(repository, "cycles between folders")
    assert not met
    assert "a > b > a" in said or "b > a > b" in said


def test_a_folder_with_too_many_modules_misses_the_goal(repository: Path) -> None:
    for number in range(17):
        (repository / PACKAGES["llmtrain_operator"] / f"m{number}.py").write_text('"""M."""\n')
    assert value(repository, "largest folders")[1] is False


def test_a_word_that_the_glossary_rules_out_is_found_with_its_line(repository: Path) -> None:
    (repository / "README.md").write_text("fine\nWeights are Shared Out over ranks, 5 tokens a second.\n")
    assert ruled_out(repository) == ["README.md:2: 'Shared Out' (glossary: shard)", "README.md:2: 'tokens a second' (glossary: per)"]


def test_the_picture_follows_a_new_folder(repository: Path) -> None:
    before = picture(repository)
    (repository / PACKAGES["llmtrain_trainer"] / "two.py").write_text('"""Two is new."""\n')
    assert "Two is new" in picture(repository) and "Two is new" not in before


UNDESCRIBED = "public functions over 6 lines without a docstring"


@pytest.mark.parametrize(("lines", "missed"), [(5, False), (6, True)])
def test_a_long_public_function_without_a_docstring_is_named(repository: Path, lines: int, missed: bool) -> None:
    body = "    pass\n" * lines
    text = f"def told() -> None:\n    '''It is told.'''\n{body}def _own() -> None:\n{body}class Two:\n    def one(self) -> None:\n    " + (
        body.replace("\n    ", "\n        ")
    )
    (repository / PACKAGES["llmtrain_operator"] / "two.py").write_text(text)
    assert value(repository, UNDESCRIBED) == (("llmtrain_operator.two.one" if missed else "none"), not missed)
