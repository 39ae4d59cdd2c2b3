"""A tiny job with real data, model and tokenizer, and agents as processes on the loopback. Used by the tests of agents and runs."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from prometheus_client.parser import text_string_to_metric_families
from s3_server import reserved_port

from llmtrain_trainer.config import RENDEZVOUS_SECRET, TrainerConfig, Verdict
from llmtrain_trainer.run_dir.layout import RunDir, read_rows, write_atomically

WORDS = ["the", "model", "reads", "one", "token", "and", "tells", "what", "comes", "next", "in", "every", "sentence", "of", "our", "text"]
MODEL = {
    "model_type": "llama",
    "vocab_size": 320,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "tie_word_embeddings": False,
}
PATIENCE = 150.0
STEPS = 20
"""Of a run that ends by itself, where nothing asks for another number."""

BRAKE = Path(__file__).with_name("brake")


def sentence(number: int) -> str:
    return " ".join(WORDS[(number * step + step) % len(WORDS)] for step in range(1, 24)) + f" {number}."


class Job:
    """Writes configurations of one tiny job; all runs of a session share its data and its prepared cache."""

    def __init__(self, root: Path) -> None:
        self.cache = root / "cache"
        self.text = root / "text.jsonl"
        self.text.write_text("".join(json.dumps({"text": sentence(number)}) + "\n" for number in range(200)))

    def config(self, store: Path, *, steps: int = STEPS, every: int = 5, **changes: Any) -> TrainerConfig:
        """2 x data parallel by default; 8 sequences of 32 tokens a step."""
        mesh = {"procsPerNode": 2, "dp": 2, "stages": [[0, 2]], **changes.pop("mesh", {})}
        dp = mesh["dp"]
        given = {
            "job": {"name": "tiny"},
            "task": "pretrain",
            "engine": "native",
            "device": "cpu",
            "model": {"config": MODEL},
            "tokenizer": {"train": {"algorithm": "bpe", "vocabSize": 300}},
            "dataset": [{"source": f"file://{self.text}"}],
            "training": {
                "globalBatchSize": 8,
                "microBatchSize": 1,
                "sequenceLength": 32,
                "maxSteps": steps,
                "precision": "fp32",
                "optimizer": {"learningRate": 1e-3},
            },
            "checkpoint": {"destination": f"file://{store}", "every": {"steps": every}},
            "output": {"export": [], "report": False},
            "mesh": mesh,
            "batch": {"globalSize": 8, "microSize": 1, "accumulation": 8 // dp},
            **changes,
        }
        return TrainerConfig.model_validate(given)


class Agent:
    """An agent process and its run directory. Its ranks wait after `hold` steps until they are released."""

    def __init__(
        self, config: TrainerConfig, root: Path, cache: Path, *, node: int = 0, port: int | None = None, hold: int | None = None
    ) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.run = RunDir(root)
        if hold is not None:
            (root / "hold").write_text(str(hold))
        path = root / "given.json"
        path.write_text(config.model_dump_json(by_alias=True))
        command = [sys.executable, "-m", "llmtrain_trainer", "agent", "--config", str(path), "--run-dir", str(root)]
        command += [
            "--node-rank",
            str(node),
            "--rendezvous",
            f"127.0.0.1:{port or reserved_port()}",
            "--cache",
            str(cache),
            "--grace",
            f"{PATIENCE:.0f}",
        ]
        paths = [str(BRAKE), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", RENDEZVOUS_SECRET: "a secret of the tests"}
        environment["PYTHONPATH"] = os.pathsep.join(paths)
        with (root / "agent.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment, start_new_session=True)

    def wait(self) -> int:
        """Exit code."""
        try:
            return self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the agent did not end; its log:\n{self.log()}") from None

    def log(self) -> str:
        logs = [self.run.root / "agent.log", *sorted(self.run.logs.glob("*.log"))]
        return "\n".join(f"--- {path.name}\n{path.read_text()[-3000:]}" for path in logs if path.exists())

    def until(self, true: Callable[[], Any], what: str) -> Any:
        """Wait for a condition; fails with the logs."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            if value := true():
                return value
            assert self.process.poll() is None, f"the agent ended before {what}:\n{self.log()}"
            time.sleep(0.005)
        raise AssertionError(f"waited in vain for {what}:\n{self.log()}")

    def release(self, hold: int | None = None) -> None:
        """Let the ranks train to the end, or until they have done `hold` steps."""
        if hold is None:
            (self.run.root / "hold").unlink()
        else:
            write_atomically(self.run.root / "hold", str(hold))

    def until_step(self, step: int) -> None:
        """Wait for the row of this step or of a later one."""
        self.until(lambda: any(row["step"] >= step for row in read_rows(self.run.metrics)), f"step {step}")

    def until_committed(self, step: int) -> None:
        """Wait for the commit of this step's checkpoint."""
        self.until(lambda: any(row["step"] == step for row in self.events("checkpoint_committed")), f"the checkpoint of step {step}")

    def until_metric(self, name: str, least: float = 1e-9, **labels: str) -> None:
        """Wait for a series to be there and not below `least`."""
        self.until(lambda: self.metric(name, **labels) >= least, f"{name} {labels} of at least {least}")

    def losses(self) -> dict[int, float]:
        """Loss by step; the last row of a step wins."""
        return {row["step"]: row["loss"] for row in read_rows(self.run.metrics)}

    def events(self, kind: str) -> list[dict[str, Any]]:
        return [row for row in read_rows(self.run.events) if row["kind"] == kind]

    def verdict(self) -> Verdict:
        return Verdict.model_validate_json(self.run.termination.read_text())

    def pid_of(self, rank: int) -> int:
        pid: int = json.loads(self.run.heartbeat(rank).read_text())["pid"]
        return pid

    def get(self, path: str) -> str:
        port = json.loads(self.run.port.read_text())["port"]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as answer:
            text: str = answer.read().decode()
            return text

    def metric(self, name: str, **labels: str) -> float:
        """A series of this job; NaN where there is none yet."""
        wanted = {"train_namespace": "default", "train_job": "tiny", **labels}
        families = text_string_to_metric_families(self.get("/metrics"))
        found = [sample for family in families for sample in family.samples if sample.name == f"llmtrain_{name}"]
        return next((sample.value for sample in found if sample.labels == wanted), math.nan)

    def family(self) -> list[psutil.Process]:
        """Every process below the agent."""
        return psutil.Process(self.process.pid).children(recursive=True)


Start = Callable[..., Agent]
"""The fixture `start`."""
