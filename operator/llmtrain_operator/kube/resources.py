"""The kinds that llmtrain adds to a cluster, as the API server serves them."""

from __future__ import annotations

from dataclasses import dataclass

from llmtrain_operator.api.job import GROUP, KIND, PLURAL, VERSION


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """One kind. Its objects may be as large as the API server's limit."""

    kind: str
    plural: str
    group: str = GROUP
    version: str = VERSION
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}"


JOBS = Resource(kind=KIND, plural=PLURAL)

RESOURCES = (JOBS,)
