"""Bounds on listings in pages: a server that never ends one is not followed for ever."""

from __future__ import annotations

from llmtrain_trainer.checkpoint.store.errors import StoreUnreachableError

MOST_PAGES = 20_000
"""Most pages of a listing, each of a thousand keys: far more than one job's destination has."""

MOST_WITHOUT_NEWS = 100
"""Most consecutive pages without a new key; a server may skip deleted keys, but not for ever."""


class Bounds:
    """Bounds of one listing."""

    def __init__(self, what: str) -> None:
        self._what, self._seen, self._without_news = what, set[str](), 0

    def next(self, token: str | None, *, news: bool) -> str:
        """The token of the next page. Raises StoreUnreachableError if it is missing or repeated, or the listing does not end."""
        self._without_news = 0 if news else self._without_news + 1
        if not token:
            raise StoreUnreachableError(f"{self._what} says that there is more, and not where.")
        if token in self._seen or self._without_news > MOST_WITHOUT_NEWS or len(self._seen) >= MOST_PAGES:
            raise StoreUnreachableError(f"{self._what} does not end: {len(self._seen) + 1} pages, and the store says there are more.")
        self._seen.add(token)
        return token
