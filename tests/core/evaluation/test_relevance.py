"""Hits held against labels, and labels found in a real snapshot."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merganser.config.rag_definition import resolve_rag
from merganser.evaluation.metrics import Locator, Target, mark_relevant
from merganser.evaluation.queries import Label
from merganser.retrieval import Hit
from merganser.store.reader import open_snapshot

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .conftest import Shop


def hit(path: str, first: int, last: int) -> Hit:
    return Hit(path, first, last, "", 1.0)


def target(path: str, *spans: tuple[int, int]) -> Target:
    return Target(Label(path=path), spans)


@pytest.fixture
def locator(shop: Shop) -> Iterator[Locator]:
    (index,) = resolve_rag(shop.config, "code").indexes
    with open_snapshot(index.folder) as snapshot:
        yield Locator([snapshot])


@pytest.mark.parametrize(
    ("first", "last", "rank"),
    [(1, 9, None), (1, 10, 1), (12, 12, 1), (20, 30, 1), (21, 30, None), (1, 99, 1)],
)
def test_a_hit_matches_by_one_common_line(first: int, last: int, rank: int | None):
    judged = mark_relevant([hit("a.py", first, last)], [target("a.py", (10, 20))])

    assert judged.relevant == (rank is not None,)
    assert judged.ranks == (rank,)


def test_another_path_never_matches():
    judged = mark_relevant([hit("b/a.py", 1, 99)], [target("a.py", (1, 99))])

    assert judged.first is None


def test_the_first_hit_finds_and_later_ones_are_relevant_too():
    hits = [hit("b.py", 1, 5), hit("a.py", 1, 5), hit("a.py", 5, 9), hit("a.py", 90, 99)]

    judged = mark_relevant(
        hits, [target("a.py", (4, 6)), target("a.py", (5, 5)), target("c.py", (1, 1))]
    )

    assert judged.ranks == (2, 2, None)
    assert judged.relevant == (False, True, True, False)
    assert judged.first == 2


@given(st.integers(1, 50), st.integers(0, 9), st.integers(1, 50), st.integers(0, 9))
def test_overlap_is_symmetric(first: int, length: int, other: int, other_length: int):
    one, two = (first, first + length), (other, other + other_length)

    assert (
        mark_relevant([hit("a", *one)], [target("a", two)]).ranks
        == mark_relevant([hit("a", *two)], [target("a", one)]).ranks
    )


def test_a_quote_is_found_across_chunks_and_white_space(locator: Locator):
    found = locator.locate(Label(path="src/refunds.md", quote="Money goes back within 14  days."))

    assert found.spans == ((12, 13),)
    assert found.stale == ""


def test_every_place_of_a_quote_counts(locator: Locator):
    found = locator.locate(Label(path="src/refunds.md", quote="Nothing is said"))

    assert found.spans == tuple((line, line) for line in range(3, 11))


def test_a_whole_file_and_a_span_are_found(locator: Locator):
    whole = locator.locate(Label(path="src/mail.py"))
    span = locator.locate(Label(path="src/mail.py", lines=(2, 40)))

    assert whole.matches(hit("src/mail.py", 2, 2))
    assert span.spans == ((2, 40),)


@pytest.mark.parametrize(
    ("label", "why"),
    [
        (Label(path="src/mai.py"), "src/mai.py is not in the index; did you mean 'src/mail.py'?"),
        (Label(path="mail.py"), "mail.py is not in the index; did you mean 'src/mail.py'?"),
        (Label(path="docs/none.txt"), "docs/none.txt is not in the index"),
        (Label(path="src/mail.py", quote="send_bill"), "the quote is not in src/mail.py"),
        (Label(path="src/mail.py", lines=(3, 9)), "src/mail.py ends at line 2"),
    ],
    ids=str,
)  # fmt: skip
def test_what_cannot_be_found_is_stale_and_says_why(locator: Locator, label: Label, why: str):
    found = locator.locate(label)

    assert found.stale == why
    assert not found.matches(hit(label.path, 1, 1000))
