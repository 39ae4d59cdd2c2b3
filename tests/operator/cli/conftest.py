"""A small API server in a thread, for what the commands send and print. What a real one answers is judged in tests/cluster."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
import yaml
from arrived import Request

from llmtrain_operator.cli.app import invoke

JOBS = "/apis/llmtrain.io/v1alpha1/namespaces/team/llmtrainjobs"
Answer = tuple[int, Any]


@dataclass
class Api:
    """Objects by path, answered as they are; a path that is not there is 404. `rule` may answer first."""

    objects: dict[str, Any] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    rule: Callable[[Request], Answer | None] = lambda _: None
    headers: dict[str, str] = field(default_factory=dict)
    url: str = ""

    def answer(self, request: Request) -> Answer:
        self.requests.append(request)
        if (said := self.rule(request)) is not None:
            return said
        found = self.objects.get(request.path)
        if request.method == "PATCH":
            found = self.objects[request.path] = merged(found or {"metadata": {"generation": 1}}, request.body)
        if request.method == "DELETE":
            self.objects.pop(request.path, None)
        if found is None:
            return 404, {"reason": "NotFound", "message": f"{request.path} not found"}
        return 200, found

    def add(self, name: str, **fields: Any) -> dict[str, Any]:
        """A job, and its place in the list of its namespace."""
        meta = {"name": name, "namespace": "team", "uid": f"uid-{name}", "generation": 1, "resourceVersion": "1"}
        job = {
            "apiVersion": "llmtrain.io/v1alpha1",
            "kind": "LLMTrainJob",
            "metadata": meta,
            "spec": {"resources": {"nodes": 2, "procsPerNode": 2}},
        } | fields
        self.objects[f"{JOBS}/{name}"] = job
        self.objects.setdefault(JOBS, {"items": []})["items"].append(job)
        return job

    def sent(self, method: str) -> list[Request]:
        return [request for request in self.requests if request.method == method]


def merged(old: Any, new: Any) -> Any:
    if not isinstance(old, dict) or not isinstance(new, dict):
        return new
    return {**old, **{name: merged(old.get(name), value) for name, value in new.items()}}


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    """The server, and a KUBECONFIG that leads to it."""
    made = Api(objects={JOBS: {"items": []}, "/api/v1/namespaces/team/pods": {"items": []}})

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do(self) -> None:
            url = urlsplit(self.path)
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            body = json.loads(raw) if raw else None
            code, said = made.answer(Request(self.command, url.path, dict(parse_qsl(url.query)), dict(self.headers), body))
            text = said if isinstance(said, bytes) else json.dumps(said).encode()
            self.send_response(code)
            for name, value in {"Content-Length": str(len(text)), **made.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_PATCH = do_DELETE = do_POST = do  # noqa: N815

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    made.url = f"http://127.0.0.1:{server.server_port}"
    config = {
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u", "namespace": "team"}}],
        "clusters": [{"name": "c", "cluster": {"server": made.url}}],
        "users": [{"name": "u", "user": {"token": "secret"}}],
    }
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    monkeypatch.setenv("KUBECONFIG", str(path))
    yield made
    server.shutdown()
    server.server_close()


@dataclass(frozen=True)
class Said:
    """What a command left behind."""

    code: int
    out: str
    err: str


@pytest.fixture
def llmtrain(capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """Runs a command line."""

    def run(*arguments: str) -> Said:
        code = invoke(arguments)
        captured = capsys.readouterr()
        return Said(code, captured.out, captured.err)

    return run
