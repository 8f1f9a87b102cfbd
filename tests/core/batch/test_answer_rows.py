from typing import Any

import pytest

from merganser.batch.answer_rows import mean_metrics, measure_answer, token_f1


@pytest.mark.parametrize(
    ("answer", "expected", "score"),
    [
        ("The cat sat.", "a cat sat", 1.0),
        ("cat", "the cat sat", 2 / 3),
        ("A merganser eats fish [1].", "A merganser eats fish", 1.0),
        ("It eats fish (docs/ducks.md:3-4).", "it eats fish", 1.0),
        ("dogs", "cats", 0.0),
        ("", "", 1.0),
        ("", "cats", 0.0),
    ],
)
def test_token_f1_compares_words_without_articles_and_citations(
    answer: str, expected: str, score: float
):
    assert score == pytest.approx(token_f1(answer, expected))


def test_the_best_of_several_expected_answers_counts():
    row: dict[str, Any] = {"answer": "Paris, France", "sources": [], "invalid_citations": []}

    found = measure_answer(row, ["London", "paris france"])

    assert found == {"citations": 0.0, "exact": 1.0, "token_f1": 1.0}


def test_citations_are_the_share_that_was_retrieved():
    sources = [{"cited": True}, {"cited": True}, {"cited": False}]
    row = {"answer": "x", "sources": sources, "invalid_citations": ["[9]", "[8]"]}

    assert measure_answer(row, None) == {"citations": 0.5}


def test_a_mean_is_over_the_rows_that_have_the_metric():
    rows = [{"metrics": {"exact": 1.0}}, {"metrics": {"exact": 0.0, "grounded": 1.0}}, {}]

    assert mean_metrics(rows) == {"exact": 0.5, "grounded": 1.0}
