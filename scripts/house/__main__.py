"""`python -m scripts.house`: print the figures. `--write` draws docs/architecture.svg; `--check` compares it, the goals and the words."""

from __future__ import annotations

import sys
from pathlib import Path

from scripts.house.figures import figures
from scripts.house.picture import picture
from scripts.house.words import ruled_out

ROOT = Path(__file__).parents[2]
PICTURE = Path("docs/architecture.svg")


def main(arguments: list[str]) -> int:
    """0 where the picture is in step, and with --check where every goal is met."""
    if "--write" in arguments:
        (ROOT / PICTURE).write_text(picture(ROOT))
        return 0
    rows = figures(Path(arguments[0]) if arguments and not arguments[0].startswith("-") else ROOT)
    if "--check" not in arguments:
        for row in rows:
            print(f"{row.name:<38} {row.value}" + (f"   (goal: {row.goal}{'' if row.met else '; not met'})" if row.goal else ""))
        print(*ruled_out(ROOT), sep="\n")
        return 0
    missed = [f"{row.name}: {row.value}, and the goal is {row.goal}" for row in rows if row.held and not row.met]
    missed += ruled_out(ROOT)
    if (ROOT / PICTURE).read_text() != picture(ROOT):
        missed.append(f"{PICTURE} is out of step: run make generate")
    for line in missed:
        print(line)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
