"""The kinds that this operator works on."""

from __future__ import annotations

from llmtrain_operator.kube.jobs import controller as jobs
from llmtrain_operator.kube.kind import Kind

KINDS: tuple[Kind, ...] = (jobs.KIND,)
