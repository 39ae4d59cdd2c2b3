"""A checkpoint of one number of replicas for another, by DeepSpeed's universal format. Entered by agent/conversion.py before a start."""

from __future__ import annotations

import shutil
from argparse import Namespace
from pathlib import Path

UNIVERSAL = "universal"
"""The kind, and the directory beside the files it is made of."""


def main(directory: str) -> None:
    """Make <directory>/universal from the files in `directory`; it is there whole or not at all."""
    from deepspeed.checkpoint.ds_to_universal import main as convert

    source = Path(directory)
    draft = source / f".{UNIVERSAL}" / UNIVERSAL
    shutil.rmtree(draft.parent, ignore_errors=True)
    draft.mkdir(parents=True)
    convert(
        Namespace(
            input_folder=str(source),
            output_folder=str(draft),
            num_extract_workers=1,
            num_merge_workers=1,
            keep_temp_folder=False,
            strict=False,
            inject_missing_state=True,  # DeepSpeed writes that state for its own model builders only
        )
    )
    draft.rename(source / UNIVERSAL)
    shutil.rmtree(draft.parent)
