"""A folder of documents that real programs wrote: each is asked about, and cited where it stands.

``tests/data/documents/README.md`` says which program wrote which file.
"""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from merganser.agent.citations import check_citations
from merganser.agent.evidence import Evidence
from merganser.chunking import ChunkingOptions
from merganser.documents.scanning import scan_documents
from merganser.indexing.run import index_once_async
from tests.core.retrieval.conftest import Rags

if TYPE_CHECKING:
    from collections.abc import Iterator

    from merganser.retrieval import Retriever

DOCUMENTS = Path(__file__).parents[2] / "data" / "documents"
HANDBOOK = "section Pump station handbook, paragraph 1 to section Starting a pump > In frost, "

MINUTES = "section Minutes of the flood committee, paragraph 1 to "

ASKED = [
    # what the file says, the file, where that stands
    ("fourteen litres", "handbook.docx", f"{HANDBOOK}paragraph 3"),  # as tracked changes have it
    ("brass dipstick", "handbook.docx", f"{HANDBOOK}paragraph 3"),  # a footnote
    ("Lantern ring", "handbook.docx", "section Spare parts, paragraphs 1-2"),
    ("blue cabinet", "handbook.docx", "section Spare parts, paragraphs 1-2"),  # a text box
    ("internal use only", "handbook.docx", "page header"),
    ("glycol heater", "handbook.odt", f"{HANDBOOK}paragraph 3"),
    ("Gland packing", "handbook.odt", "section Spare parts, paragraphs 1-2"),
    ("glycol heater", "handbook.rtf", f"{HANDBOOK}paragraph 3"),
    ("Gland packing", "handbook.rtf", "section Spare parts, paragraphs 1-2"),
    ("glycol heater", "handbook.pdf", "page 1"),
    (
        "Nora Vickers",
        "minutes.docx",
        f"{MINUTES}section Decisions > Costs, paragraph 1",
    ),
    ("four fifths", "minutes.rtf", "paragraph 1 to section Decisions > Costs, paragraph 1"),
    (
        "six weeks",
        "leave.odt",
        "section Leave policy, paragraph 1 to section Leave policy > Unpaid leave, paragraph 1",
    ),
    ("red digits", "letter.rtf", "paragraph 1 to table 1, row 3"),
    ("Кендале", "letter.rtf", "paragraph 1 to table 1, row 3"),
    ("telemetry buffer", "clear.rtf", "paragraph 1"),
    ("61 litres", "roadmap.pptx", "slide 2"),
    ("provisional until", "roadmap.pptx", "slide 2"),  # the speaker's notes
    ("Blea Water", "roadmap.pptx", "slide 3"),
    ("Grisedale siphon", "roadmap.pptx", "slide 4"),
    ("chlorine analyser", "roadmap.odp", "slide 5"),
    ("louder than they expect", "induction.pptx", "slide 3"),
    ("Leak noise logger", "induction.pptx", "slide 4"),
    ("masts at Skelwith", "budget.xlsx", "sheet Budget, rows 38-49"),
    ("Awa Diop", "budget.xlsx", "sheet People, rows 1-4"),
    ("Marsh and Sons", "budget.xlsx", "sheet Old suppliers, rows 1-2"),
    ("masts at Skelwith", "budget.ods", "sheet Budget, rows 38-49"),
    ("Piotr Lang", "budget.ods", "sheet People, rows 1-4"),
    ("staff gauge", "stations.xlsx", "sheet stations, rows 170-182"),
    ("painted stone", "manual.epub", "chapter Crossing a ford"),
    ("yellow paper", "manual.epub", "chapter Reporting"),
    ("eleven cubic metres", "borehole.pdf", "page 2"),
    ("greensand", "borehole.pdf", "page 3"),
]
LINES = [
    # what the file says, the file, the line
    ("fourth day", "leave.html", 165),
    ("six weeks", "leave.rst", 14),
    ("painted stone", "manual.adoc", 15),
    ("yellow paper", "manual.md", 21),
    ("fourth day", "leave.tex", 63),
    ("twenty-seven days", "leave.xml", 12),
    ("six weeks", "leave.1", 27),
    ("overflowed twice", "analysis.ipynb", 0),
    ("Hydrologist", "people.csv", 4),
    ("staff gauge", "stations.tsv", 174),
    ("otter sat", "events.jsonl", 12),
    ("Watendlath", "notice.txt", 3),
    ("graissé", "compte-rendu.txt", 3),
    ("nightly upload", "clear.c", 1),
    ("Compston Road", "valves.sql", 4),
]


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Retriever]:
    """Return a retriever by words over the folder."""
    with ExitStack() as stack:
        rags = Rags(DOCUMENTS, stack)
        index = rags.index(
            folder=tmp_path_factory.mktemp("mixed") / "index",
            embedding=None,
            chunking=ChunkingOptions(size=600, overlap=0, code_aware=True),
        )
        asyncio.run(index_once_async(index, None))
        rag = rags.rag(rags.strategy(index=index, limit=30), limit=30, deduplicate=False)
        yield rags.open(rag, embeds=False)


@pytest.mark.parametrize(("said", "path", "place"), ASKED)
async def test_a_passage_is_cited_where_it_stands(
    asked: Retriever, said: str, path: str, place: str
):
    hits = (await asked.search(said)).hits
    hit = next(hit for hit in hits if hit.path == path and said in " ".join(hit.text.split()))

    assert hit.place == place
    assert hit.source == f"{path} ({place})"
    shown = Evidence(hit.path, hit.start_line, hit.end_line, hit.text, id=1, place=hit.place)
    for cited in (hit.source, "[1]"):
        citations = check_citations(f"As it says in {cited}.", (shown,))
        assert citations.invalid == ()
        assert [source.place for source in citations.sources] == [place]


@pytest.mark.parametrize(("said", "path", "line"), LINES)
async def test_a_line_is_cited_where_it_stands(asked: Retriever, said: str, path: str, line: int):
    hits = (await asked.search(said)).hits
    hit = next(hit for hit in hits if hit.path == path and said in " ".join(hit.text.split()))

    assert hit.start_line <= line <= hit.end_line or "cell" in hit.place


def test_the_folder_holds_thirty_documents_and_each_is_read_or_named():
    scan = scan_documents(["."], base=DOCUMENTS, respect_vcs=False)

    assert len(scan.documents) + len(scan.skipped) >= 30
    assert {path for _, path, _ in [*ASKED, *LINES]} | {"letter.doc", "README.md"} == {
        document.path for document in scan.documents
    }
