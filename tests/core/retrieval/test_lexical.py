from __future__ import annotations

import pytest

from merganser.retrieval.lexical import subject_terms


@pytest.mark.parametrize(
    ("query", "terms"),
    [
        ("How does a task retry?", ("task", "retri")),
        ("Whose tasks are being retried?", ("task", "retri")),
        ("if x not in y", ("if", "x", "not", "in", "y")),
        ("what is this", ("what", "is", "this")),
        ("C", ("c",)),
        ("?!", ()),
    ],
)
def test_question_words_are_left_out_unless_nothing_else_remains(
    query: str, terms: tuple[str, ...]
):
    assert subject_terms(query) == terms
