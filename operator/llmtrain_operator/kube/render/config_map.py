"""ConfigMap with the TrainerConfig of one attempt."""

from __future__ import annotations

from typing import Any

from llmtrain_operator.kube import names
from llmtrain_trainer.config import TrainerConfig

FILE = "trainer.json"

SECRET = "trainer.secret"
"""Key of the rendezvous secret of an attempt. It is random at each rendering, so it is ignored when two ConfigMaps are compared."""


def config_map(config: TrainerConfig, secret: str) -> dict[str, Any]:
    """The ConfigMap. It is immutable, because the config of an attempt never changes and the kubelets then need not watch it."""
    job = config.job
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": names.gang(job.name, job.attempt), "labels": dict(names.attempt_labels(job.name, job.attempt))},
        "immutable": True,
        "data": {FILE: config.model_dump_json(by_alias=True, exclude_none=True), SECRET: secret},
    }
