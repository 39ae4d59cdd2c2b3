"""What Kubernetes accepts as a name, a label, a resource, an image or a quantity.

The rules are those of the API server's own validation (apimachinery's util/validation) and, for images, the reference grammar of container
runtimes. A value that breaks them would be refused when pods are created, long after the job was admitted.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field, WithJsonSchema

_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"
QUALIFIED = r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"

Namespace = Annotated[str, Field(pattern=rf"^{_LABEL}$", max_length=63, examples=["team-a"])]
"""RFC 1123 label."""

QueueName = Annotated[str, Field(pattern=rf"^{SUBDOMAIN}$", max_length=63, examples=["team-queue"])]
"""A queue's name becomes the value of a label, which has 63 characters."""

LabelKey = Annotated[str, Field(pattern=rf"^({SUBDOMAIN}/)?{QUALIFIED}$", max_length=317, examples=["topology.kubernetes.io/zone"])]
"""A name of at most 63 letters, digits, dashes, underscores and dots; a domain and a slash may precede it."""

AnnotationKey = Annotated[
    str, Field(pattern=rf"^({SUBDOMAIN.replace('a-z', 'A-Za-z')}/)?{QUALIFIED}$", max_length=317, examples=["example.com/note"])
]
"""As the key of a label, but the domain may have capital letters."""

LabelValue = Annotated[str, Field(pattern=rf"^({QUALIFIED})?$", max_length=63, examples=["NVIDIA-H100-80GB-HBM3"])]
"""At most 63 letters, digits, dashes, underscores and dots, with a letter or digit at both ends; may be empty."""

AnnotationValue = Annotated[str, Field(max_length=8192)]

ResourceName = Annotated[str, Field(pattern=rf"^{SUBDOMAIN}/{QUALIFIED}$", max_length=253, examples=["nvidia.com/gpu", "rdma/hca"])]
"""domain/resource, the name under which a device plugin offers a resource."""

DeviceName = Annotated[str, Field(pattern=rf"^({SUBDOMAIN}/)?{QUALIFIED}$", max_length=253, examples=["rdma/hca"])]
"""A ResourceName, or one without a domain; manifest/rules/combinations.py refuses the latter and names the likely domain."""

_HOST = r"([A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?(\.[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?)*|\[[0-9a-fA-F:]+\])(:[0-9]+)?"
_PART = r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*"
Image = Annotated[
    str,
    Field(
        pattern=rf"^({_HOST}/)?{_PART}(/{_PART})*(:[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}})?(@[a-z0-9]+:[0-9a-f]{{32,128}})?$",
        min_length=1,
        max_length=512,
        examples=["registry.example/team/trainer:1.2"],
    ),
]
"""host/path:tag or host/path@digest; the path is lower case."""

_ABOVE_ZERO = r"([0-9]*[1-9][0-9]*(\.[0-9]+)?|[0-9]+\.[0-9]*[1-9][0-9]*)"
_CORES, _BYTES = rf"^{_ABOVE_ZERO}(m|k)?$", rf"^{_ABOVE_ZERO}(k|Ki|M|Mi|G|Gi|T|Ti)?$"


def _as_text(value: object) -> object:
    """An integer as text, because most manifests write `cpu: 16`."""
    return str(value) if type(value) is int else value


Cores = Annotated[
    str,
    Field(pattern=_CORES, max_length=32),
    BeforeValidator(_as_text),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "pattern": _CORES, "examples": ["500m", "1.5"]}]}),
]
"""A Kubernetes quantity of cores above zero, such as 500m, 1.5 or 16."""

Bytes = Annotated[
    str,
    Field(pattern=_BYTES, max_length=32),
    BeforeValidator(_as_text),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "pattern": _BYTES, "examples": ["512Mi", "64Gi"]}]}),
]
"""A Kubernetes quantity of bytes above zero, such as 512Mi or 64Gi. Kubernetes also accepts 500m, half a byte: always a mistake."""

PageSize = Annotated[str, Field(pattern=r"^[1-9][0-9]{0,3}(Ki|Mi|Gi)$", max_length=8, examples=["2Mi", "1Gi"])]

VariableName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=128, examples=["NCCL_SOCKET_IFNAME"])]
VariableValue = Annotated[str, Field(max_length=4096)]
