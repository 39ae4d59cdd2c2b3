"""Losses and gradient norms of every small layout of each engine against one process, and against HF Trainer: `make parity`.

Writes out/parity.json, rows {engine, mesh, variant, against, steps, max_abs_diff, norm_max_rel_diff, reason, ok}, and with --page the
tables of docs/parity.md. A reason says why a row may differ by more than 1e-5; exit code 1 when a row differs by more than it may. One
launch a world size runs all its cases in the same ranks.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from llmtrain_trainer.config import TrainerConfig
from llmtrain_trainer.convert.launch import launch, load_script

TOLERANCE = 1e-5
"""Of a loss, in nats. A gradient norm, where a few elements' rounding shows, may differ ten times as much, as a share of it."""

FAMILY_STEPS = 4
ROWS, MICRO, LENGTH = 8, 2, 32
Trace = tuple[list[float], list[float]]
"""Losses, and gradient norms before clipping, by step."""

_shapes = load_script(Path(__file__).with_name("parity_shapes.py"))
VOCABULARY, LLAMA, GPT2, QWEN3 = _shapes.VOCABULARY, _shapes.LLAMA, _shapes.GPT2, _shapes.QWEN3
MIXTRAL, BALANCED, QWEN2_MOE, QWEN3_MOE = _shapes.MIXTRAL, _shapes.BALANCED, _shapes.QWEN2_MOE, _shapes.QWEN3_MOE
LABELS, PAD, LABELLED, CLASSIFY = _shapes.LABELS, _shapes.PAD, _shapes.LABELLED, _shapes.CLASSIFY


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One layout (pp, dp, cp, tp, ep; stages a rank) of one variant."""

    engine: str = "native"
    variant: str = "plain"
    pp: int = 1
    dp: int = 1
    cp: int = 1
    tp: int = 1
    ep: int = 1
    virtual: int = 1
    schedule: str = "1f1b"
    zero_stage: int = 3
    shape: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    peft: dict[str, Any] | None = None
    more: dict[str, Any] = field(default_factory=dict)
    """Other fields of the TrainerConfig."""

    packed: bool = False
    task: str = "pretrain"
    family: bool = False
    """Whether the variant is a family of family_cases.py, held against HF Trainer for a few steps."""

    reason: str | None = None
    tolerance: float = TOLERANCE

    @property
    def world(self) -> int:
        return self.pp * self.dp * self.cp * self.tp

    @property
    def mesh(self) -> str:
        parts = [f"{axis}{getattr(self, axis)}" for axis in ("pp", "dp", "cp", "tp", "ep") if getattr(self, axis) > 1]
        zero = "" if self.engine == "native" else f"-zero{self.zero_stage}"
        return (
            ("x".join(parts) or "1") + ("-interleaved" if self.virtual > 1 else "") + zero + ("-offload" if "offload" in self.more else "")
        )

    @property
    def together(self) -> tuple[Any, ...]:
        """Cases that are equal here run in the same ranks, native first. DeepSpeed keeps its groups in globals: one mesh a launch."""
        degrees = (self.pp, self.dp, self.cp, self.tp, self.ep) if self.engine == "deepspeed" else ()
        return (self.engine != "native", self.engine, self.world, degrees)


def config_of(case: Case, steps: int) -> TrainerConfig:
    """The run that a case is: 8 sequences a step in micro-batches of two."""
    shape = LLAMA | case.shape
    accumulation = ROWS // MICRO // case.dp
    return TrainerConfig.model_validate(
        {
            "job": {"name": "parity"},
            "task": "sft" if case.packed else case.task,
            "engine": case.engine,
            "device": "cpu",
            "model": {"config": shape},
            "dataset": [{"source": "file:///none"}],
            "peft": case.peft,
            "training": {
                "globalBatchSize": ROWS,
                "microBatchSize": MICRO,
                "sequenceLength": LENGTH,
                "maxSteps": steps,
                "precision": "fp32",
                "gradientClipping": 0,
                "optimizer": {"learningRate": 1e-3},
            }
            | case.training,
            "mesh": {
                "procsPerNode": case.world,
                "pp": case.pp,
                "dp": case.dp,
                "cp": case.cp,
                "tp": case.tp,
                "ep": case.ep,
                "zeroStage": case.zero_stage,
                "schedule": "interleaved" if case.virtual > 1 else case.schedule,
                "stages": ranges(int(shape["num_hidden_layers"]), case.pp * case.virtual),
            },
            "batch": {"globalSize": ROWS, "microSize": MICRO, "accumulation": accumulation},
        }
        | case.more
    )


def ranges(layers: int, stages: int) -> list[tuple[int, int]]:
    """As even as can be, the longer ones first."""
    short, longer = divmod(layers, stages)
    ends = [0]
    for stage in range(stages):
        ends.append(ends[-1] + short + (stage < longer))
    return list(itertools.pairwise(ends))


def batch_of(step: int, replica: int, replicas: int, packed: bool) -> Any:
    """One replica's rows of a step: tokens drawn from the step, with unequal numbers of targets a row."""
    import torch

    from llmtrain_trainer.data.step_batch import StepBatch

    draw = torch.Generator().manual_seed(step)
    # A skewed distribution, so that there is something to learn; row i of the global batch goes to replica i mod dp.
    tokens = (VOCABULARY * torch.rand(ROWS, LENGTH + 1, generator=draw) ** 2).long()
    ids, labels = tokens[:, :-1].clone(), tokens[:, 1:].clone()
    for row in range(ROWS):
        labels[row, : row * 2] = -100
    positions = torch.arange(LENGTH).repeat(ROWS, 1)
    if packed:
        positions[:, LENGTH // 2 - 3 :] -= LENGTH // 2 - 3
    mine = slice(replica, None, replicas)
    columns = {"input_ids": ids[mine], "labels": labels[mine], "position_ids": positions[mine]}
    return StepBatch(columns=columns, packed=packed, target_tokens=int((labels != -100).sum()))


def labelled_batch_of(step: int, replica: int, replicas: int) -> Any:
    """The same of documents of unequal lengths with a label each, at their last tokens; PAD fills up the rows."""
    import torch

    from llmtrain_trainer.data.step_batch import StepBatch

    draw = torch.Generator().manual_seed(step)
    lengths = torch.randint(4, LENGTH + 1, (ROWS, 1), generator=draw)
    ids = (PAD * torch.rand(ROWS, LENGTH, generator=draw) ** 2).long()
    positions = torch.arange(LENGTH).repeat(ROWS, 1)
    names = ids[:, :4].sum(1, keepdim=True) * LABELS // (4 * PAD)
    labels = torch.where(positions == lengths - 1, names, -100)
    mine = slice(replica, None, replicas)
    columns = {"input_ids": torch.where(positions < lengths, ids, PAD)[mine], "labels": labels[mine], "position_ids": positions[mine]}
    return StepBatch(columns=columns, packed=False, target_tokens=ROWS)


def batch_for(case: Case, step: int, replica: int, replicas: int) -> Any:
    """One replica's rows of a step, as the task of the case reads them."""
    if case.task == "classify":
        return labelled_batch_of(step, replica, replicas)
    return batch_of(step, replica, replicas, case.packed)


def run_cases(cases: Sequence[Case], steps: int) -> list[tuple[list[float], list[float], float, list[float]]]:
    """On every rank: (losses, gradient norms, last evaluation, metrics of each step and of the evaluation) of each case."""
    return [run_case(case, steps) for case in cases]


def run_case(case: Case, steps: int) -> tuple[list[float], list[float], float, list[float]]:
    steps = steps_of(case, steps)
    engine = load_script(Path(__file__).with_name("building.py")).engine_of(config_of(case, steps))
    losses, norms, metrics = [], [], []
    for step in range(1, steps + 1):
        result = engine.train_step(batch_for(case, step, engine.replica, case.dp), learning_rate=1e-3, step=step, stop=False)
        losses.append(result.loss)
        norms.append(result.grad_norm)
        metrics += result.metrics.values()
    total, count, measured = engine.evaluate(batch_for(case, steps + 1, engine.replica, case.dp))
    return losses, norms, total / count, [*metrics, *(value / count for value in measured.values())]


def steps_of(case: Case, steps: int) -> int:
    return min(steps, FAMILY_STEPS) if case.family else steps


def difference(left: Sequence[float], right: Sequence[float]) -> float:
    """The largest over the steps."""
    return max(abs(a - b) for a, b in zip(left, right, strict=True))


def run_hf_trainers(cases: Sequence[Case], steps: int) -> list[Trace]:
    return [run_hf_trainer(case, steps_of(case, steps)) for case in cases]


def run_hf_trainer(case: Case, steps: int) -> Trace:
    """What HF Trainer makes of the same start and the same rows in the same order: no code of an engine after the weights."""
    import torch

    from llmtrain_trainer.engines import build_engine

    config = config_of(case, steps)
    rows = []
    for batch in (batch_for(case, step, 0, 1) for step in range(1, steps + 1)):
        for ids, labels in zip(batch["input_ids"], batch["labels"], strict=True):
            if case.task == "classify":  # it finds the last token of a document itself
                rows.append({"input_ids": ids, "labels": labels.max()})
                continue
            # It shifts labels itself: the token before the first is no target, and what follows the last one is never read.
            rows.append({"input_ids": torch.cat([ids, ids[-1:]]), "labels": torch.cat([torch.tensor([-100]), labels])})
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "config.json").write_text(json.dumps(config.model.config))  # which the export copies
        engine = build_engine(config, Path(directory))
        for kind in ("full", "adapter") if config.peft else ("full",):
            engine.export(Path(directory) / kind, kind)
        train = load_script(Path(__file__).with_name("hf_trainer.py")).train
        trace: Trace = train(Path(directory) / "full", rows, config.training, config.peft and Path(directory) / "adapter", config.peft)
    return trace


LORA = {"method": "lora", "rank": 4, "alpha": 8.0}
UNDECAYED = {"optimizer": {"learningRate": 1e-3, "weightDecay": 0}}
"""Trainer decays magnitudes, and peft's LoRA+ nothing."""
DORA = LORA | {"method": "dora"}
ROUNDING = "bf16 has 8 bits of mantissa: sums in another order round differently"
VARIANTS = (
    Case(),
    Case(variant="clipping", training={"gradientClipping": 0.5}),
    Case(variant="lora", peft=LORA),
    Case(variant="rslora", peft=LORA | {"method": "rslora"}),
    Case(variant="dora", peft=DORA, training=UNDECAYED),
    Case(variant="lora-plus", peft=LORA | {"learningRateRatio": 8.0}, training=UNDECAYED),
    Case(variant="tied-embeddings", shape={"tie_word_embeddings": True}, training={"gradientClipping": 0.5}),
    Case(variant="grouped-query", shape={"num_key_value_heads": 2}),
    Case(variant="odd-layers", shape={"num_hidden_layers": 5}),
    Case(variant="zero0", zero_stage=0),
    Case(variant="zero1", zero_stage=1),
    Case(variant="gpipe", schedule="gpipe"),
    Case(variant="recompute", training={"activationCheckpointing": "full"}),
    Case(variant="packed", packed=True),
    Case(variant="qwen3", shape=QWEN3, training={"gradientClipping": 0.5}),
    Case(variant="gpt2", shape=GPT2),
    Case(variant="mixtral", shape=MIXTRAL),
    Case(variant="mixtral-clipping", shape=MIXTRAL, training={"gradientClipping": 0.5, "activationCheckpointing": "full"}),
    Case(variant="mixtral-balanced", shape=MIXTRAL | BALANCED),
    Case(variant="mixtral-lora", shape=MIXTRAL, peft=LORA),
    Case(variant="mixtral-zero0", shape=MIXTRAL, zero_stage=0, training={"gradientClipping": 0.5}),
    Case(variant="mixtral-bf16", shape=MIXTRAL, training={"precision": "bf16"}, tolerance=2e-2, reason=ROUNDING),
    Case(variant="qwen2-moe", shape=QWEN2_MOE),
    Case(variant="qwen3-moe", shape=QWEN3_MOE),
    Case(variant="classify", task="classify", shape=CLASSIFY),
    Case(variant="classify-lora", task="classify", shape=CLASSIFY, peft=LORA, training={"gradientClipping": 0.5}),
    Case(variant="classify-gpt2", task="classify", shape=GPT2 | LABELLED | {"architectures": ["GPT2ForSequenceClassification"]}),
    Case(variant="bf16", training={"precision": "bf16"}, tolerance=2e-2, reason=ROUNDING),
)
SAME_AS_PLAIN = ("zero0", "zero1", "gpipe", "recompute")
"""Variants that must not change the result at all: they are held against the plain run in one process."""
AGAINST_TRAINER = ("clipping", "classify", "lora", "rslora", "dora", "lora-plus")
"""Variants that are held against HF Trainer too."""
TWO_OR_EIGHT = ("rslora", "dora", "lora-plus", "zero1", "qwen3", "gpt2", "mixtral", "classify", "classify-lora", "classify-gpt2")
"""Variants whose pairs of axes add nothing to what each axis and all of them together show."""


def cases() -> Iterator[Case]:
    """Every legal pair of mesh and variant of native, then those that cut sequences or experts, then the other engines'."""
    layouts = load_script(Path(__file__).with_name("engine_cases.py"))
    families = load_script(Path(__file__).with_name("family_cases.py"))
    for variant in (*VARIANTS, *(Case(variant=name, family=True, shape=families.config_of(name)) for name in families.FAMILY_CASES)):
        for mesh in layouts.MESHES:
            case = replace(variant, **mesh)
            if legal(case):
                yield case
        for mesh in layouts.CUT.get(variant.variant, ()):
            yield replace(variant, **mesh)
    named = {variant.variant: variant for variant in VARIANTS}
    others = {"deepspeed": layouts.DEEPSPEED, "megatron": layouts.MEGATRON, "accelerate": layouts.ACCELERATE}
    for engine, given in ((engine, case) for engine, found in others.items() for case in found):
        yield replace(named[given["variant"]], engine=engine, **given)


def legal(case: Case) -> bool:
    """Whether the variant means something on the mesh."""
    if case.family:
        return case.world in (1, 2, 8) and case.virtual == 1
    if case.variant in TWO_OR_EIGHT and case.world == 4:
        return False
    if case.variant in ("zero0", "zero1") and case.dp == 1:
        return False
    if case.variant == "gpipe" and (case.pp == 1 or case.virtual > 1):
        return False
    if "mixtral-" in case.variant or "moe" in case.variant:
        return case.world == 1
    return not (case.variant in ("gpt2", "classify-gpt2", "dora") and case.tp > 1)  # no plan of column and row layers


def row(case: Case, found: Trace, expected: Trace, against: str) -> dict[str, Any]:
    loss = difference(found[0], expected[0])
    norm = max(abs(a - b) / b for a, b in zip(found[1], expected[1], strict=True))
    return {
        "engine": case.engine,
        "mesh": case.mesh,
        "variant": case.variant,
        "against": against,
        "steps": len(found[0]),
        "max_abs_diff": loss,
        "norm_max_rel_diff": norm,
        "reason": case.reason,
        "ok": max(loss, norm / 10) <= case.tolerance,
    }


def measure(chosen: Sequence[Case], steps: int) -> Iterator[dict[str, Any]]:
    """Rows as they are found. Those of the variants in AGAINST_TRAINER are held against HF Trainer too, those of families against it
    alone."""
    references = dict[str, Trace]()
    plain = [case for case in chosen if case.world == 1 and case.engine == "native" and (case.family or case.variant in AGAINST_TRAINER)]
    traces = launch(Path(__file__), "run_hf_trainers", 1, plain, steps, timeout=1800) if plain else []
    hf_trainer = {case.variant: trace for case, trace in zip(plain, traces, strict=True)}
    for key, members in itertools.groupby(sorted(chosen, key=lambda case: case.together), lambda case: case.together):
        group, began = list(members), time.monotonic()
        results = launch(Path(__file__), "run_cases", group[0].world, group, steps, timeout=1800)
        for case, (losses, norms, *_) in zip(group, results, strict=True):
            reference = references.setdefault("plain" if case.variant in SAME_AS_PLAIN else case.variant, (losses, norms))
            if not case.family:
                yield row(case, (losses, norms), reference, "one process")
            if case.variant in hf_trainer:
                yield row(case, (losses, norms), hf_trainer[case.variant], "HF Trainer")
        print(f"{len(group)} cases of {key[1]} on {group[0].world} ranks: {time.monotonic() - began:.0f} s", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("out/parity.json"))
    parser.add_argument("--variant", action="append", help="only these; all when left out. One process of native runs them too")
    parser.add_argument("--ranks", type=int, action="append", help="only meshes of so many ranks; all when left out")
    parser.add_argument("--engine", action="append", help="only these; all when left out")
    parser.add_argument("--add", action="store_true", help="keep the rows in --out that this run does not measure")
    parser.add_argument("--page", action="store_true", help="write the tables of docs/parity.md anew from --out")
    arguments = parser.parse_args()
    everything = list(cases())
    chosen = [case for case in everything if not arguments.variant or case.variant in arguments.variant]
    variants = {"plain", *(case.variant for case in chosen)}
    alone = [case for case in everything if case.engine == "native" and case.world == 1 and case.variant in variants]
    chosen = [case for case in chosen if not arguments.ranks or case.world in arguments.ranks]
    chosen = [case for case in chosen if not arguments.engine or case.engine in arguments.engine]
    rows = {identity(entry): entry for entry in (json.loads(arguments.out.read_text()) if arguments.add else ())}
    for entry in measure([*alone, *(case for case in chosen if case not in alone)], arguments.steps):
        rows[identity(entry)] = entry
        show(entry)
        write(list(rows.values()), arguments.out)
    if arguments.page:
        load_script(Path(__file__).with_name("parity_page.py")).fill(list(rows.values()))
    bad = [entry for entry in rows.values() if not entry["ok"]]
    print(f"{len(rows)} rows, {len(bad)} beyond their tolerance; {arguments.out}")
    return 1 if bad else 0


def identity(entry: dict[str, Any]) -> tuple[str, ...]:
    return entry["engine"], entry["mesh"], entry["variant"], entry["against"]


def write(rows: Sequence[dict[str, Any]], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows, indent=2))


def show(entry: dict[str, Any]) -> None:
    where = f"{entry['engine']:9} {entry['mesh']:24} {entry['variant']:24} {entry['against']:11}"
    differs = f"{entry['max_abs_diff']:.1e}  norm {entry['norm_max_rel_diff']:.1e}  {entry['reason'] or ''}"
    print(f"{'ok ' if entry['ok'] else 'BAD'} {where} {differs}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
