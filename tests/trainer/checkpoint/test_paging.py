"""Listings in pages of servers that never end one."""

from __future__ import annotations

import pytest

from llmtrain_trainer.checkpoint.store.errors import StoreUnreachableError
from llmtrain_trainer.checkpoint.store.paging import MOST_PAGES, MOST_WITHOUT_NEWS, Bounds


def test_pages_with_news_are_followed_by_their_tokens() -> None:
    bounds = Bounds("the listing")
    assert [bounds.next(str(page), news=True) for page in range(1000)] == [str(page) for page in range(1000)]


@pytest.mark.parametrize("token", [None, ""])
def test_a_page_that_does_not_say_where_the_next_is_ends_the_listing_as_an_error(token: str | None) -> None:
    with pytest.raises(StoreUnreachableError, match="there is more, and not where"):
        Bounds("the listing").next(token, news=True)


def test_a_token_that_comes_again_is_not_followed_round_and_round() -> None:
    bounds = Bounds("the listing")
    bounds.next("a", news=True)
    bounds.next("b", news=True)
    with pytest.raises(StoreUnreachableError, match="does not end: 3 pages"):
        bounds.next("a", news=True)


def test_empty_pages_are_followed_for_a_while_and_counted_anew_after_news() -> None:
    bounds = Bounds("the listing")
    for page in range(MOST_WITHOUT_NEWS):
        bounds.next(f"a{page}", news=False)
    bounds.next("news", news=True)
    for page in range(MOST_WITHOUT_NEWS):
        bounds.next(f"b{page}", news=False)
    with pytest.raises(StoreUnreachableError, match="does not end"):
        bounds.next("one more", news=False)


def test_no_listing_has_more_pages_than_a_job_could_fill() -> None:
    bounds = Bounds("the listing")
    for page in range(MOST_PAGES):
        bounds.next(str(page), news=True)
    with pytest.raises(StoreUnreachableError, match="does not end"):
        bounds.next("one more", news=True)
