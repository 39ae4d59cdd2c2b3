"""What examples/07-on-a-cluster.yaml names: a bucket, text in it, the Secret of the store.

Used by `make cluster` and test_training.py; the Secret by trained_job.py too.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import yaml
from tests.cluster.addresses import S3_PORT
from tests.cluster.cluster import Cluster
from tests.servers.s3_server import S3Server

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "07-on-a-cluster.yaml"
JOB = yaml.safe_load(EXAMPLE.read_text())
CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL", "AWS_REGION")


def store(cluster: Cluster, namespace: str, secret: str) -> S3Server:
    """The cluster's S3 server, with its credentials in a Secret of the namespace."""
    server = S3Server("versitygw", f"http://{cluster.site.gateway}:{S3_PORT}")
    environment = server.environment()
    literals = [f"--from-literal={name}={environment[name]}" for name in CREDENTIALS]
    cluster.kubectl("create", "secret", "generic", secret, "-n", namespace, *literals)
    return server


def prepare(cluster: Cluster, namespace: str = "default") -> S3Server:
    """Fill the cluster's S3 server, make the Secret in the namespace; the server. Raises RuntimeError where text cannot be written."""
    server = store(cluster, namespace, JOB["spec"]["checkpoint"]["secretName"])
    text = JOB["spec"]["dataset"][0]["source"]
    server.client().create_bucket(Bucket=text.split("/")[2])
    collect = [sys.executable, ROOT / "examples" / "collect_text.py", text, "--kind", "docstrings", "--most-bytes", "300000"]
    done = subprocess.run(collect, env={**os.environ, **server.environment()}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{text} cannot be written: {done.stderr.strip()}")
    return server
