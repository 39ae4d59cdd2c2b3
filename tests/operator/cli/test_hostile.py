"""Commands among hostile names, objects, answers and files: no other object is reached, no terminal obeys, nothing ends in a traceback."""

from __future__ import annotations

import copy
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic.alias_generators import to_camel
from rich.console import Console
from tests.operator.cli.test_on_cluster import MANIFEST
from tests.operator.cli.test_watching import TRAINING

from llmtrain_operator.cli.app import invoke
from llmtrain_operator.cli.on_cluster.job_snapshot import Story, title
from llmtrain_operator.cli.on_cluster.job_table import table
from llmtrain_operator.cli.refusal import FAULT
from llmtrain_operator.kube.api.client import path_of
from llmtrain_operator.life.from_objects import agent_of
from llmtrain_operator.local.view import LiveView, PlainView
from llmtrain_operator.terminal import plain

pytestmark = pytest.mark.long

Run = Callable[..., Any]
UP = "../../../../../../api/v1/namespaces/kube-system/configmaps/coredns"
NO_NAMES = (UP, "..", ".", "a/b", "a?b=c", "a#b", "a%2Fb", "A", "", "a b", "-a", "a..b", "\x1b[31ma", "ä", "x" * 300)
COMMANDS = (
    ("get", "NAME"),
    ("get", "NAME", "-o", "json"),
    ("watch", "NAME"),
    ("logs", "NAME"),
    ("why", "NAME"),
    ("suspend", "NAME"),
    ("resume", "NAME"),
    ("delete", "NAME"),
    ("checkpoints", "list", "NAME"),
)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_what_is_no_name_reaches_nothing(words: tuple[str, ...], api: Any, llmtrain: Run) -> None:
    for name in NO_NAMES:
        for line in ([*words, "-n", "team"], [*("demo" if word == "NAME" else word for word in words), "-n", name]):
            said = llmtrain(*(word if word != "NAME" else name for word in line))
            assert said.code == 2 and "\x1b" not in said.err, (line, said.err)
    assert not api.requests


def test_a_manifest_of_another_namespace_reaches_nothing(api: Any, llmtrain: Run, tmp_path: Path) -> None:
    path = tmp_path / "job.json"
    for meta in ({"name": "demo", "namespace": "../kube-system"}, {"name": UP}):
        path.write_text(json.dumps({**MANIFEST, "metadata": meta}))
        assert llmtrain("submit", "-f", str(path)).code == 2
    assert not api.requests


def test_a_name_is_one_part_of_a_path_whatever_stands_in_it() -> None:
    assert path_of("v1", "Pod", "a/b", "c?d#e/../f") == "/api/v1/namespaces/a%2Fb/pods/c%3Fd%23e%2F..%2Ff"
    with pytest.raises(ValueError, match="is not a name"):
        path_of("v1", "Pod", "a", "..")


EVIL = "\x1b]0;PWNED\x07\x1b[31mFAKE\x1b[0m \x1b]52;c;ZXZpbA==\x07\x9b2J\x1bc\x08\x7f\u202etxt\r\x1b[1Aall is well"
MARKS = ("\x1b", "\x07", "\x08", "\x7f", "\x9b", "\u202e", "\r", "PWNED", "ZXZp")


def obeys(text: str) -> list[str]:
    return [mark for mark in MARKS if mark in text]


def test_text_of_others_is_made_plain() -> None:
    assert plain(EVIL) == "FAKE txt all is well" and plain("a\tb\nc é 日本 🙂") == "a\tb\nc é 日本 🙂"


@given(st.text())
def test_nothing_that_a_terminal_obeys_is_left(text: str) -> None:
    assert not any((ord(letter) < 32 and letter not in "\n\t") or 126 < ord(letter) < 160 for letter in plain(text))


def test_a_terminal_obeys_no_job(api: Any, llmtrain: Run) -> None:
    status = {**TRAINING, "phase": "Failed", "message": EVIL, "observedGeneration": 1}
    status |= {"failure": {"reason": "RankFailed", "message": EVIL, "attempt": 1}, "artifacts": [{"kind": "full", "uri": f"s3://{EVIL}"}]}
    status["conditions"] = [{"type": "Failed", "status": "True", "reason": "RankFailed", "message": EVIL}]
    api.add("demo", spec={**MANIFEST["spec"], "checkpoint": {"destination": EVIL}}, status=status)
    meta = {"name": "demo-a1-0", "namespace": "team", "uid": "p", "labels": {"llmtrain.io/job": "demo", "llmtrain.io/attempt": "1"}}
    meta["ownerReferences"] = [{"controller": True, "uid": "uid-demo", "kind": "LLMTrainJob", "name": "demo"}]
    said = {"phase": "Failed", "reason": EVIL, "message": EVIL}
    pods = {"items": [{"metadata": meta, "spec": {"nodeName": EVIL, "containers": []}, "status": said}]}
    api.objects["/api/v1/namespaces/team/pods"] = pods
    api.objects["/api/v1/namespaces/team/pods/demo-a1-0/log"] = f"{EVIL}\n".encode()
    event = {"involvedObject": {"name": EVIL}, "reason": EVIL, "message": EVIL, "metadata": {}}
    api.objects["/api/v1/namespaces/team/events"] = {"items": [event]}
    for words in (["get"], ["get", "-o", "wide"], ["get", "demo", "-o", "yaml"], ["why", "demo"], ["watch", "demo"], ["logs", "demo"]):
        said = llmtrain(*words)
        escaped = {"PWNED", "ZXZp"} if "yaml" in words else set()  # there the text stands as YAML writes it
        assert not {*obeys(said.out)} - escaped and not obeys(said.err), words
    assert llmtrain("delete", "demo").code == 0


def test_a_terminal_obeys_no_cluster(api: Any, llmtrain: Run) -> None:
    api.rule = lambda _: (403, {"reason": "Forbidden", "message": EVIL})
    said = llmtrain("get", "demo")
    assert said.code == 2 and not obeys(said.err)


@pytest.mark.parametrize("answer", [b"[]", b"nothing", b'{"metadata": 1' + b"0" * 5000 + b"}", b"\xff"], ids=lambda raw: str(raw[:12]))
def test_an_answer_that_is_no_object_is_told_in_one_line(answer: bytes, api: Any, llmtrain: Run) -> None:
    api.rule = lambda _: (200, answer)
    said = llmtrain("get", "demo")
    assert said.code == 4 and "the answer is not a JSON object" in said.err


# ---- manifests -------------------------------------------------------------------------------------------------------------

ANY = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from([10**4000, 1e300, -1, 7, "\x1b[31m", "²"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_no_manifest_ends_a_command_in_a_fault(data: st.DataObject, tmp_path: Path) -> None:
    job = copy.deepcopy(MANIFEST)
    place: Any = job
    while isinstance(place, (dict, list)) and place:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(place[key], (dict, list)) or data.draw(st.integers(0, 2)) == 0:
            place[key] = data.draw(ANY)
            break
        place = place[key]
    path = tmp_path / "job.yaml"
    path.write_text(_yaml(job), errors="surrogatepass")
    assert invoke(["plan", "-f", str(path)]) in (0, 2, 3)


def _yaml(value: Any) -> str:
    """As flow YAML, with numbers of any size."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(str(name))}: {_yaml(inner)}" for name, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_yaml, value)) + "]"
    if isinstance(value, int) and not isinstance(value, bool):
        return hex(value) if value.bit_length() > 9000 else str(value)
    return json.dumps(value)


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("spec.dataset[²].source=x", "must be an index"),
        ("spec.dataset[99999999999999999999].source=x", "must be an index"),
        (".".join(["a"] * 5000) + "=1", "must be PATH=VALUE"),
        ("spec.training.maxSteps=" + "9" * 5000, "spec.training.maxSteps"),
        ("spec.resources.memory=1e300", "spec.resources.memory"),
        ("spec.resources.memory=500m", "Write it like 512Mi"),
        ("spec.activeDeadlineSeconds=1e300", "Write activeDeadlineSeconds: 1"),
        ("spec.model.config.mlp_only_layers=7", None),
    ],
    ids=lambda value: str(value)[:24],
)
def test_no_setting_ends_a_command_in_a_fault(setting: str, says: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "job.json"
    path.write_text(json.dumps(MANIFEST))
    code = invoke(["validate", "-f", str(path), "--set", setting])
    assert code == (0 if says is None else 2) and (says or "is valid") in "".join(capsys.readouterr())


def test_a_file_that_is_no_text_or_never_ends_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "job.yaml").write_bytes(b"a: 1\nb: \xff\n")
    assert invoke(["validate", "-f", str(tmp_path / "job.yaml")]) == 2 and "line 2 has an invalid byte" in capsys.readouterr().err
    assert invoke(["validate", "-f", "/dev/zero"]) == 2 and "characters" in capsys.readouterr().err
    assert invoke(["validate", "-f", str(tmp_path)]) == 2


def test_a_fault_of_our_own_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("\x1b[31ma bug")

    monkeypatch.setattr("llmtrain_operator.cli.planning.load_manifest", broken)
    assert invoke(["validate", "-f", "x"]) == FAULT
    said = capsys.readouterr().err
    assert "ZeroDivisionError: a bug" in said and said.count("\n") == 1 and "\x1b" not in said
    monkeypatch.setenv("LLMTRAIN_TRACEBACK", "1")
    assert invoke(["validate", "-f", "x"]) == FAULT and "Traceback" in capsys.readouterr().err


# ---- what agents and statuses say ------------------------------------------------------------------------------------------

NUMBERS = st.integers() | st.floats() | st.sampled_from([0, -1, 1e300, 10**400, float("nan"), float("inf"), None, "x", True])
ROW = {
    "time": 1.0,
    "step": 1,
    "target_steps": 10,
    "consumed_samples": 8,
    "consumed_tokens": 512,
    "loss": 2.5,
    "grad_norm": 1.0,
    "learning_rate": 1e-3,
    "step_seconds": 1.0,
    "tokens_per_second": 256.0,
}


SPEAKS = {"job": "demo", "attempt": 1, "nodeRank": 0, "phase": "training"}


@settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))
@example(ROW, {})
@example(ROW | {"target_steps": 0}, {})
@example(ROW | {"step_seconds": 1e300, "tokens_per_second": 1e-300}, {})
@example(ROW | {"step": 10**400}, {"phase": "training", "message": EVIL})
@given(
    st.dictionaries(st.sampled_from(sorted(ROW)), NUMBERS).map(lambda odd: ROW | odd),
    st.dictionaries(st.sampled_from(["phase", "message", "attempt", "checkpoint"]), ANY),
)
def test_no_answer_of_an_agent_ends_the_view(row: dict[str, Any], more: dict[str, Any]) -> None:
    answer = {**SPEAKS, "progress": {to_camel(name): value for name, value in row.items()}, **more}
    agent = agent_of(answer, 0.0)
    assert agent is not None or row != ROW or more
    drawn(_job(TRAINING), agent.status if agent else None)


@settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))
@given(
    st.dictionaries(st.sampled_from(["phase", "message", "attempt", "plan", "checkpoint", "restarts", "goodput", "conditions"]), ANY),
    st.dictionaries(st.sampled_from([*TRAINING["progress"], "percent", "eta", "mfu", "tokensPerSecondPerGpu", "validationLoss"]), NUMBERS),
)
def test_no_status_ends_a_table_or_the_view(status: dict[str, Any], progress: dict[str, Any]) -> None:
    job = _job({**TRAINING, **status, "progress": {**TRAINING["progress"], **progress}})
    assert not obeys("".join(map(plain, table([job], 1_800_000_000.0, wide=True))))
    drawn(job, None)


def _job(status: dict[str, Any]) -> dict[str, Any]:
    meta = {"name": "demo", "namespace": "team", "uid": "u", "generation": 1, "creationTimestamp": "2027-01-15T07:00:00Z"}
    return {"metadata": meta, "spec": MANIFEST["spec"], "status": status}


def drawn(job: dict[str, Any], leader: Any) -> None:
    """Both views of it; what they print obeys no other."""
    said = io.StringIO()
    for view in (PlainView(Console(file=said)), LiveView(Console(file=said, force_terminal=False), title(job))):
        with view:
            for now in (1_800_000_000.0, 1_800_000_100.0):
                view.show(Story().go_on(job, leader, now))
    assert not obeys(said.getvalue())


def test_a_rank_with_hardly_a_byte_does_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "job.json"
    path.write_text(json.dumps(MANIFEST))
    assert invoke(["plan", "-f", str(path), "--set", "spec.resources.memory=1"]) == 3
