"""While a local run of two nodes trains: whoever reaches the rendezvous port, as another user where that is possible, can change nothing.

Starts the run, finds the port in the agents' command lines, attacks it with torch's own client and by hand, and hands on the exit code.
"""

import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

LLMTRAIN = str(Path(sys.executable).with_name("llmtrain"))
STRANGER = """
import json, os
from datetime import timedelta
from torch._C._distributed_c10d import PrefixStore, TCPStore
print("ready", flush=True)
port = int(input())
if os.getuid() == 0:
    os.setgid(65534); os.setuid(65534)
try:
    store = TCPStore("127.0.0.1", port, is_master=False, timeout=timedelta(seconds=5), wait_for_workers=False)
    verdict = json.dumps({"exitCode": 2, "reason": "BadConfig", "message": "set by a stranger"})
    PrefixStore("gang/default/open-rendezvous-store/1", store).set("verdict", verdict)
    print("the store took it")
except Exception as error:
    print("turned away:", type(error).__name__)
"""


def port_of(run: subprocess.Popen) -> int:
    """Of the rendezvous, as soon as an agent listens there."""
    until = time.monotonic() + 100
    while time.monotonic() < until and run.poll() is None:
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                said = path.read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            found = re.search(r"--rendezvous 127\.0\.0\.1:(\d+)", said)
            if found and str(Path.cwd()) in said:
                try:
                    socket.create_connection(("127.0.0.1", int(found[1])), timeout=1).close()
                    return int(found[1])
                except OSError:
                    pass
        time.sleep(0.2)
    raise AssertionError("no agent listens")


# The stranger has torch at hand before the run begins, so that it comes while ranks still start, however slow the machine is.
environment = {**os.environ, "HOME": "/"}
command = [sys.executable, "-c", STRANGER]
stranger = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
stranger.stdout.readline()
run = subprocess.Popen([LLMTRAIN, "run", "-f", "job.yaml", "--nodes", "2", "--plain", "--workdir", "w"])
port = port_of(run)
stranger.stdin.write(f"{port}\n")
stranger.stdin.flush()
crowd = [socket.create_connection(("127.0.0.1", port), timeout=5) for _ in range(50)]
for one in crowd:
    one.sendall(b"\0" * 200)
said, _ = stranger.communicate(timeout=100)
print(said)
code = run.wait(200)
assert "turned away" in said, said
sys.exit(code)
