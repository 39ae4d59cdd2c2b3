"""From -n, --context and --kubeconfig to a cluster. Every command on a cluster is an async function of an `Access`, by `on_cluster`."""

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
"""Field manager of what people write by these commands."""

JobArgument = Annotated[str, typer.Argument(help="Name of the job.", metavar="JOB")]
NamespaceOption = Annotated[str | None, typer.Option("--namespace", "-n", help="Namespace. Default: that of the context.")]
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
    """Whether the namespace was asked for by -n."""

    @property
    def here(self) -> str:
        """What a command that is proposed next needs to reach the same namespace."""
        return f" -n {self.namespace}" if self.given else ""

    def lenient(self) -> Client:
        """A client for which what the person may not read is not there."""
        from llmtrain_operator.access.inspect_job import LenientClient

        return LenientClient(self.http, self.server)

    async def job(self, name: str) -> Object:
        """The job as the API server has it. Raises ClusterError with the nearest name where there is none, UsageError for no name."""
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
            f"Did you mean {nearest[0]}?" if nearest else f"It has: {', '.join(names[:5])}." if names else "It has none; -n names another."
        )
        raise ClusterError(f"There is no job {name} in namespace {self.namespace}. {hint}")


def on_cluster(command: Callable[..., Awaitable[int | None]]) -> Callable[..., None]:
    """The command with -n, --context and --kubeconfig added; what it returns is the exit code."""

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
    """A name that becomes part of a path. Raises UsageError for what is none."""
    from llmtrain_operator.api.job.kubernetes import SUBDOMAIN
    from llmtrain_operator.manifest.suggestions import shown

    if len(name) > longest or not re.fullmatch(SUBDOMAIN, name):
        raise UsageError(
            f"{what} is {shown(name)}: it must be a name of small letters, digits, dashes and dots. `llmtrain get` lists the jobs."
        )
    return name


@asynccontextmanager
async def access(namespace: str | None, context: str | None, kubeconfig: str | None) -> AsyncIterator[Access]:
    """An open way to the cluster. What goes wrong on it is raised as ClusterError, one sentence."""
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
    """An ApiError as one sentence that says what to do."""
    from llmtrain_operator.cli.refusal import INVALID, UNREACHABLE
    from llmtrain_operator.kube.api.client import ApiError

    assert isinstance(error, ApiError)
    said = re.sub(r'^admission webhook "[^"]+" denied the request: ', "", error.message).rstrip(". ")
    unknown_kind = "could not find the requested resource" in said or said.startswith("404 page not found")
    silence = re.sub(r"^[A-Z]+ \S+: | ssl:\S+", "", said)  # without the request, and how aiohttp set up TLS
    sentences = {
        0: f"No cluster answers at {where}: {silence}. Is it up, and is this the right --context?",
        401: f"The cluster of {where} does not accept these credentials. Log in again, or choose another --context.",
        403: f"You may not do that: {said}. Ask for a role that allows it, or choose another namespace with -n.",
        409: f"Somebody else changed it meanwhile: {said}. Try again.",
        429: f"The cluster of {where} is too busy: {said}. Try again.",
    }
    if error.code == 404 and unknown_kind:
        return ClusterError(f"The cluster of {where} does not know LLMTrainJob. The operator is installed by: {INSTALL}")
    return ClusterError(sentences.get(error.code, f"The cluster refuses it: {said}."), UNREACHABLE if error.code == 0 else INVALID)
