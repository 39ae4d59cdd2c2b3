"""A pickle that writes a file and then gives what stood there before, so that training would go on as if nothing was."""

import pickle
from pathlib import Path
from typing import Any


class Payload:
    def __init__(self, canary: Path, before: bytes) -> None:
        self._code = f"(open({str(canary)!r}, 'a').write('ran'), __import__('pickle').loads({before!r}))[1]"

    def __reduce__(self) -> tuple[Any, ...]:
        return eval, (self._code,)


def sealed(canary: Path, before: bytes) -> bytes:
    return pickle.dumps(Payload(canary, before))
