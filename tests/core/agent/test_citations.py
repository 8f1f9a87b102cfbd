import pytest

from merganser.agent.citations import check_citations, only_copies
from merganser.agent.evidence import Evidence

ENGINE = Evidence("flows/engine.py", 10, 40, "", id=1, source="code")
RETRY = Evidence("tasks/retry.py", 5, 9, "", id=2, source="code")
EVIDENCE = (ENGINE, RETRY)


def cited(text: str) -> list[str]:
    return [str(line) for line in check_citations(text, EVIDENCE).sources if line.cited]


def invalid(text: str) -> tuple[str, ...]:
    return check_citations(text, EVIDENCE).invalid


def test_a_number_names_its_passage_and_the_other_stays_uncited():
    found = check_citations("Retries wait two seconds [2].", EVIDENCE)

    assert [(str(line), line.cited) for line in found.sources] == [
        ("tasks/retry.py:5-9", True),
        ("flows/engine.py:10-40", False),
    ]
    assert found.invalid == ()


def test_lists_ranges_and_neighbouring_numbers_are_all_read():
    assert len(cited("See [1, 2].")) == 2
    assert len(cited("See [1-2].")) == 2
    assert len(cited("See [1][2].")) == 2
    assert len(cited("See `[1]` and `[2]`.")) == 2


def test_an_unknown_number_is_invalid():
    assert invalid("It is so [3].") == ("[3]",)
    assert invalid("It is so [1, 7].") == ("[7]",)
    assert invalid("It is so [0].") == ("[0]",)


def test_an_unknown_number_is_reported_once():
    assert invalid("Here [9] and there [9].") == ("[9]",)


def test_an_index_in_code_is_no_citation():
    assert invalid("Use argv[7] or `names[9]`.\n```python\nprint(x[8])\n```") == ()


def test_code_that_is_never_closed_hides_nothing_before_it():
    assert invalid("As [5] says:\n```\nx[6]") == ("[5]",)


def test_a_place_inside_what_was_retrieved_is_a_citation():
    assert cited("See flows/engine.py:12-20.") == ["flows/engine.py:10-40"]
    assert cited("See flows/engine.py:40.") == ["flows/engine.py:10-40"]
    assert cited("See `engine.py:L12-L20`") == ["flows/engine.py:10-40"]


def test_lines_outside_what_was_retrieved_are_invalid():
    assert invalid("See flows/engine.py:41.") == ("flows/engine.py:41",)
    assert invalid("See flows/engine.py:30-50.") == ("flows/engine.py:30-50",)
    assert invalid("See flows/engine.py:20-12.") == ("flows/engine.py:20-12",)


def test_a_file_that_was_not_retrieved_is_invalid():
    assert invalid("See flows/other.py:12.") == ("flows/other.py:12",)
    assert invalid("See other/engine.py:12.") == ("other/engine.py:12",)


def test_lines_that_two_passages_cover_together_are_valid():
    evidence = (Evidence("a.py", 1, 10, "", id=1), Evidence("a.py", 11, 20, "", id=2))

    found = check_citations("a.py:5-15", evidence)

    assert found.invalid == ()
    assert [line.cited for line in found.sources] == [True, True]


def test_a_gap_between_two_passages_is_not_covered():
    evidence = (Evidence("a.py", 1, 10, "", id=1), Evidence("a.py", 12, 20, "", id=2))

    assert check_citations("a.py:5-15", evidence).invalid == ("a.py:5-15",)


def test_addresses_and_times_are_no_places():
    text = "Ask http://127.0.0.1:8000 or http://example.com:80/a.py:3 or example.com:80 at 12:30."

    assert invalid(text) == ()


def test_a_file_named_without_lines_counts_as_named():
    assert cited("It is in tasks/retry.py, I think.") == ["tasks/retry.py:5-9"]
    assert cited("It is in mytasks/retry.py.") == []


def test_equal_places_are_one_source_and_the_cited_one_wins():
    evidence = (
        Evidence("a.py", 1, 2, "", source="read_file"),
        Evidence("a.py", 1, 2, "", id=4, source="code"),
    )

    (line,) = check_citations("So it is [4].", evidence).sources

    assert (line.id, line.cited, line.source) == (4, True, "code")


@pytest.mark.parametrize(
    ("text", "copied"),
    [
        ("[1] ducks.md:1-3\n[2]", True),
        ("1. ducks.md\n```\ndef dive():\n    return fish\n```", True),
        ("    return fish", False),
        ("def dive():\n    return fish\nSo it gives fish.", False),
        ("It returns fish [1].", False),
        ("42 [1]", False),
        ("", False),
    ],
)
def test_a_text_that_only_copies_is_told_from_an_answer(text: str, *, copied: bool) -> None:
    evidence = [Evidence("ducks.md", 1, 3, "def dive():\n    return fish\n", id=1)]

    assert only_copies(text, evidence) is copied


DECK = Evidence("talks/deck.pptx", 30, 42, "", id=1, source="docs", place="slides 3-4")
BOOK = Evidence("budget.xlsx", 4, 9, "", id=2, source="docs", place="sheet Costs, rows 12-40")


@pytest.mark.parametrize(
    ("text", "cited", "invalid"),
    [
        ("It grew (talks/deck.pptx (slides 3-4)).", [1], ()),
        ("It grew, see deck.pptx (slide 4).", [1], ()),
        ("It grew, see `deck.pptx`, (Slide 3).", [1], ()),
        ("It grew, see deck.pptx (slide 7).", [], ("deck.pptx (slide 7)",)),
        ("It grew, see deck.pptx:3.", [1], ()),
        ("It grew, see deck.pptx:7.", [], ("deck.pptx:7",)),
        ("It costs 3, budget.xlsx (sheet Costs, row 13).", [2], ()),
        (
            "It costs 3, budget.xlsx (sheet Other, row 13).",
            [],
            ("budget.xlsx (sheet Other, row 13)",),
        ),
        ("It costs 3, budget.xlsx (sheet Costs).", [2], ()),
        ("The talk talks/deck.pptx (the one of May) says so.", [1], ()),
    ],
)
def test_a_place_that_is_no_line_is_checked_as_lines_are(
    text: str, cited: list[int], invalid: tuple[str, ...]
):
    found = check_citations(text, [DECK, BOOK])

    assert [line.id for line in found.sources if line.cited] == cited
    assert found.invalid == invalid
    assert str(found.sources[0]) in {str(DECK), str(BOOK)}
