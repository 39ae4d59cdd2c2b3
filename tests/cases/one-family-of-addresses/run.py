"""A run of two nodes in a network of its own, whose loopback has IPv4 or IPv6 alone."""

import shutil
import subprocess
import sys
from pathlib import Path

ALONE = {
    "ipv6": "ip link set lo up && ip addr del 127.0.0.1/8 dev lo",
    "ipv4": "sysctl -qw net.ipv6.conf.all.disable_ipv6=1 && ip link set lo up",
}
family = sys.argv[1]
if subprocess.run(["unshare", "--net", "sh", "-c", ALONE[family]], check=False).returncode:
    print("Training is complete: not tried, no network of its own can be made here.")
    sys.exit()
llmtrain = shutil.which("llmtrain", path=str(Path(sys.executable).parent))
command = f"{ALONE[family]} && exec {llmtrain} run -f job.yaml --plain --workdir {family} --nodes 2"
sys.exit(subprocess.run(["unshare", "--net", "sh", "-c", command], check=False).returncode)
