from __future__ import annotations

import math
import re
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from merganser.retrieval.bm25 import Ranking, Weighing, explain_chunk, score_chunks, split_postings
from merganser.store.rows import Postings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

STOP_WORDS = set(
    re.findall(r"\w+", "the a an and or but in on at to for of as by is was are were be been")
)


def reference_tokens(text: str) -> list[str]:
    words = re.sub(r"[.,!?;:()\[\]{}\"'\n\t]", " ", text.lower()).split()
    return [word for word in words if len(word.encode()) > 2 and word not in STOP_WORDS]


def postings_of(documents: Sequence[Sequence[str]], terms: Sequence[str]) -> Postings:
    rows = [
        (index, key, Counter(words)[term], len(words))
        for index, term in enumerate(terms)
        for key, words in enumerate(documents)
        if term in words
    ]
    columns = list(zip(*rows, strict=True)) or [(), (), (), ()]
    return Postings(
        term_index=np.array(columns[0], dtype=np.int32),
        key=np.array(columns[1], dtype=np.int64),
        tf=np.array(columns[2], dtype=np.uint8),
        doc_len=np.array(columns[3], dtype=np.int32),
    )


def score(documents: Sequence[Sequence[str]], terms: Sequence[str], **options: float) -> Ranking:
    found = split_postings(postings_of(documents, terms), len(terms))
    return score_chunks(found, Weighing(len(documents), sum(map(len, documents)), **options))


def test_scores_are_the_reference_ones_where_definitions_coincide(golden: Callable[[str], Any]):
    # cagent divides by the number of terms and cuts at 1, and lists chunks that hold none
    # of the terms with a score of 0.
    facts = golden("bm25.json")
    documents = [reference_tokens(text) for text in facts["documents"]]
    for case in facts["queries"]:
        ranking = score(documents, case["tokens"])
        ours = dict(zip(ranking.keys.tolist(), ranking.scores.tolist(), strict=True))

        expected = {int(path[1:]): value for path, value in case["scores"].items()}
        length = len(case["tokens"])
        assert expected == pytest.approx(
            {key: min(ours.get(key, 0.0) / length, 1.0) for key in expected}
        )


def test_scores_are_not_cut_at_one():
    ranking = score([["fox"] * 5, ["dog"], ["cat"], ["owl"]], ["fox"])

    assert ranking.scores[0] > 1


def test_chunk_without_any_term_is_no_hit():
    assert score([["fox"], ["dog"]], ["fox"]).keys.tolist() == [0]


def test_unknown_terms_and_no_terms_give_nothing():
    assert len(score([["fox"]], ["zzz"])) == 0
    assert len(score([["fox"]], [])) == 0
    assert len(score([], ["fox"])) == 0


def test_term_in_every_chunk_still_counts_for_more_than_nothing():
    assert (score([["the"], ["the"]], ["the"]).scores > 0).all()


def test_b_zero_ignores_length_and_k1_zero_ignores_repetition():
    documents = [["fox"], ["fox", "fox", "den", "den", "den"], ["dog"]]

    assert len(set(score(documents, ["fox"], k1=0.0).scores.tolist())) == 1
    even = score([["fox"], ["fox", "den", "den"], ["dog"]], ["fox"], b=0.0)
    assert len(set(even.scores.tolist())) == 1


def test_equal_scores_are_all_kept_at_the_cut():
    ranking = score([["fox"], ["fox"], ["fox"], ["dog"]], ["fox"])

    assert ranking.head(1).keys.tolist() == [0, 1, 2]
    assert ranking.head(0).keys.tolist() == []


def test_explained_terms_add_up_to_the_score():
    documents = [["fox", "den"], ["fox", "fox"], ["dog", "den"]]
    terms = ["fox", "den"]
    ranking = score(documents, terms)

    found = split_postings(postings_of(documents, terms), len(terms))
    parts = explain_chunk(found, 0, terms=terms, weighing=Weighing(3, 6))

    assert dict(zip(ranking.keys.tolist(), ranking.scores.tolist(), strict=True))[0] == (
        pytest.approx(sum(parts.values()))
    )


WORDS = st.lists(st.sampled_from("abcde"), min_size=1, max_size=8)


@given(st.lists(WORDS, min_size=1, max_size=8), st.lists(st.sampled_from("abcdefg"), unique=True))
def test_formula_equals_a_plain_loop(documents: list[list[str]], terms: list[str]):
    count, average = len(documents), sum(map(len, documents)) / len(documents)
    expected: dict[int, float] = {}
    for term in terms:
        df = sum(term in words for words in documents)
        idf = math.log((count - df + 0.5) / (df + 0.5) + 1)
        for key, words in enumerate(documents):
            if tf := words.count(term):
                norm = 1.2 * (1 - 0.6 + 0.6 * len(words) / average)
                expected[key] = expected.get(key, 0.0) + idf * tf * 2.2 / (tf + norm)

    ranking = score(documents, terms, k1=1.2, b=0.6)

    assert expected == pytest.approx(
        dict(zip(ranking.keys.tolist(), ranking.scores.tolist(), strict=True))
    )
    assert sorted(ranking.scores.tolist(), reverse=True) == ranking.scores.tolist()


@given(
    st.lists(WORDS, max_size=40),
    st.lists(st.sampled_from("abcdef"), unique=True),
    st.integers(0, 12),
)
def test_limit_gives_the_head_of_the_full_ranking(
    documents: list[list[str]], terms: list[str], limit: int
):
    full = score(documents, terms)
    found = split_postings(postings_of(documents, terms), len(terms))
    weighing = Weighing(len(documents), sum(map(len, documents)))

    best = score_chunks(found, weighing, limit=limit)

    expected = full.head(limit)
    assert expected.keys.tolist() == best.keys.tolist()
    assert expected.scores.tobytes() == best.scores.tobytes()


def test_frequent_terms_are_left_out_of_hopeless_chunks_without_changing_a_digit():
    # 3,000 chunks with a frequent word, 40 of them with rare ones: pruning sets in.
    random = np.random.default_rng(3)
    documents = [
        ["the"] * int(random.integers(1, 5))
        + ["rare"] * (i % 75 == 0)
        + ["rarer"] * (i % 150 == 0) * int(random.integers(1, 3))
        + ["filler"] * int(random.integers(0, 9))
        for i in range(3000)
    ]
    terms = ["the", "rare", "rarer", "filler"]
    found = split_postings(postings_of(documents, terms), len(terms))
    weighing = Weighing(len(documents), sum(map(len, documents)))

    best, full = score_chunks(found, weighing, limit=10), score_chunks(found, weighing)

    assert full.head(10).keys.tolist() == best.keys.tolist()
    assert full.head(10).scores.tobytes() == best.scores.tobytes()


@pytest.mark.parametrize("cheap_table", [0, 8, 1000])
def test_pruning_keeps_ranking_and_ties_for_words_of_every_frequency(
    monkeypatch: pytest.MonkeyPatch, cheap_table: int
):
    # Words as frequent as in real text, every text four times, so that ties stand at every cut.
    monkeypatch.setattr("merganser.retrieval.bm25._CHEAP_TABLE", cheap_table)
    random = np.random.default_rng(11)
    vocabulary = [f"w{i}" for i in range(60)]
    shares = 1 / np.arange(1, len(vocabulary) + 1)
    texts = [
        random.choice(vocabulary, int(random.integers(3, 25)), p=shares / shares.sum()).tolist()
        for _ in range(500)
    ]
    documents = texts * 4
    weighing = Weighing(len(documents), sum(map(len, documents)))
    for _ in range(12):
        terms = random.choice(vocabulary, 9, replace=False).tolist()
        found = split_postings(postings_of(documents, terms), len(terms))
        full = score_chunks(found, weighing)
        for limit in (1, 7, 20, 300):
            best = score_chunks(found, weighing, limit=limit)

            assert full.head(limit).keys.tolist() == best.keys.tolist()
            assert full.head(limit).scores.tobytes() == best.scores.tobytes()
