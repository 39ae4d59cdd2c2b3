"""Refusals of a manifest's settings for its pods. They do not depend on the layout.

Variables, labels and annotations are allow-lists or deny-lists because some of them reach beyond the job: credentials, the wiring of the
ranks, other controllers, the node.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from llmtrain_operator.api.job import LLMTrainJob
from llmtrain_operator.api.job.kubernetes import SUBDOMAIN
from llmtrain_operator.manifest.problem import Problem
from llmtrain_operator.manifest.quantity import quantity
from llmtrain_operator.manifest.suggestions import shown
from llmtrain_operator.manifest.uris import uris

NETWORK = ("NCCL_", "GLOO_", "UCX_", "UCC_", "FI_", "RDMAV_", "IBV_", "MLX4_", "MLX5_", "SHARP_", "RCCL_", "TORCH_GLOO_")
"""Prefixes of the variables of communication libraries."""

TUNING = (
    "TORCH_NCCL_",
    "TORCH_DISTRIBUTED_",
    "TORCH_SHOW_",
    "TORCHINDUCTOR_",
    "OMP_",
    "KMP_",
    "MKL_",
    "OPENBLAS_",
    "MALLOC_",
    "HF_HUB_",
    "HF_DATASETS_",
)
TUNING_NAMES = (
    "CUDA_DEVICE_MAX_CONNECTIONS",
    "CUDA_LAUNCH_BLOCKING",
    "CUDA_MODULE_LOADING",
    "CUBLAS_WORKSPACE_CONFIG",
    "HSA_FORCE_FINE_GRAIN_PCIE",
    "NVIDIA_TF32_OVERRIDE",
    "PYTORCH_ALLOC_CONF",
    "PYTORCH_CUDA_ALLOC_CONF",
    "TOKENIZERS_PARALLELISM",
    "TORCH_CPP_LOG_LEVEL",
    "TORCH_LOGS",
)
"""Variables that tune libraries in a process, by name; TUNING has prefixes of others."""

NEVER = re.compile(r"TOKEN|SECRET|PASSWORD|CREDENTIAL|_KEY$|_HOME$|_CACHE|_ENDPOINT|_PATH$|MODULE_DIR|TORCHINDUCTOR_.*(CMD|PREFIX)")
"""Exceptions that are always refused: credentials, the agent's directories, another hub, paths from which libraries are loaded."""

MARKED = ("llmtrain.io", "kubernetes.io", "k8s.io", "kueue.x-k8s.io", "volcano.sh", "iam.amazonaws.com")
"""Domains of labels and annotations that Kubernetes, queues, this operator or node credentials react to, with their subdomains."""

UNMARKED = ("cluster-autoscaler.kubernetes.io/safe-to-evict",)
"""Keys below those domains that a job may set."""


def problems_of_pods(job: LLMTrainJob) -> tuple[Problem, ...]:
    """Every problem with the manifest's settings for its pods."""
    return (*_claims(job), *_variables(job), *_marks(job), *_devices(job), *_hugepages(job), *_cpu(job))


def for_the_network(variable: str) -> bool:
    """Whether a variable configures the network of the pods, which no other machine has. Variables for debug logs are useful everywhere."""
    return variable.startswith(NETWORK) and "DEBUG" not in variable and "LOG" not in variable


def _claims(job: LLMTrainJob) -> Iterator[Problem]:
    for place in uris(job.spec):
        if place.claim is not None and (len(place.claim) > 253 or not re.fullmatch(SUBDOMAIN, place.claim)):
            rule = f"{place.claim} is not a valid name of a volume claim: names have lower-case letters, digits, dashes and dots"
            yield Problem(place.field, place.uri, rule, "Write pvc://CLAIM/path with a name that `kubectl get pvc` shows")


def _variables(job: LLMTrainJob) -> Iterator[Problem]:
    for name, value in job.spec.scheduling.env.items():
        field = f"spec.scheduling.env.{name}"
        if not (name.startswith((*NETWORK, *TUNING)) or name in TUNING_NAMES) or NEVER.search(name):
            begins = ", ".join(f"{each}*" for each in (*NETWORK[:5], *TUNING[:2]))
            rule = f"a job may only set variables of its network and of libraries: {begins} (docs/operations/install.md lists them all)"
            way_out = "Leave it out: credentials come from checkpoint.secretName, other variables from the chart's trainerEnvironment"
            yield Problem(field, "set", rule, way_out)
        elif name.endswith(("_PLUGIN", "_PLUGINS")) and "/" in value:
            rule = "a plugin must be given by name, not by a path"
            yield Problem(field, value, rule, "Write its name; the image must have it in its library path")


def _marks(job: LLMTrainJob) -> Iterator[Problem]:
    for section, marks in (("labels", job.spec.scheduling.labels), ("annotations", job.spec.scheduling.annotations)):
        for key, value in marks.items():
            domain = key.rpartition("/")[0]
            owner = next((each for each in MARKED if domain == each or domain.endswith(f".{each}")), None)
            if owner is not None and key not in UNMARKED:
                rule = f"a job may not set {section} below {owner}"
                yield Problem(
                    f"spec.scheduling.{section}", shown({key: value}), rule, "Leave it out, or ask the administrator of the cluster"
                )


def _devices(job: LLMTrainJob) -> Iterator[Problem]:
    wanted = job.spec.resources
    for field, name in (("gpuResource", wanted.gpu_resource), *(("rdma", each) for each in wanted.rdma)):
        if "kubernetes.io/" in name or name.startswith("requests."):
            rule = "names below kubernetes.io and names that begin with requests. are reserved by Kubernetes"
            yield Problem(f"spec.resources.{field}", name, rule, "Write the name under which the device plugin offers it")
    if wanted.gpus_per_node and wanted.gpu_resource in wanted.rdma:
        way_out = "Leave it out of rdma: gpusPerNode requests it"
        yield Problem("spec.resources.rdma", shown(wanted.rdma), f"{wanted.gpu_resource} is the resource of the GPUs", way_out)


def _hugepages(job: LLMTrainJob) -> Iterator[Problem]:
    for page, amount in job.spec.resources.hugepages.items():
        if quantity(amount) % quantity(page):
            rule = f"it must be a multiple of the page size, {page}"
            yield Problem(f"spec.resources.hugepages.{page}", amount, rule, f"Write a multiple, such as {page}")


def _cpu(job: LLMTrainJob) -> Iterator[Problem]:
    cpu, limit = job.spec.resources.cpu, job.spec.resources.cpu_limit
    if cpu is not None and limit is not None and quantity(cpu) > quantity(limit):
        yield Problem("spec.resources.cpuLimit", limit, f"it must be at least cpu ({cpu})", f"Write {cpu} or more")
