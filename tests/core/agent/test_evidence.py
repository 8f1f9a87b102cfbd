from hypothesis import given
from hypothesis import strategies as st

from merganser.agent.evidence import (
    Evidence,
    evidence_from_json,
    evidence_to_json,
    fit_evidence,
    number_hits,
    render_evidence,
)
from merganser.retrieval.hits import Hit

TEXTS = st.lists(st.text(alphabet="ab`\n", min_size=1, max_size=40), min_size=1, max_size=6)


def hit(path: str, start: int, text: str = "text\n") -> Hit:
    return Hit(path, start, start + text.count("\n"), text, 1.0)


def test_hits_get_numbers_in_order_and_a_repeated_one_keeps_its_own():
    first = number_hits([hit("a.py", 1), hit("b.py", 1)], source="code")
    known = {item.key: item.id for item in first if item.id is not None}

    second = number_hits([hit("c.py", 1), hit("b.py", 1)], source="code", first=3, known=known)

    assert [item.id for item in first] == [1, 2]
    assert [item.id for item in second] == [3, 2]


def test_the_same_passage_twice_is_shown_once():
    assert len(number_hits([hit("a.py", 1), hit("a.py", 1)], source="code")) == 1


def test_the_same_place_in_two_rags_is_two_passages():
    known = {item.key: 1 for item in number_hits([hit("a.py", 1)], source="code")}

    (other,) = number_hits([hit("a.py", 1)], source="docs", first=2, known=known)

    assert other.id == 2


def test_what_does_not_fit_is_left_out_and_counted():
    items = [Evidence(f"{n}.py", 1, 1, "x" * 10, id=n) for n in (1, 2, 3)]

    kept, left_out = fit_evidence(items, 25)

    assert ([item.id for item in kept], left_out) == ([1, 2], 1)


def test_a_first_passage_that_is_too_long_is_cut_at_a_line_with_its_end_moved():
    item = Evidence("a.py", 11, 14, "one\ntwo\nthree\nfour\n", id=1)

    (kept,), left_out = fit_evidence([item], 10)

    assert (kept.text, kept.start_line, kept.end_line, left_out) == ("one\ntwo\n", 11, 12, 1)


@given(TEXTS, st.integers(1, 100))
def test_what_is_kept_fits_and_is_a_prefix(texts: list[str], room: int):
    items = [
        Evidence("a.py", 1, 1 + text.removesuffix("\n").count("\n"), text, id=number)
        for number, text in enumerate(texts)
    ]

    kept, left_out = fit_evidence(items, room)

    assert sum(len(item.text) for item in kept) <= room
    assert all(whole.text.startswith(item.text) for item, whole in zip(kept, items, strict=False))
    assert left_out == len(items) - sum(item in items for item in kept)


@given(st.text(alphabet="`x\n", max_size=40))
def test_no_text_closes_its_own_fence(text: str):
    block = render_evidence([Evidence("a.py", 1, 2, text, id=1)])

    head, fence, *inside, last = block.split("\n")
    assert head == "[1] a.py:1-2"
    assert last == fence
    assert fence not in "\n".join(inside)


def test_a_passage_survives_the_tool_result():
    item = Evidence("a.py", 3, 9, "text", id=7, source="code", score=0.5)

    assert item == evidence_from_json(evidence_to_json(item), source="code")


def test_the_tool_result_has_the_references_keys():
    row = evidence_to_json(Evidence("a.py", 3, 9, "text", id=7, score=0.5))

    assert {"source_path", "content", "similarity", "chunk_index"} <= row.keys()
    assert row["lines"] == "3-9"


def test_a_row_that_is_no_passage_is_passed_over():
    assert evidence_from_json({"source_path": "a.py"}, source="code") is None
    assert evidence_from_json("text", source="code") is None
