from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from merganser.store.term_counts import TermCounter, TermCounts, TermNumbers
from merganser.store.tokens import (
    MAX_TERM_CHARACTERS,
    SPELLED,
    expand_word,
    language_term,
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
    assert [term[:4] for term in parse_query("User name of user")] == [
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
    monkeypatch.setattr("merganser.store.term_counts._MOST_WORDS", 2)
    monkeypatch.setattr("merganser.store.term_counts._TEXTS_AT_ONCE", at_once)
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


SENTENCES = {
    "danish": "Det er ikke en fejl, hvis filerne ikke kan læses af programmet på den maskine.",
    "dutch": "Het is niet nodig om de bestanden met een ander programma naar de map te kopiëren.",
    "finnish": (
        "Jos tiedosto ei ole olemassa, niin se on luotava kun ohjelma käynnistyy, ja myös muut."
    ),
    "french": "Les fichiers sont dans le dossier que vous avez choisi pour cette installation.",
    "german": (
        "Wenn die Dateien nicht von dem Programm gelesen werden, ist der Ordner für sie leer."
    ),
    "hungarian": "Ha a fájl nem létezik, az alkalmazás egy új mappa, és ez is csak egy hiba.",
    "italian": (
        "Il programma non legge i file della cartella, come è scritto nel manuale di questo."
    ),
    "polish": "Jeśli plik nie jest dostępny, to program może się zatrzymać po chwili na serwerze.",
    "portuguese": (
        "Os arquivos não são lidos, mas você pode usar uma pasta para os dados do projeto."
    ),
    "romanian": (
        "Dacă fișierul nu este în dosar, un program care nu poate citi este oprit cu o eroare."
    ),
    "russian": (
        "Если файлы не читаются программой, то это ошибка, и вы можете исправить её для всех."
    ),
    "spanish": "Los archivos no se leen, pero puede usar una carpeta para los datos del proyecto.",
    "swedish": "Det är inte ett fel om filerna som är på datorn inte kan läsas av programmet.",
    "turkish": (
        "Bu dosya için bir hata var ve bu çok önemli değil, daha sonra da olan bir şey gibi."
    ),
}


@pytest.mark.parametrize(("language", "sentence"), SENTENCES.items())
def test_a_text_is_known_by_its_language(language: str, sentence: str):
    [terms] = counters([sentence])

    spoken = [term for term in terms if term.startswith(SPELLED)]
    assert spoken == [SPELLED + language]
    assert all(term.endswith(f":{language}") for term in terms if ":" in term)
    assert any(":" in term for term in terms)


@pytest.mark.parametrize(
    "text",
    [
        "The files are in the folder that you have chosen for this, and it is not a mistake.",
        "for (const el of list) { el.de = den.la; en.un = el } // les la de el un en",
        "de, fr, es, it, no, da, se, el, is, et, on, la",
        "The German articles der, die, das and ein are not read by this parser, as it is said.",
        "The words der, die, das, und, ist and nicht are in the list of this file if you want it.",
        "東京はいい天気です。 データベース",
        "",
    ],
)
def test_english_code_and_tables_have_english_stems_alone(text: str):
    assert not [term for term in counters([text])[0] if ":" in term or term.startswith(SPELLED)]


@pytest.mark.parametrize(
    ("language", "one", "other"),
    [
        ("german", "Datenbanken", "datenbank"),
        ("german", "HÄUSER", "häuser"),
        ("french", "déployées", "déployer"),
        ("russian", "функциями", "функция"),
        ("spanish", "configuraciones", "configuración"),
        ("swedish", "servrarna", "servrar"),
        ("turkish", "dosyalar", "dosya"),
    ],
)
def test_forms_of_a_word_share_its_term(language: str, one: str, other: str):
    assert language_term(language, one) == language_term(language, other) is not None


@pytest.mark.parametrize("word", ["user_name", "getUserName", "sha256", "ab", "東京", "x" * 500])
def test_names_and_numbers_have_no_stem_in_other_languages(word: str):
    assert language_term("german", word) is None


def test_stems_of_another_language_make_no_text_longer():
    text = SENTENCES["german"]

    [length] = count([text]).doc_len.tolist()
    assert length == len(text.replace(",", "").replace(".", "").split())
