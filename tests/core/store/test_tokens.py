from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from merganser.store.tokens import (
    MAX_TERM_CHARACTERS,
    SPELLED,
    TermCounter,
    TermCounts,
    TermNumbers,
    expand_word,
    parse_query,
    query_terms,
    spelled_term,
)

TEXTS = st.lists(
    st.one_of(
        st.text(max_size=60),
        st.text(alphabet="abAB01_ .é東京カ", max_size=60),
        st.sampled_from(["getUserName", "", "  ", "__", "def run(self): return HTTPServer2"]),
    ),
    max_size=6,
)


def count(texts: list[str]) -> TermCounts:
    return TermCounter(TermNumbers()).count(texts)


def as_counters(
    texts: list[str], counter: TermCounter, numbers: TermNumbers
) -> list[dict[str, int]]:
    counts = counter.count(texts)
    terms = list(numbers)
    rows: list[dict[str, int]] = [{} for _ in texts]
    for row, term, tf in zip(counts.chunk_row, counts.term_id, counts.tf, strict=True):
        assert terms[int(term)] not in rows[int(row)]
        rows[int(row)][terms[int(term)]] = int(tf)
    return rows


def counters(texts: list[str]) -> list[dict[str, int]]:
    numbers = TermNumbers()
    return as_counters(texts, TermCounter(numbers), numbers)


@pytest.mark.parametrize(
    ("word", "terms"),
    [
        ("run", ["run"]),
        ("Run", ["run"]),
        ("getUserName", ["getusername", "get", "user", "name", "getuser", "username"]),
        ("task_run_id", ["taskrunid", "task", "run", "id", "taskrun", "runid"]),
        ("__init__", ["init"]),
        ("HTTPServer", ["httpserver", "http", "server"]),
        ("parseJSON", ["parsejson", "parse", "json"]),
        ("GitHubClient", ["githubclient", "git", "hub", "client", "github", "hubclient"]),
        ("SHA256", ["sha256", "sha", "256"]),
        ("utf8", ["utf8", "utf", "8"]),
        ("sha256sum", ["sha256sum", "sha", "256", "sum", "sha256", "256sum"]),
        ("a1b2c3d4e5f6", ["a1b2c3d4e5f6"]),
        ("x86_64", ["x8664", "x86", "64", "x", "86"]),
        ("MAX_SIZE", ["maxsize", "max", "size"]),
        ("foo_foo", ["foofoo", "foo", "foo"]),
        ("___", []),
        ("Ünïcode", ["unicode"]),
        ("Hauptstraße", ["hauptstrasse"]),
        ("İSTANBUL", ["istanbul"]),
        ("Łódź", ["lodz"]),
        ("كَتَبَ", ["كتب"]),
        ("нашКод", ["нашкод", "наш", "код"]),
        ("東京タワー", ["東京", "京タ", "タワ", "ワー", "東", "京", "タ", "ワ", "ー"]),
        ("京", ["京"]),
        ("집을", ["집을", "집", "을"]),
        ("แมว", ["แม", "มว"]),
        ("utf8東京x", ["utf8", "utf", "8", "東京", "東", "京", "x"]),
        ("हिन्दी", ["हिन्दी"]),
    ],
)
def test_compound_gives_itself_and_its_parts(word: str, terms: list[str]):
    assert terms == expand_word(word)


@pytest.mark.parametrize("query", ["Go", "C#", "C++", "R", "the and", "to be or not"])
def test_short_and_common_words_are_kept(query: str):
    assert query_terms(query)


def test_query_terms_are_distinct_and_in_order():
    assert query_terms("fox FOX quick fox quick_fox") == ["fox", "quick", "quickfox"]


def test_inflected_words_are_one_term():
    assert query_terms("retry retries retried retrying") == ["retri"]


def test_inflected_words_are_found_in_identifiers():
    assert set(query_terms("flow runs")) <= set(query_terms("list_flow_runs"))


@pytest.mark.parametrize("word", ["x86s", "слова", "λόγοι"])
def test_words_of_other_characters_than_ascii_letters_keep_their_endings(word: str):
    assert query_terms(word)[0] == expand_word(word)[0]


@pytest.mark.parametrize(
    ("word", "term"),
    [
        ("retries", "retri retries"),
        ("Path", "path Path"),
        ("user_name", "usernam user_name"),
        ("café", "cafe café"),
        ("path", None),
        ("The", None),
        ("東京タワー", None),
        ("x" * 200, None),
    ],
)
def test_a_word_unlike_its_base_term_says_how_it_is_spelled(word: str, term: str | None):
    assert spelled_term(word) == term


def test_a_query_counts_its_words_and_joins_neighbours():
    assert parse_query("User name of user") == [
        ("user", "User", 2, ()),
        ("name", "name", 1, ()),
        ("of", "", 1, ()),
        ("usernam", "", 1, ("user", "name")),
        ("nameof", "", 1, ("name", "of")),
        ("ofus", "", 1, ("of", "user")),
    ]


def test_texts_and_queries_are_stemmed_alike_in_every_thread():
    words = "policies caching committed transactions scheduling"
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(query_terms, [words] * 200))

    assert [query_terms(words)] * 200 == found
    assert set(found[0]) < set(counters([words])[0])


def test_query_without_words_has_no_terms():
    assert query_terms("?!… —") == []


def test_decomposed_and_full_width_letters_equal_plain_ones():
    assert query_terms("café ＡＢＣ") == query_terms("cafe\u0301 ABC")


def test_very_long_word_is_one_bounded_term():
    assert [("ab" * 5000)[:MAX_TERM_CHARACTERS]] == expand_word("aB" * 5000)


def test_long_text_without_spaces_is_indexed_to_its_end():
    assert "終端" in query_terms("東" * 6000 + "終端")


def test_frequencies_and_lengths_of_known_texts():
    texts = ["run the run", "", "the task_run"]

    assert counters(texts) == [
        {"run": 2, "the": 1},
        {},
        {"the": 1, "taskrun": 1, "taskrun task_run": 1, "task": 1, "run": 1},
    ]
    assert count(texts).doc_len.tolist() == [3, 0, 4]  # of base terms


def test_frequency_saturates_at_255_but_length_does_not():
    counts = count(["x " * 1000])

    assert (counts.tf.tolist(), counts.doc_len.tolist()) == ([255], [1000])


def test_no_texts_give_empty_arrays_of_the_right_types():
    counts = count([])

    assert (len(counts.tf), len(counts.doc_len)) == (0, 0)
    assert (np.int64, np.int64, np.uint8, np.int32) == (
        counts.chunk_row.dtype,
        counts.term_id.dtype,
        counts.tf.dtype,
        counts.doc_len.dtype,
    )


@settings(deadline=None)
@given(TEXTS)
def test_counts_equal_the_terms_of_each_text_alone(texts: list[str]):
    alone = [counters([text])[0] for text in texts]
    bases = [{term: tf for term, tf in row.items() if SPELLED not in term} for row in alone]

    assert alone == counters(texts)
    assert all(set(query_terms(text)) <= set(row) for text, row in zip(texts, bases, strict=True))
    assert [sum(row.values()) for row in bases] == count(texts).doc_len.tolist()


@settings(deadline=None)
@given(TEXTS, TEXTS)
def test_a_counter_keeps_its_numbers_from_batch_to_batch(first: list[str], second: list[str]):
    numbers = TermNumbers()
    counter = TermCounter(numbers)
    counter.count(first)
    before = dict(numbers)

    assert counters(second) == as_counters(second, counter, numbers)
    assert before == {term: numbers[term] for term in before}


@pytest.mark.parametrize("at_once", [1, 2, 500])
def test_a_counter_that_forgot_its_words_counts_on(monkeypatch: pytest.MonkeyPatch, at_once: int):
    monkeypatch.setattr("merganser.store.tokens._MOST_WORDS", 2)
    monkeypatch.setattr("merganser.store.tokens._TEXTS_AT_ONCE", at_once)
    numbers = TermNumbers()
    counter = TermCounter(numbers)
    texts = ["run the getUserName", "user names, the café", "runs getUserName"]

    assert counters(texts) == [as_counters([text], counter, numbers)[0] for text in texts]


@settings(deadline=None)
@given(TEXTS)
def test_no_posting_is_repeated(texts: list[str]):
    counts = count(texts)

    pairs = list(zip(counts.term_id.tolist(), counts.chunk_row.tolist(), strict=True))
    assert len(set(pairs)) == len(pairs)


@settings(deadline=None)
@given(st.lists(st.sampled_from(["run", "Tie", "fooBar", "a_b", "x1"]), max_size=30))
def test_term_frequency_is_what_a_counter_says(words: list[str]):
    expected = Counter(term for word in words for term in expand_word(word))
    expected.update(spelled for word in words if (spelled := spelled_term(word)))

    assert [dict(expected)] == counters([" ".join(words)])
