from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from merganser.retrieval.lexical import subject_terms

if TYPE_CHECKING:
    from tests.core.retrieval.conftest import Rags


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
    assert tuple(term.base for term in subject_terms(query) if not term.of) == terms


SPELLINGS = {
    "1.txt": "Selections are selected, and what one selects is a selection. " * 2,
    "2.txt": "It was long and dull, and of what was said there about selecting nothing is left.",
    "3.txt": "Many paths, all of them paths, lead along the paths of paths to other paths.",
    "4.txt": "There is a long and winding way through woods, meadows and a single path.",
    "5.txt": "There is a long and winding way through woods, meadows and a single Path.",
    "6.txt": "Le cafe est ferme. Le cafe est loin. Le cafe.",
    "7.txt": "Nous avons longtemps discuté de toutes ces choses dans un petit café.",
}


@pytest.mark.parametrize("resident", [False, True])
@pytest.mark.parametrize(
    ("query", "first"),
    [
        ("selecting", "2.txt"),
        ("path", "4.txt"),
        ("Path", "5.txt"),
        ("paths", "3.txt"),
        ("café", "7.txt"),
        ("cafe", "6.txt"),
        ("SELECTING", "2.txt"),  # but for capitals
    ],
)
async def test_the_spelling_of_the_query_comes_first(
    rags: Rags, query: str, first: str, *, resident: bool
):
    await rags.build(SPELLINGS)
    rag = rags.rag(rags.strategy("bm25"))

    hits = (await rags.open(rag, resident=resident).search(query)).hits

    assert hits[0].path == first
    assert len(hits) > 1  # the other spellings are found too


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("class GitHubClient: ...", "github"),
        ("get_user_name()", "getUserName"),
        ("getUserName()", "user_name"),
        ("the username of somebody", "user name"),
        ("sha256sum file", "sha256"),
        ("黒い猫が眠っている。", "猫"),
        ("데이터베이스를 닫는다", "데이터베이스"),
        ("แมวดำนอนหลับ", "แมว"),
        ("Die Hauptstraße ist gesperrt.", "hauptstrasse"),
    ],
)
async def test_words_are_found_however_they_are_joined_and_written(
    rags: Rags, text: str, query: str
):
    await rags.build({"other.txt": "Nothing of that kind.", "this.txt": text})
    rag = rags.rag(rags.strategy("bm25"))

    hits = (await rags.open(rag).search(query)).hits

    assert [hit.path for hit in hits] == ["this.txt"]


async def test_a_word_counts_as_often_as_the_query_has_it(rags: Rags):
    await rags.build({"a.txt": "heron and stork", "b.txt": "heron and ibis", "c.txt": "ibis"})
    rag = rags.rag(rags.strategy("bm25"))

    hits = (await rags.open(rag).search("stork ibis ibis ibis")).hits

    assert hits[0].path == "c.txt"
    assert hits[-1].path == "a.txt"


GERMAN = {
    "häuser.txt": "Die Häuser werden von dem Programm gelesen und für den Bericht mit gezählt.",
    "ordner.txt": "Der Ordner ist nicht leer, und die Dateien werden auf dem Server mit gezählt.",
    "english.txt": "The folder is not empty, and the files of this server are counted for it.",
}


@pytest.mark.parametrize("resident", [False, True])
@pytest.mark.parametrize(
    ("query", "paths"),
    [
        ("Haus", ["häuser.txt"]),
        ("Ordners", ["ordner.txt"]),
        ("servern", ["ordner.txt"]),  # stays German: no form of the English "server"
        ("häuser", ["häuser.txt"]),
        ("folders", ["english.txt"]),
        ("Häusern gelesene Ordnern", ["häuser.txt", "ordner.txt"]),
    ],
)
async def test_words_are_found_by_their_forms_in_the_language_of_the_text(
    rags: Rags, query: str, paths: list[str], *, resident: bool
):
    await rags.build(GERMAN)
    rag = rags.rag(rags.strategy("bm25"))

    hits = (await rags.open(rag, resident=resident).search(query)).hits

    assert [hit.path for hit in hits] == paths
