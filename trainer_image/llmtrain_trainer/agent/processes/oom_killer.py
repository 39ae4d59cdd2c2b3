"""How many processes of this container the OOM killer has ended."""

from __future__ import annotations

from pathlib import Path

_COUNTERS = (
    Path("/sys/fs/cgroup/memory.events"),  # cgroup v2
    Path("/sys/fs/cgroup/memory/memory.oom_control"),  # cgroup v1
)


def kills(counters: tuple[Path, ...] = _COUNTERS) -> int:
    """The cgroup's oom_kill count; 0 where none can be read."""
    for path in counters:
        try:
            lines = path.read_text().splitlines()
        except OSError:
            continue
        for line in lines:
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                return int(count)
    return 0
