"""What llmtrain does, in a few minutes on two cores: `make demo`.

It trains the small model of 01-demo-2x2x2.yaml in three dimensions on the documentation of the Python standard library, with a tokenizer it
trains first; kills a rank on the way and lets the run resume from the last checkpoint; and continues a sentence with the exported
model, by plain `transformers`. What it claims at the end it has checked: otherwise it says what is wrong and exits with 1.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from collect_text import collect

from llmtrain_operator.cli.manifest import load_manifest
from llmtrain_operator.cli.running import choose_view, closing_lines
from llmtrain_operator.local.run import Outcome, Ready, get_ready, run
from llmtrain_operator.local.view import View
from llmtrain_operator.local.watch import Snapshot
from llmtrain_operator.local.workdir import Workdir

EXAMPLES = Path(__file__).resolve().parent
OUT = EXAMPLES.parent / "out"
TEXT = OUT / "text" / "docstrings.jsonl"
VICTIM = 5
"""The rank that is killed: of pipeline stage 1, neither first nor last."""

STEPS_AFTER_COMMIT = 3
"""So that steps are lost and computed again."""

MARGIN = 1.0
"""Nats below the unigram entropy that count as well below: the model must know more than how frequent each token is."""

PROMPT = "Return the"
SAMPLE = """
import sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
model = AutoModelForCausalLM.from_pretrained(sys.argv[1])
torch.manual_seed(1)
start = tokenizer(sys.argv[2], return_tensors="pt")
made = model.generate(**start, max_new_tokens=48, do_sample=True, temperature=0.7, top_k=40, pad_token_id=0)
print(tokenizer.decode(made[0], skip_special_tokens=True))
"""


@dataclass
class Saboteur:
    """Watches the run; kills one rank, once, some steps after the first commit. Remembers what the agents said of it."""

    view: View
    killed_at_step: int | None = None
    resumed_from_step: int | None = None
    restarts: int = 0

    def __call__(self, snapshot: Snapshot) -> None:
        self.restarts = max(self.restarts, snapshot.restarts)
        if self.killed_at_step is None:
            self._kill_when_it_hurts(snapshot)
        elif self.restarts and snapshot.resumed_from_step is not None:
            self.resumed_from_step = snapshot.resumed_from_step

    def _kill_when_it_hurts(self, snapshot: Snapshot) -> None:
        last, saved = snapshot.last, snapshot.checkpoint
        if last is None or saved is None or last.step < saved.step + STEPS_AFTER_COMMIT:
            return
        beats = [beat for node in snapshot.nodes if node is not None for beat in node.heartbeats if beat.rank == VICTIM]
        if beats:
            self.killed_at_step = last.step
            self.view.say(f"  Step {saved.step} is committed. Now rank {VICTIM} is killed with signal 9, at step {last.step}.")
            os.kill(beats[0].pid, signal.SIGKILL)


def main() -> int:
    """Run, check, write out/demo.json."""
    started = time.monotonic()
    for earlier in (OUT / "demo", OUT / "demo.json"):
        shutil.rmtree(earlier) if earlier.is_dir() else earlier.unlink(missing_ok=True)
    print(f"Text: {collect('docstrings', TEXT) / 1e6:.1f} MB of documentation from Python's standard library.", flush=True)
    ready = get_ready(load_manifest(str(EXAMPLES / "01-demo-2x2x2.yaml")), Workdir(OUT / "demo" / "run"))
    view = choose_view(ready, plain=False)
    saboteur = Saboteur(view)
    outcome = run(ready, view, saboteur)
    for line in closing_lines(ready, outcome):
        print(line)
    if outcome.exit_code:
        return outcome.exit_code
    facts = _facts(ready, outcome, saboteur, time.monotonic() - started)
    (OUT / "demo.json").write_text(json.dumps(facts, indent=2) + "\n")
    return _conclude(facts, _broken_claims(facts, saboteur))


def _facts(ready: Ready, outcome: Outcome, saboteur: Saboteur, seconds: float) -> dict[str, Any]:
    node, mesh, rows = ready.workdir.node(0), ready.config.mesh, outcome.last.rows
    prepared = json.loads((node / "prepared" / "prepared.json").read_text())
    sample = subprocess.run([sys.executable, "-c", SAMPLE, node / "export" / "full", PROMPT], capture_output=True, text=True, check=False)
    return {
        "layout": {"dp": mesh.dp, "tp": mesh.tp, "pp": mesh.pp},
        "steps": rows[-1].step,
        "loss_first": round(rows[0].loss, 4),
        "loss_last": round(rows[-1].loss, 4),
        "unigram_entropy": round(prepared["unigramEntropy"], 4),
        "restarts": saboteur.restarts,
        "killed_at_step": saboteur.killed_at_step,
        "resumed_from_step": saboteur.resumed_from_step,
        "sample": sample.stdout.strip() or sample.stderr.strip()[-500:],
        "report": str(outcome.report),
        "seconds": round(seconds, 1),
    }


def _broken_claims(facts: dict[str, Any], saboteur: Saboteur) -> list[str]:
    """One sentence for each thing that the demo shows and that did not come true."""
    killed, resumed = saboteur.killed_at_step, saboteur.resumed_from_step
    claims = [
        (facts["layout"] == {"dp": 2, "tp": 2, "pp": 2}, f"The layout is {facts['layout']}, not 2 x 2 x 2."),
        (
            facts["loss_last"] <= facts["unigram_entropy"] - MARGIN,
            f"The loss ended at {facts['loss_last']}, not {MARGIN} below the unigram entropy of the text, {facts['unigram_entropy']}.",
        ),
        (killed is not None, "No rank was killed: no checkpoint was committed in time."),
        (facts["restarts"] >= 1, "The agent counted no restart."),
        (
            killed is not None and resumed is not None and 0 < resumed <= killed,
            f"The run did not resume from a checkpoint: killed at step {killed}, resumed from {resumed}.",
        ),
        (
            facts["sample"].startswith(PROMPT) and len(facts["sample"]) > len(PROMPT) + 20,
            f"transformers made no text from the exported model: {facts['sample']}",
        ),
        (Path(facts["report"]).exists(), "There is no report."),
    ]
    return [sentence for holds, sentence in claims if not holds]


def _conclude(facts: dict[str, Any], broken: list[str]) -> int:
    print(f"entropy   {facts['unigram_entropy']:.3f} nats a token: what knowing only the frequency of each token gives")
    print(f"restart   rank {VICTIM} killed at step {facts['killed_at_step']}, resumed from step {facts['resumed_from_step']}")
    print(f"sample    {facts['sample']!r}")
    print(f"facts     {OUT / 'demo.json'}   ({facts['seconds']:.0f} s in all)")
    for sentence in broken:
        print(sentence, file=sys.stderr)
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main())
