"""Process 1 of a cluster's namespaces: reaps orphans, and ends when its standard input does. The keeper starts it with `unshare`.

When process 1 of a namespace ends the kernel kills every other process of it, so pods, shims and daemons cannot outlive the cluster.
"""

from __future__ import annotations

import os
import signal


def reap(*_: object) -> None:
    """Collect every child that has ended; containerd waits for its shims to vanish."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def main() -> None:
    """Say that the namespaces exist, then live as long as the keeper does."""
    signal.signal(signal.SIGCHLD, reap)
    os.write(1, b"in\n")
    while os.read(0, 1):
        pass


if __name__ == "__main__":
    main()
