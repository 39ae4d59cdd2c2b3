"""A head that the files of a pretrained model lack: preparation says so beside them, and every engine draws it from the seed."""

from __future__ import annotations

from pathlib import Path

from llmtrain_trainer.run_dir.layout import write_atomically

FILE = "new_head.txt"

SCORE = "score"
"""Name of the linear layer from hidden states to labels, in every decoder of transformers."""


def write_new_head(directory: Path, module: str) -> None:
    """`module`: full name of the head, in the directory of the model's files."""
    write_atomically(directory / FILE, f"{module}\n")


def new_head(directory: Path) -> str | None:
    """The head that is drawn; None where the files hold every weight."""
    file = directory / FILE
    return file.read_text().strip() if file.exists() else None
