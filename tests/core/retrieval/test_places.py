"""Hits in files without lines of their own: a person can open what they name."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from merganser.evaluation.metrics import Locator, mark_relevant
from merganser.evaluation.queries import Label
from merganser.store.filters import Filter
from merganser.store.reader import open_snapshot
from tests.core.documents.test_notebook import NOTEBOOK
from tests.core.documents.test_pdf import make_pdf

if TYPE_CHECKING:
    from .conftest import Rags

FILLER = [f"Filler line {n} of the page." for n in range(12)]
PAGES = [["Smews nest in trees.", *FILLER], [*FILLER, "Goosanders eat eels."], ["Scoters moult."]]


@pytest.fixture
async def placed(rags: Rags) -> Rags:
    rags.write({"plain.md": "# Plain\n\nGrebes dance.\n", "churn.ipynb": NOTEBOOK.decode()})
    (rags.folder / "birds.pdf").write_bytes(make_pdf(PAGES, labels="0 << /S /r >>"))
    rags.write({"page.html": "<h1>One</h1>\n\n\n<p>Herons wait.</p>\n\n<p>Storks clatter.</p>\n"})
    await rags.build({})
    return rags


@pytest.mark.parametrize(
    ("query", "source"),
    [
        ("goosanders", "birds.pdf (page 2, labelled ii)"),
        ("scoters", "birds.pdf (page 3, labelled iii)"),
        ("fit_churn", "churn.ipynb (cells 1-4)"),
        ("grebes", "plain.md:1-3"),
        ("storks", "page.html:1-6"),
    ],
)
async def test_a_hit_names_a_place(placed: Rags, query: str, source: str):
    strategy = placed.strategy()
    retriever = placed.open(placed.rag(strategy))
    [hit] = (await retriever.search(query, limit=1)).hits

    assert hit.source == source
    shown = json.loads(json.dumps(hit.as_json()))
    assert shown["source"] == source
    assert bool(shown["place"]) == ("(" in source)


@pytest.mark.parametrize("printed", ["birds.pdf", "birds.pdf (page 2, labelled ii)"])
async def test_a_filter_takes_what_a_hit_prints_and_freshness_is_that_of_the_file(
    placed: Rags, printed: str
):
    strategy = placed.strategy()
    retriever = placed.open(placed.rag(strategy))
    found = await retriever.search("goosanders", where=Filter(paths=(printed,)))
    (placed.folder / "birds.pdf").write_bytes(make_pdf([["Other"]]))
    stale = await retriever.search("goosanders")

    assert [hit.stale for hit in found.hits] == [False]
    assert [hit.stale for hit in stale.hits] == [True]


async def test_a_whole_file_stands_on_all_of_its_pages(placed: Rags):
    rag = placed.rag(placed.strategy(), return_full_content=True)
    retriever = placed.open(rag)
    [hit] = (await retriever.search("goosanders")).hits

    assert hit.source == "birds.pdf (pages 1-3, labelled i-iii)"


async def test_lines_of_a_label_are_pages_and_quotes_are_found_behind_blank_lines(placed: Rags):
    strategy = placed.strategy()
    retriever = placed.open(placed.rag(strategy))
    hits = (await retriever.search("goosanders")).hits
    page = (await retriever.search("storks")).hits
    with open_snapshot(strategy.index.folder) as snapshot:
        locator = Locator([snapshot])
        second = locator.locate(Label(path="birds.pdf", lines=(2, 2)))
        third = locator.locate(Label(path="birds.pdf", lines=(3, 3)))
        behind = locator.locate(Label(path="birds.pdf", lines=(9, 9)))
        quote = locator.locate(Label(path="page.html", quote="Storks clatter."))

    assert mark_relevant(hits, [second]).relevant[0]
    assert not mark_relevant(hits, [third]).relevant[0]
    assert behind.stale == "birds.pdf has no place with that number; the last is 3"
    assert quote.spans == ((6, 6),)
    assert mark_relevant(page, [quote]).relevant[0]
