"""The directory of a local run: one run directory per node, as each pod has one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmtrain_trainer.config import TrainerConfig, Verdict


@dataclass(frozen=True, slots=True)
class Workdir:
    """<root>/node-<i>/ is the run directory of node i; <root>/report/ is written at the end."""

    root: Path

    def node(self, index: int) -> Path:
        """Run directory of a node."""
        return self.root / f"node-{index}"

    def nodes(self) -> list[Path]:
        """The existing run directories, by node."""
        found = [path for path in self.root.glob("node-*") if path.name.removeprefix("node-").isdigit()]
        return sorted(found, key=lambda path: int(path.name.removeprefix("node-")))

    @property
    def report(self) -> Path:
        return self.root / "report"

    def agent_log(self, index: int) -> Path:
        """Output of the agent of a node."""
        return self.node(index) / "logs" / "agent.log"

    def verdict(self, index: int) -> Verdict | None:
        """The verdict of the agent of a node, if it left one."""
        path = self.node(index) / "termination.json"
        return Verdict.model_validate_json(path.read_text()) if path.exists() else None

    def write(self, config: TrainerConfig, *, fresh: bool) -> None:
        """Write config.json for every node. With `fresh`, move files of an earlier run to earlier-<n>/ first, so that curves do not mix."""
        if fresh:
            self._put_aside()
        for index in range(config.mesh.nodes):
            node = self.node(index)
            node.mkdir(parents=True, exist_ok=True)
            for stale in ("termination.json", "stop"):
                (node / stale).unlink(missing_ok=True)
            (node / "config.json").write_text(config.model_dump_json(by_alias=True, indent=2))

    def _put_aside(self) -> None:
        earlier = self.nodes()
        if not earlier:
            return
        taken = [
            int(path.name.removeprefix("earlier-")) for path in self.root.glob("earlier-*") if path.name.removeprefix("earlier-").isdigit()
        ]
        aside = self.root / f"earlier-{max(taken, default=0) + 1}"
        aside.mkdir()
        for path in earlier:
            path.rename(aside / path.name)


@dataclass(slots=True)
class Tail:
    """Reads each row of a growing .jsonl file once."""

    path: Path
    position: int = 0

    def rows(self) -> Iterator[dict[str, Any]]:
        """Rows written since the last call; an incomplete last line is left for the next call."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self.position)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self.position += len(line)
                with suppress(ValueError):  # part of a line from a writer that died
                    yield json.loads(line)
