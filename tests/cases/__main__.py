"""`python -m tests.cases [NAME ...]`: run all cases, or those whose names begin so, and print case, expected and got."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.cases.case import Case, cases, in_a_process, play


def main(names: list[str]) -> int:
    """0 when every case is as expected."""
    chosen = [case for case in cases() if not names or any(case.name.startswith(name) for name in names)]
    failed = sum(not _show(case) for case in chosen)
    print(f"{len(chosen) - failed} passed, {failed} failed")
    return 1 if failed or not chosen else 0


def _show(case: Case) -> bool:
    print(f"\n{case.name} ({case.tier}): {case.says}")
    with tempfile.TemporaryDirectory(prefix="case-") as place:
        for result in play(case, Path(place), in_a_process):
            print(f"  $ {(result.step.llmtrain and f'llmtrain {result.step.llmtrain}') or f'python {result.step.python}'}")
            print(f"    expected  {result.step.wants()}")
            print(f"    got       {'as expected' if not result.wrong else '; '.join(result.wrong)}", flush=True)
            if result.wrong:
                print("\n".join(f"    | {line}" for line in result.output.splitlines()[-25:]))
                return False
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
