"""What a file says, as a digest: the name under which everything made of it is kept."""

from __future__ import annotations

import hashlib
from io import BufferedReader
from pathlib import Path
from typing import cast

from llmtrain_trainer.data.bad_data import Changed
from llmtrain_trainer.data.blame import blamed_on
from llmtrain_trainer.data.cache import digest, locked, make_own
from llmtrain_trainer.data.sources.files import DataFile, open_regular
from llmtrain_trainer.data.sources.local_files import identity_of
from llmtrain_trainer.run_dir.layout import write_atomically


def content_of(field: str, file: DataFile, cache: Path) -> str:
    """Equal for equal bytes, wherever they lie and whatever their times. A file on this machine is read once for it; a store tells.

    Raises BadData or Unreachable where it cannot be read.
    """
    if file.local is None or file.uri.startswith("hf://"):
        return digest(file.identity)
    memo = cache / "contents" / digest(file.identity)
    make_own(memo.parent)
    with locked(memo.with_name(f"{memo.name}.lock")):
        if not memo.exists():
            with blamed_on(field, file.uri, "it cannot be read", "Check the file and its permissions"), open_regular(file.local) as stream:
                found = hashlib.file_digest(cast(BufferedReader, stream), "sha256").hexdigest()
            unchanged(field, file)
            write_atomically(memo, found)
        return memo.read_text()


def unchanged(field: str, file: DataFile) -> None:
    """Raises Changed where a file on this machine is another one than when it was listed: what was read belongs to neither."""
    if file.local is None or file.uri.startswith("hf://"):
        return
    with blamed_on(field, file.uri, "it cannot be read", "Check the file and its permissions"):
        now = identity_of(str(file.local))
    if now != file.identity:
        raise Changed(field, file.uri)
