"""A person's way to a cluster, as kubectl takes it."""

from __future__ import annotations

import base64
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml

from llmtrain_operator.access.credential_plugin import PluginError
from llmtrain_operator.access.kubeconfig import KubeconfigError, read_login
from llmtrain_operator.access.login_session import open_session
from llmtrain_operator.kube.api.client import ApiError, Client


def config(user: dict[str, Any] | None = None, **cluster: Any) -> dict[str, Any]:
    return {
        "current-context": "work",
        "contexts": [
            {"name": "work", "context": {"cluster": "c", "user": "u", "namespace": "team"}},
            {"name": "home", "context": {"cluster": "c", "user": "u"}},
        ],
        "clusters": [{"name": "c", "cluster": {"server": "https://10.0.0.1:6443/"} | cluster}],
        "users": [{"name": "u", "user": user or {"token": "t"}}],
    }


def write(path: Path, content: dict[str, Any]) -> str:
    path.write_text(yaml.safe_dump(content))
    return str(path)


def test_the_context_says_where_and_in_which_namespace(tmp_path: Path) -> None:
    file = write(tmp_path / "config", config())
    current, other = read_login(file, None, {}), read_login(None, "home", {"KUBECONFIG": file})
    assert (current.server, current.context, current.namespace) == ("https://10.0.0.1:6443", "work", "team")
    assert (other.context, other.namespace, other.info.token) == ("home", "default", "t")


def test_of_several_files_the_first_to_name_something_wins_and_one_that_is_not_there_is_passed_over(tmp_path: Path) -> None:
    first = write(tmp_path / "first", {"users": [{"name": "u", "user": {"token": "first"}}]})
    second = write(tmp_path / "second", config({"token": "second"}))
    login = read_login(None, None, {"KUBECONFIG": os.pathsep.join([str(tmp_path / "absent"), first, second])})
    assert login.info.token == "first" and login.context == "work"


def test_paths_in_a_kubeconfig_are_taken_from_its_own_directory(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from a file\n")
    file = write(tmp_path / "config", config({"tokenFile": "token", "client-certificate": "me.crt", "client-key": "/keys/me.key"}))
    info = read_login(file, None, {}).info
    assert (info.token, info.certificate_path, info.private_key_path) == ("from a file", str(tmp_path / "me.crt"), "/keys/me.key")


def test_data_in_the_kubeconfig_wins_over_a_path(tmp_path: Path) -> None:
    data = base64.b64encode(b"-----BEGIN CERTIFICATE-----").decode()
    cluster = {"certificate-authority-data": data, "certificate-authority": "ca.crt"}
    info = read_login(write(tmp_path / "config", config(**cluster)), None, {}).info
    assert (info.ca_data, info.ca_path) == (data, None)


def test_whom_to_act_as_is_told_to_the_server(tmp_path: Path) -> None:
    file = write(tmp_path / "config", config({"token": "t", "as": "ann", "as-groups": ["a", "b"]}))
    assert read_login(file, None, {}).headers == (("Impersonate-User", "ann"), ("Impersonate-Group", "a"), ("Impersonate-Group", "b"))


@pytest.mark.parametrize(
    ("content", "context", "says"),
    [
        (config(), "hom", "The kubeconfig has no context 'hom'. Did you mean home?"),
        ({**config(), "users": []}, None, "The kubeconfig has no user 'u'. It has: none."),
        ({**config(), "current-context": ""}, None, "names no current context. Choose one with --context"),
        (config(server=""), None, "Cluster c of context work has no server in the kubeconfig."),
        (config(**{"tls-server-name": "x"}), None, "tls-server-name is not supported"),
    ],
)
def test_a_kubeconfig_that_leads_nowhere_says_so(tmp_path: Path, content: dict[str, Any], context: str | None, says: str) -> None:
    with pytest.raises(KubeconfigError, match=says.replace("(", r"\(").replace("?", r"\?")):
        read_login(write(tmp_path / "config", content), context, {})


def test_a_file_that_is_no_kubeconfig_is_named(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("{")
    with pytest.raises(KubeconfigError, match=f"{tmp_path}/config is no kubeconfig"):
        read_login(str(tmp_path / "config"), None, {})


# ---- programs that give credentials ----------------------------------------------------------------------------------------


def program(directory: Path, body: str) -> Path:
    path = directory / "get-token"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def answer(**status: str) -> str:
    return json.dumps({"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status})


def plugin(**more: Any) -> dict[str, Any]:
    return {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "./get-token", "interactiveMode": "Never"} | more}


def test_a_token_comes_from_a_program_which_is_told_what_the_kubeconfig_says(tmp_path: Path) -> None:
    program(tmp_path, f"""echo "$0 $* $REGION $KUBERNETES_EXEC_INFO" > {tmp_path}/told; echo '{answer(token="fresh")}'""")
    section = plugin(args=["--cluster", "prod"], env=[{"name": "REGION", "value": "eu"}], provideClusterInfo=True)
    login = read_login(write(tmp_path / "config", config(section)), None, dict(os.environ))
    assert login.info.as_http_headers() == {"Authorization": "Bearer fresh"}
    told = (tmp_path / "told").read_text()
    assert "--cluster prod eu" in told and json.loads(told.partition("eu ")[2])["spec"]["cluster"]["server"] == "https://10.0.0.1:6443/"


def test_a_program_may_give_a_client_certificate(tmp_path: Path) -> None:
    program(tmp_path, f"echo '{answer(clientCertificateData='CERT', clientKeyData='KEY')}'")
    info = read_login(write(tmp_path / "config", config(plugin())), None, dict(os.environ)).info
    assert (info.certificate_data, info.private_key_data, info.token) == ("CERT", "KEY", None)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("echo 'session expired' >&2; exit 3", "gave no credentials: it ended with code 3. session expired"),
        ("echo hello", "printed no ExecCredential"),
        ("""echo '{"status": {}}'""", "without a token and without a client certificate"),
    ],
)
def test_a_program_that_gives_nothing_is_told_with_its_last_words(tmp_path: Path, body: str, says: str) -> None:
    program(tmp_path, body)
    with pytest.raises(PluginError, match=says):
        read_login(write(tmp_path / "config", config(plugin())), None, dict(os.environ))


def test_a_program_that_is_not_there_is_told_with_the_hint_of_the_kubeconfig(tmp_path: Path) -> None:
    section = plugin(command="no-such-program", installHint="Install it from\n  the vendor.")
    with pytest.raises(PluginError, match=r"no-such-program, which is not installed\. Install it from the vendor\."):
        read_login(write(tmp_path / "config", config(section)), None, dict(os.environ))


async def test_a_token_that_ran_out_is_renewed_and_the_request_sent_again(tmp_path: Path, server: Any) -> None:
    program(
        tmp_path,
        f"""n=$(cat {tmp_path}/n 2>/dev/null || echo 0); n=$((n+1)); echo $n > {tmp_path}/n
        echo '{{"status": {{"token": "token-'$n'"}}}}'""",
    )
    server.answer = lambda sent: (
        (200, {"ok": True}) if sent.headers["Authorization"] == "Bearer token-2" else (401, {"message": "Unauthorized"})
    )
    login = read_login(write(tmp_path / "config", config(plugin(), server=server.url)), None, dict(os.environ))
    async with open_session(login, print) as http:
        client = Client(http, login.server)
        assert await client.get("/api") == {"ok": True} and await client.get("/api") == {"ok": True}
    assert [sent.headers["Authorization"][-1] for sent in server.sent] == ["1", "2", "2"]


async def test_a_server_that_refuses_every_token_is_asked_twice_and_no_more(tmp_path: Path, server: Any) -> None:
    program(tmp_path, f"echo '{answer(token='t')}'")
    server.answer = lambda _: (401, {"message": "Unauthorized"})
    login = read_login(write(tmp_path / "config", config(plugin(), server=server.url)), None, dict(os.environ))
    async with open_session(login, print) as http:
        with pytest.raises(ApiError, match="Unauthorized"):
            await Client(http, login.server).get("/api")
    assert len(server.sent) == 2


async def test_long_lines_of_an_endless_answer_come_whole(server: Any, client: Client) -> None:
    server.answer = lambda _: (200, b"short\n" + b"x" * 300_000 + b"\nlast")
    assert [len(line) async for line in client.lines("/log")] == [5, 300_000, 4]
