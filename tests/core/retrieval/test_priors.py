from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from merganser.retrieval.priors import PRIORS, Asked, Passage, weigh
from merganser.store.tokens import query_terms

if TYPE_CHECKING:
    from conftest import Rags

CODE = Passage("src/store/writer.py", "code", "Writer.open_segment")
TEST = Passage("tests/store/test_writer.py", "tests", "test_writer_opens_segment")
GUIDE = Passage("docs/writing.md", "docs", "Writing")
CHANGES = Passage("CHANGES.rst", "docs", "Version 2")
LICENCE = Passage("LICENSE.txt", "docs", "")


def prior(query: str, passage: Passage) -> dict[str, float]:
    return weigh(Asked.of(query, query_terms(query)), passage, PRIORS)


@pytest.mark.parametrize("behind", [TEST, GUIDE, CHANGES, LICENCE])
def test_source_is_before_what_is_about_it(behind: Passage):
    assert sum(prior("where is a segment opened", CODE).values()) > 0.0
    assert prior("where is a segment opened", behind)["kind"] < 0.0


@pytest.mark.parametrize(
    ("query", "asked"),
    [
        ("tests of the writer", TEST),
        ("test_writer_opens_segment", TEST),
        ("what changed in version 2", CHANGES),
        ("under which licence may I use it", LICENCE),
        ("how do I write a segment", GUIDE),
        ("installation guide", GUIDE),
    ],
)
def test_what_the_query_asks_for_is_not_behind(query: str, asked: Passage):
    assert prior(query, asked).get("kind", 0.0) >= 0.0


def test_names_that_the_query_says_come_first_the_more_the_more_they_share():
    whole, part = prior("open segment", CODE), prior("open a segment of the old store", CODE)

    assert whole["symbol"] > part["symbol"] > 0.0
    assert prior("writer", CODE)["file"] > 0.0
    assert prior("store", CODE)["path"] > 0.0
    assert set(prior("segment writer", TEST)) == {"kind"}  # a test is called after what it tests


def test_each_prior_is_off_by_its_name():
    asked = Asked.of("open segment", query_terms("open segment writer store"))

    assert set(weigh(asked, CODE, PRIORS)) == {"symbol", "file", "path"}
    assert set(weigh(asked, CODE, {"file"})) == {"file"}
    assert weigh(asked, CODE, ()) == {}


@pytest.mark.parametrize("fusion", ["standardised", "rrf"])
async def test_priors_are_in_the_score_and_explained(rags: Rags, fusion: str):
    await rags.build(
        {
            "tests/test_ducks.py": "def test_duck():\n    assert dive(duck)\n",
            "src/ducks.py": "def dive(duck):\n    return duck\n",
            "src/geese.py": "def walk(goose):\n    return goose\n",
        }
    )
    rag = rags.rag(fusion={"strategy": fusion})

    result = await rags.open(rag).search("dive of a duck", explain=True)

    for hit in result.hits:
        assert hit.explanation is not None
        added = sum(hit.explanation.priors.values())
        assert hit.score == pytest.approx(hit.explanation.fused_score + added)
    why = {hit.path: hit.explanation.priors for hit in result.hits if hit.explanation}
    assert why["tests/test_ducks.py"]["kind"] < 0.0 < why["src/ducks.py"]["file"]
    off = rags.rag(fusion={"strategy": fusion}, ranking="off")
    plain = await rags.open(off).search("dive of a duck", explain=True)
    assert [hit.explanation.priors for hit in plain.hits if hit.explanation] == [{}] * 3
