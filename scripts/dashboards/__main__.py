"""`python -m scripts.dashboards`: write the dashboards of the chart; `--check` compares them. Run by make."""

from __future__ import annotations

import sys
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from scripts.dashboards import fleet, job, operator

FOLDER = Path(__file__).parents[2] / "charts" / "llmtrain" / "files" / "dashboards"
DASHBOARDS = {"job": job.dashboard, "fleet": fleet.dashboard, "operator": operator.dashboard}


def main(arguments: list[str]) -> int:
    """0 when every file is in step afterwards."""
    wanted = {
        FOLDER / f"{name}.json": JSONEncoder(sort_keys=True, indent=1).encode(made().build()) + "\n" for name, made in DASHBOARDS.items()
    }
    outdated = [path for path, text in wanted.items() if not path.exists() or path.read_text() != text]
    if "--check" in arguments:
        for path in outdated:
            print(f"{path.name} of the dashboards is out of step: run make generate")
        return 1 if outdated else 0
    FOLDER.mkdir(parents=True, exist_ok=True)
    for path in outdated:
        path.write_text(wanted[path])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
