"""Errors of data that cannot be used. After BadData the agent ends with exit code CONFIG."""

from __future__ import annotations


class BadData(ValueError):  # noqa: N818 (the name says what is wrong, as the verdict does)
    """`field`: path in the manifest; `value`: its value or what was found there; `rule`: a clause; `way_out`: a sentence."""

    def __init__(self, field: str, value: object, rule: str, way_out: str) -> None:
        self.field, self.value, self.rule, self.way_out = field, str(value), rule, way_out
        super().__init__(_printable(f"{_in_manifest(field)} is {value}: {rule.rstrip('.')}. {way_out.rstrip('.')}."))


class Unreachable(ConnectionError):  # noqa: N818 (the same)
    """A store or hub did not answer. Unlike BadData, a later attempt may succeed."""

    def __init__(self, field: str, value: object, cause: Exception) -> None:
        detail = str(cause).strip() or type(cause).__name__
        super().__init__(
            f"{_in_manifest(field)} is {value}: it could not be reached ({type(cause).__name__}: {detail.splitlines()[0][:300]})."
        )


class Changed(Unreachable):
    """A file changed while it was read."""

    def __init__(self, field: str, value: object) -> None:
        Exception.__init__(self, f"{_in_manifest(field)} is {value}: it changed while it was read. Let it be written to its end first.")


class Interrupted(Unreachable):
    """The process that reads a streaming dataset ended; raised by ranks that wait for more of it."""

    def __init__(self, message: str) -> None:
        Exception.__init__(self, f"Streaming stopped: {message}")


def _printable(text: str) -> str:
    """The text without control characters: files may name tokens and tensors with them, and terminals obey them."""
    return "".join(letter if letter.isprintable() else " " if letter.isspace() else "?" for letter in text)


def _in_manifest(field: str) -> str:
    """The path from spec on; an option of a command line stays as it is."""
    return field if field.startswith(("-", "spec.")) else f"spec.{field}"
