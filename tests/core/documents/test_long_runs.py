"""The long runs of a text are what an expression finds, a hundred times slower."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from merganser.documents.long_runs import find_runs

_RUN = re.compile(r"[A-Za-z0-9+/_%~-]{20,}")
_PIECES = st.sampled_from(
    ["a" * 19, "A" * 19, "aB", "x9", "_", "-", "/", "+", "%", "~", " ", "\n", ".", "é", "一", "🦆"]
)


@given(st.lists(_PIECES, max_size=30).map("".join))
def test_runs_are_those_of_the_expression(text: str):
    telling = [m.span() for m in _RUN.finditer(text) if re.search("[0-9]|[a-z][A-Z]|IA", m[0])]
    assert [tuple(run) for run in find_runs(text)] == telling


def test_an_identifier_of_capitals_alone_is_a_run():
    assert find_runs("key = AKIAQWERTZUIOPASDFGH") == [(6, 26)]


def test_names_are_no_runs():
    assert not find_runs("def test_that_ducks_dive_for_food(MERGANSER_OF_THE_NORTH): pass")
