"""The test cluster by hand: `python -m tests.cluster build | images | up | status | env | down`, run in the root of the repository."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from tests.cluster import binaries, example
from tests.cluster.addresses import S3_PORT, Site
from tests.cluster.binaries import CannotRunError
from tests.cluster.cluster import Cluster
from tests.cluster.image import build as build_images
from tests.cluster.release import Release
from tests.servers.s3_server import ACCESS, REGION, SECRET, build_versitygw


def main() -> int:
    """Do what the command line says; 0 when it worked."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster", description=__doc__)
    parser.add_argument("verb", choices=list(VERBS))
    parser.add_argument("--index", type=int, default=0, help="number of the cluster, when several run side by side")
    arguments = parser.parse_args()
    site = Site(arguments.index)
    try:
        return int(VERBS[arguments.verb](site) or 0)
    except (CannotRunError, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 1


def build(site: Site) -> None:
    """Build every program; nothing to do where all are in the cache."""
    binaries.ensure()
    build_versitygw()


def images(site: Site) -> None:
    """Build both images and publish them to the registry of every test cluster; seconds where only our own code changed."""
    made = build_images.ensure()
    print(made.operator, made.trainer, sep="\n")


def up(site: Site) -> None:
    """Start the cluster, install llmtrain in it, and leave it running."""
    build(site)
    made = build_images.ensure()
    start = time.monotonic()
    cluster = Cluster.up(site.index, stay=True)
    Release(cluster).install(image=f"{site.registry}/{made.operator}", trainerImage=f"{site.registry}/{made.trainer}")
    example.prepare(cluster)
    print(f"# Kubernetes with two nodes, a registry, an S3 server and llmtrain runs after {time.monotonic() - start:.0f} s. In a shell:")
    env(site)
    job = example.JOB["metadata"]["name"]
    print(f"kubectl apply -f {example.EXAMPLE}\nkubectl get ltj -w\nllmtrain watch {job}           # also kubectl llmtrain watch {job}")
    print("# `.venv/bin/python -m tests.cluster env` prints these again. make cluster-down ends it; nothing of it stays.")


def env(site: Site) -> None:
    """Print the variables that point kubectl, helm and the tests to the cluster."""
    print(f"export KUBECONFIG={site.kubeconfig}")
    print(f"export LLMTRAIN_REGISTRY={site.registry}")
    print(f"export AWS_ENDPOINT_URL=http://{site.gateway}:{S3_PORT} AWS_REGION={REGION}")
    print(f"export AWS_ACCESS_KEY_ID={ACCESS} AWS_SECRET_ACCESS_KEY={SECRET}")
    commands = Path(sys.executable).parent  # llmtrain and kubectl-llmtrain; last, so that the person's own python stays the first
    print(f"export PATH={binaries.program('kubectl').parent}:{binaries.program('helm').parent}:$PATH:{commands}")


def status(site: Site) -> int:
    """Print every component and whether it lives; 1 when the cluster is not up."""
    if not site.kubeconfig.exists():
        print(f"cluster {site.index} is not up")
        return 1
    cluster = Cluster.at(site)
    for name, lives in cluster.alive().items():
        print(f"{name:30}{'runs' if lives else 'ended'}")
    print(cluster.kubectl("get", "nodes", "-o", "wide", check=False))
    return 0


def down(site: Site) -> None:
    """End the cluster and clear up, also after one that was killed."""
    Cluster.at(site).down()


VERBS = {"build": build, "images": images, "up": up, "status": status, "env": env, "down": down}

if __name__ == "__main__":
    sys.exit(main())
