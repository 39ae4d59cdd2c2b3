"""Command line of the trainer image: the agent of a node, and its parts one by one. Each command imports only what it needs."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn, get_args

from llmtrain_trainer.config.tables.engines import WeightsFormat


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code (config.ExitCode)."""
    options = _parser().parse_args(arguments)
    command: str = options.command
    return {"agent": _agent, "prepare": _prepare, "checkpoints": _checkpoints, "convert": _convert, "report": _report}[command](options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="llmtrain-trainer", description="The program that runs in a training pod of llmtrain.")
    commands = parser.add_subparsers(dest="command", required=True)

    agent = commands.add_parser("agent", help="run a node: prepare, train, checkpoint, publish")
    _job_arguments(agent)
    agent.add_argument("--node-rank", type=int, default=0, help="which node this is, 0 to nodes - 1 (default: 0)")
    agent.add_argument("--rendezvous", required=True, metavar="HOST:PORT", help="where node 0 listens for the others")
    agent.add_argument(
        "--host",
        default="localhost",
        help="address of /metrics, /status and /healthz (default: localhost; :: in a pod, which is every one)",
    )
    agent.add_argument("--port", type=int, default=0, help="their port (default: a free one, which port.json in the run directory names)")
    agent.add_argument(
        "--grace", type=float, default=300.0, metavar="SECONDS", help="time to save a checkpoint after SIGTERM (default: 300)"
    )

    agent.add_argument("--echo", action="store_true", help="repeat the ranks' logs on standard output, each line prefixed with its rank")

    prepare = commands.add_parser("prepare", help="download the model, make the tokenizer and tokenise the data, without training")
    _job_arguments(prepare)

    checkpoints = commands.add_parser("checkpoints", help="list the checkpoints of a destination, or read and verify them")
    checkpoints.add_argument("action", choices=["list", "verify"])
    checkpoints.add_argument("--destination", required=True, metavar="URI", help="checkpoint.destination of the job")
    checkpoints.add_argument("-o", "--output", choices=["text", "json"], default="text")

    convert = commands.add_parser("convert", help="write the weights of a checkpoint, or of Hugging Face's files, in another format")
    convert.add_argument("--config", type=Path, required=True, help="the TrainerConfig of a job with this model, as JSON")
    for side, what in (("from", "the weights are"), ("to", "they go")):
        convert.add_argument(f"--{side}", required=True, metavar="URI", dest=f"{side}_uri", help=f"where {what}")
        convert.add_argument(f"--{side}-format", required=True, choices=get_args(WeightsFormat))
    convert.add_argument("--step", type=int, help="of the source checkpoint (default: the newest)")
    convert.add_argument("--work", type=Path, help="directory with room for the weights, twice (default: the system's)")

    report = commands.add_parser("report", help="write report.html and loss.png from run directories")
    report.add_argument("--run-dir", type=Path, required=True, help="run directory of node 0")
    report.add_argument("--node-dir", type=Path, action="append", default=[], help="run directory of another node; may be given again")
    report.add_argument("--out", type=Path, help="directory to write to (default: report/ in the run directory)")
    return parser


def _job_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, required=True, help="the TrainerConfig, as JSON")
    parser.add_argument("--run-dir", type=Path, required=True, help="directory of this node's run")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "llmtrain", help="prepared data and models, shared by runs")


def _agent(options: argparse.Namespace) -> NoReturn:
    """Exit at once: tearing torch down takes a second, and threads that still upload a save nobody waits for would be joined."""
    from llmtrain_trainer.agent.node import AgentOptions, run_node

    code = run_node(
        AgentOptions(
            config=options.config,
            run_dir=options.run_dir,
            node_rank=options.node_rank,
            rendezvous=options.rendezvous,
            host=options.host,
            port=options.port,
            cache=options.cache.absolute(),
            grace=options.grace,
            echo=options.echo,
        )
    )
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _prepare(options: argparse.Namespace) -> int:
    from llmtrain_trainer.config import ExitCode, TrainerConfig
    from llmtrain_trainer.prepare.prepare import Unreachable, prepare
    from llmtrain_trainer.run_dir.layout import RunDir

    try:
        config = TrainerConfig.model_validate_json(options.config.read_text())
        prepare(config, RunDir(options.run_dir.absolute()), options.cache.absolute(), print)
    except ValueError as error:
        print(error, file=sys.stderr)
        return ExitCode.CONFIG
    except Unreachable as error:
        print(error, file=sys.stderr)
        return ExitCode.RANK_FAILED
    return ExitCode.DONE


def _checkpoints(options: argparse.Namespace) -> int:
    from llmtrain_trainer.checkpoint.commands import checkpoints

    return checkpoints(options.action, options.destination, options.output)


def _convert(options: argparse.Namespace) -> int:
    from llmtrain_trainer.convert.command import WeightsLocation, command

    source, target = (
        WeightsLocation(format=options.from_format, uri=options.from_uri),
        WeightsLocation(format=options.to_format, uri=options.to_uri),
    )
    return command(options.config, source, target, options.step, options.work)


def _report(options: argparse.Namespace) -> int:
    from llmtrain_trainer.report import write_report
    from llmtrain_trainer.run_dir.layout import RunDir

    run = RunDir(options.run_dir.absolute())
    nodes = [run, *(RunDir(path.absolute()) for path in options.node_dir)]
    print(write_report(run, nodes, options.out or run.report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
