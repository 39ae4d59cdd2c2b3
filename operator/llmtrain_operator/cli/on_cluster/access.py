"""From -n, --context and --kubeconfig to a cluster. `on_cluster` turns an async function of an `Access` into a command."""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmtrain_operator.cli.refusal import INTERRUPTED, ClusterError, UsageError

if TYPE_CHECKING:
    import aiohttp

    from llmtrain_operator.kube.api.client import Client, Object

INSTALL = (
    "helm install llmtrain charts/llmtrain --namespace llmtrain-system --create-namespace --set image=IMAGE --set trainerImage=IMAGE "
    "(docs/operations/install.md)"
)
MANAGER = "llmtrain-cli"
"""Field manager of the writes of these commands."""

JobArgument = Annotated[str, typer.Argument(help="Name of the job.", metavar="JOB")]
NamespaceOption = Annotated[str | None, typer.Option("--namespace", "-n", help="Namespace. Default: the context's.")]
ContextOption = Annotated[str | None, typer.Option("--context", help="Context of the kubeconfig. Default: the current one.")]
KubeconfigOption = Annotated[
    str | None, typer.Option("--kubeconfig", help="Kubeconfig file. Default: KUBECONFIG, then ~/.kube/config.", metavar="FILE")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """A cluster and a namespace."""

    client: Client
    http: aiohttp.ClientSession
    server: str
    namespace: str
    given: bool
    """Whether -n named the namespace."""

    @property
    def here(self) -> str:
        """The option that a suggested command needs for the same namespace; empty if it needs none."""
        return f" -n {self.namespace}" if self.given else ""

    def lenient(self) -> Client:
        """A client that treats objects that the person may not read as missing."""
        from llmtrain_operator.access.inspect_job import LenientClient

        return LenientClient(self.http, self.server)

    async def job(self, name: str) -> Object:
        """The job as the API server has it. Raises ClusterError, with the nearest name, if there is none."""
        from llmtrain_operator.access.jobs import job_path

        found = await self.client.get(job_path(self.namespace, name))
        if found is None:
            await self._missing(name)
        assert found is not None
        return found

    async def _missing(self, name: str) -> None:
        from difflib import get_close_matches

        from llmtrain_operator.access.jobs import list_jobs

        names = [job["metadata"]["name"] for job in await list_jobs(self.client, self.namespace)]
        nearest = get_close_matches(name, names, n=1)
        hint = (
            f"Did you mean {nearest[0]}?"
            if nearest
            else f"It has: {', '.join(names[:5])}."
            if names
            else "It has no jobs; use -n for another namespace."
        )
        raise ClusterError(f"There is no job {name} in namespace {self.namespace}. {hint}")


def on_cluster(command: Callable[..., Awaitable[int | None]]) -> Callable[..., None]:
    """The command with -n, --context and --kubeconfig added; its result is the exit code."""

    @functools.wraps(command)
    def run(*, namespace: str | None, context: str | None, kubeconfig: str | None, **given: Any) -> None:
        async def whole() -> int | None:
            async with access(namespace, context, kubeconfig) as found:
                return await command(found, **given)

        if given.get("job") is not None:
            checked_name("JOB", given["job"])
        try:
            code = asyncio.run(whole())
        except KeyboardInterrupt:
            code = INTERRUPTED
        if code:
            raise typer.Exit(code)

    signature = inspect.signature(command, eval_str=True)
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind)
        for name, kind in (("namespace", NamespaceOption), ("context", ContextOption), ("kubeconfig", KubeconfigOption))
    ]
    asked = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in list(signature.parameters.values())[1:]]
    parameters = [*asked, *added]
    run.__signature__ = inspect.Signature(parameters, return_annotation=None)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def checked_name(what: str, name: str, longest: int = 253) -> str:
    """The name, if it is valid as part of a path. Raises UsageError otherwise."""
    from llmtrain_operator.api.job.kubernetes import SUBDOMAIN
    from llmtrain_operator.manifest.suggestions import shown

    if len(name) > longest or not re.fullmatch(SUBDOMAIN, name):
        raise UsageError(
            f"{what} is {shown(name)}: it must be a name of lower-case letters, digits, dashes and dots. `llmtrain get` lists the jobs."
        )
    return name


@asynccontextmanager
async def access(namespace: str | None, context: str | None, kubeconfig: str | None) -> AsyncIterator[Access]:
    """An open connection to the cluster. Errors of the API server are raised as ClusterError with one sentence."""
    from llmtrain_operator.access.credential_plugin import PluginError
    from llmtrain_operator.access.kubeconfig import KubeconfigError, read_login
    from llmtrain_operator.access.login_session import open_session
    from llmtrain_operator.kube.api.client import ApiError, Client

    try:
        login = read_login(kubeconfig, context, os.environ)
        checked_name("The namespace", namespace if namespace is not None else login.namespace, 63)
        async with open_session(login, lambda text: typer.echo(f"warning: {text}", err=True)) as http:
            client = Client(http, login.server, manager=MANAGER)
            yield Access(
                client=client,
                http=http,
                server=login.server,
                namespace=login.namespace if namespace is None else namespace,
                given=namespace is not None,
            )
    except (KubeconfigError, PluginError) as error:
        raise UsageError(str(error)) from error
    except ApiError as error:
        raise refused(error, f"context {login.context} at {login.server}" if login.context else login.server) from error


def refused(error: Exception, where: str) -> ClusterError:
    """An ApiError as a ClusterError whose sentence says what to do."""
    from llmtrain_operator.cli.refusal import INVALID, UNREACHABLE
    from llmtrain_operator.kube.api.client import ApiError

    assert isinstance(error, ApiError)
    said = re.sub(r'^admission webhook "[^"]+" denied the request: ', "", error.message).rstrip(". ")
    unknown_kind = "could not find the requested resource" in said or said.startswith("404 page not found")
    silence = re.sub(r"^[A-Z]+ \S+: | ssl:\S+", "", said)  # without the request, and how aiohttp set up TLS
    sentences = {
        0: f"No cluster answers at {where}: {silence}. Check that it is up and that --context is right.",
        401: f"The cluster of {where} does not accept these credentials. Log in again, or choose another --context.",
        403: f"You are not allowed to do this: {said}. Ask for a role that allows it, or choose another namespace with -n.",
        409: f"The object was changed meanwhile: {said}. Try again.",
        429: f"The cluster of {where} is too busy: {said}. Try again.",
    }
    if error.code == 404 and unknown_kind:
        return ClusterError(f"The cluster of {where} does not know LLMTrainJob. Install the operator: {INSTALL}")
    return ClusterError(sentences.get(error.code, f"The cluster refuses the request: {said}."), UNREACHABLE if error.code == 0 else INVALID)
