"""The operator's process: `python -m llmtrain_operator`. It starts probes first, then the lease, then workers and watches.

It ends with exit code 0 on SIGTERM, after releasing the lease; with 1 if the lease was lost or a watch fails, since a new process is the
most reliable recovery. It has no state that a new process does not find in the cluster.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import socket
import sys
import uuid
from pathlib import Path

import kopf
import uvloop

from llmtrain_operator.kube.api.client import ApiError
from llmtrain_operator.kube.api.freshness import WatchLostError
from llmtrain_operator.kube.judging.shapes import EVERYWHERE
from llmtrain_operator.kube.process.lease import LeaseLostError
from llmtrain_operator.kube.process.operator_process import OperatorOptions, run
from llmtrain_operator.kube.render_settings import RenderSettings

log = logging.getLogger("llmtrain_operator")

DEEPEST = 25_000
"""Recursion limit. kopf walks all managed fields of an object recursively, and an API server accepts fields nested 10,000 deep."""


def main() -> int:
    """Read the command line and run until the end."""
    given = parser().parse_args()
    sys.setrecursionlimit(DEEPEST)
    kopf.configure(log_format=kopf.LogFormat.JSON if given.log == "json" else kopf.LogFormat.FULL)
    logging.getLogger("kopf").setLevel(logging.WARNING)  # it logs one line for every event
    logging.getLogger("kopf._core.reactor.running").setLevel(logging.ERROR)  # it warns that it does not handle signals
    options = OperatorOptions(
        namespaces=tuple(given.namespace),
        settings=RenderSettings(
            image=given.trainer_image,
            operator_namespace=given.operator_namespace,
            metrics_namespaces=tuple(given.metrics_namespace),
            domain=given.cluster_domain,
            environment=dict(given.trainer_env),
        ),
        lease_name=given.lease_name,
        sources=EVERYWHERE if given.source is None else tuple(each for each in given.source if each != "off"),
        identity=given.identity,
        host=given.host,
        port=given.port,
        webhook_certificates=given.webhook_certificates,
        webhook_port=given.webhook_port,
    )
    try:
        uvloop.run(_until_told(options))
    except (LeaseLostError, WatchLostError, kopf.LoginError, ApiError, OSError) as error:
        log.error("the operator ends: %s", error)
        return 1
    return 0


async def _until_told(options: OperatorOptions) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await run(options, stop)


def parser() -> argparse.ArgumentParser:
    """The parser of the command line; the chart sets some defaults through the environment."""
    made = argparse.ArgumentParser(prog="python -m llmtrain_operator", description="Run the operator of LLMTrainJob.")
    add, environment = made.add_argument, os.environ
    image = environment.get("LLMTRAIN_TRAINER_IMAGE")
    add("--namespace", action="append", default=[], help="watch only this namespace; may be repeated (default: all)")
    add("--trainer-image", default=image, required=not image, help="image of jobs that name none (default: LLMTRAIN_TRAINER_IMAGE)")
    add(
        "--operator-namespace",
        default=environment.get("POD_NAMESPACE", "llmtrain-system"),
        help="where the operator and its lease are (default: POD_NAMESPACE)",
    )
    add("--metrics-namespace", action="append", default=[], help="a namespace whose pods may read the trainers' /metrics; may be repeated")
    add("--cluster-domain", default="cluster.local", help="DNS domain of the cluster (default: cluster.local)")
    add(
        "--trainer-env",
        action="append",
        default=[],
        type=_pair,
        metavar="NAME=VALUE",
        help="a variable of every trainer, such as HF_ENDPOINT",
    )
    add("--lease-name", default="llmtrain-operator", help="name of the lease (default: llmtrain-operator)")
    add(
        "--source",
        action="append",
        default=None,
        metavar="PREFIX",
        help="read a model's config.json only below this prefix, such as hf://; may be repeated; off: read none (default: hf:// and s3://)",
    )
    add("--identity", default=f"{environment.get('POD_NAME') or socket.gethostname()}-{uuid.uuid4().hex[:8]}", help="name of this replica")
    add("--host", default="::", help="address of /healthz, /readyz, /metrics and the webhook (default: all IPv4 and IPv6 addresses)")
    add("--port", type=int, default=8080, help="port of /healthz, /readyz and /metrics; 0 takes a free one (default: 8080)")
    add("--webhook-certificates", type=Path, help="directory with tls.crt and tls.key of the webhook (default: no webhook)")
    add("--webhook-port", type=int, default=9443, help="port of the webhook; 0 takes a free one (default: 9443)")
    add("--log", choices=["json", "text"], default="json", help="form of the log (default: json)")
    return made


def _pair(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not (name and sign):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


if __name__ == "__main__":
    sys.exit(main())
