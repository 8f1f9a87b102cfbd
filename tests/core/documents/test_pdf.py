"""What is read of a PDF file, and on which pages it stands."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from merganser.chunking import ChunkingOptions, chunk_document
from merganser.chunking.places import describe_places
from merganser.documents import pdf_text
from merganser.documents.pdf_text import read_pdf
from merganser.documents.reading import read_document
from merganser.documents.scanning import Document, scan_documents
from merganser.errors import SkipDocument

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def make_pdf(
    pages: Sequence[Sequence[str]],
    *,
    labels: str = "",
    outline: Sequence[tuple[str, int]] = (),
    streams: Sequence[str] = (),
) -> bytes:
    """Write a PDF file.

    Args:
        pages: The lines of each page.
        labels: Entries of the page labels' tree.
        outline: Titles with the pages that they lead to, from 1.
        streams: What is drawn, page by page, in place of ``pages``.
    """
    drawn = streams or [
        f"BT /F1 12 Tf 14 TL 72 720 Td {''.join(f'({line}) Tj T* ' for line in lines)}ET"
        for lines in pages
    ]
    kids = " ".join(f"{4 + 2 * n} 0 R" for n in range(len(drawn)))
    after = 4 + 2 * len(drawn)  # the first object behind the pages
    more = f" /PageLabels << /Nums [{labels}] >>" if labels else ""
    more += f" /Outlines {after} 0 R" if outline else ""
    objects = [
        f"<< /Type /Catalog /Pages 2 0 R{more} >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(drawn)} >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    box, font = "[0 0 612 792]", "/Resources << /Font << /F1 3 0 R >> >>"
    for n, stream in enumerate(drawn):
        objects += [
            f"<< /Type /Page /Parent 2 0 R /MediaBox {box} /Contents {5 + 2 * n} 0 R {font} >>",
            f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream",
        ]
    if outline:
        last = after + len(outline)
        objects.append(f"<< /First {after + 1} 0 R /Last {last} 0 R /Count {len(outline)} >>")
    for n, (title, page) in enumerate(outline, after + 1):
        follows = f" /Next {n + 1} 0 R" if n < after + len(outline) else ""
        to = f"/Dest [{2 + 2 * page} 0 R /Fit]"
        objects.append(f"<< /Title ({title}) /Parent {after} 0 R {to}{follows} >>")
    body, places = "%PDF-1.4\n", list[int]()
    for number, content in enumerate(objects, 1):
        places.append(len(body))
        body += f"{number} 0 obj\n{content}\nendobj\n"
    table = "".join(f"{place:010d} 00000 n \n" for place in places)
    body += f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}"
    body += f"trailer << /Size {len(objects) + 1} /Root 1 0 R >>\n"
    start = body.index("xref\n0 ")
    return f"{body}startxref\n{start}\n%%EOF\n".encode("ascii")


def scan_one(folder: Path, data: bytes) -> Document:
    (folder / "manual.pdf").write_bytes(data)
    (document,) = scan_documents(["manual.pdf"], base=folder).documents
    return document


def test_a_pdf_is_cited_by_its_pages(tmp_path: Path):
    words = ["The quick brown fox", "jumps over the lazy dog."]
    document = scan_one(tmp_path, make_pdf([["Ducks", "dive."], [], words, ["The end."]]))

    read = read_document(document)
    chunks = chunk_document(
        read.text,
        language=document.language,
        options=ChunkingOptions(size=46, overlap=0),
        headings=read.headings,
        places=read.places,
    )

    assert document.language == "pdf"
    assert read.text == "Ducks\ndive.\nThe quick brown fox\njumps over the lazy dog.\nThe end.\n"
    assert read.note == "1 of its 4 pages hold no text"
    assert [(c.symbol, c.place, c.text) for c in chunks] == [
        ("", "page 1", "Ducks\ndive."),
        ("", "page 3", "\n".join(words)),
        ("", "page 4", "The end."),
    ]


def test_pages_bear_the_labels_of_the_file_beside_their_numbers():
    pages = [["Preface"], ["More preface"], ["Start"]]

    read = read_pdf(make_pdf(pages, labels="0 << /S /r >> 2 << /S /D >>"))

    assert [describe_places(read.places, n, n) for n in (1, 2, 3)] == [
        "page 1, labelled i",
        "page 2, labelled ii",
        "page 3, labelled 1",
    ]
    assert describe_places(read.places, 1, 2) == "pages 1-2, labelled i-ii"


def test_the_outline_names_the_sections_where_their_titles_stand():
    pages = [["Cover"], ["1 Ducks", "They dive.", "2 Geese", "They hiss."], ["More of geese."]]
    outline = [("Ducks", 2), ("Geese", 2), ("Not on its page", 3), ("Nowhere", 99)]

    read = read_pdf(make_pdf(pages, outline=outline))

    assert [(h.title, read.text[h.start :].split("\n")[0]) for h in read.headings or ()] == [
        ("Ducks", "1 Ducks"),
        ("Geese", "2 Geese"),
        ("Not on its page", "More of geese."),
    ]


def _at(x: int, y: int, text: str) -> str:
    return f"BT /F1 10 Tf {x} {y} Td ({text}) Tj ET\n"


LEFT = [f"left column line {n} with some words in it" for n in range(12)]
RIGHT = [f"right column line {n} with other words" for n in range(12)]


def test_columns_that_the_file_has_line_by_line_are_read_one_after_the_other():
    rows = "".join(
        _at(50, 700 - 14 * n, one) + _at(320, 700 - 14 * n, two)
        for n, (one, two) in enumerate(zip(LEFT, RIGHT, strict=True))
    )
    title = _at(50, 730, "A title that goes across the whole page and both of its columns, too")

    read = read_pdf(make_pdf([], streams=[title + rows]))

    assert read.text.splitlines()[1:] == LEFT + RIGHT


def test_the_rows_of_a_table_stay_rows():
    rows = "".join(
        _at(50, 700 - 14 * n, f"item {n}") + _at(150, 700 - 14 * n, f"{n} EUR") for n in range(12)
    )

    read = read_pdf(make_pdf([], streams=[_at(50, 730, "x" * 80) + rows]))

    assert read.text.splitlines()[1:] == [f"item {n} {n} EUR" for n in range(12)]


def test_words_that_line_ends_part_are_joined_and_ligatures_written_out():
    page = "BT /F1 12 Tf 14 TL 72 720 Td (Ducks are mar-) Tj T* (vellous divers.) Tj ET"

    assert read_pdf(make_pdf([], streams=[page])).text == "Ducks are marvellous\ndivers.\n"
    assert pdf_text.clean_page("e\ufb03cient \ufb02ow\r\n\r\n  a\x00b ") == "efficient flow\na b"


@pytest.mark.parametrize(
    ("data", "reason", "detail"),
    [
        (make_pdf([[], []]), "empty", "its 2 pages hold no text; a scan needs text recognition"),
        (make_pdf([[]]), "empty", "its only page holds no text"),
        (b"%PDF-1.4\nbroken", "damaged", "not a PDF file that can be read"),
    ],
)
def test_a_pdf_without_text_is_skipped_with_the_reason(
    tmp_path: Path, data: bytes, reason: str, detail: str
):
    with pytest.raises(SkipDocument) as caught:
        read_document(scan_one(tmp_path, data))

    assert caught.value.reason == reason
    assert detail in caught.value.detail


def no_module(name: str) -> None:
    """Find no module, as ``find_spec`` does where nothing is installed."""


def test_without_the_extra_a_pdf_is_skipped_and_the_extra_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
):
    # What is not installed cannot be had for real in an environment that tests it too.
    monkeypatch.setattr(pdf_text, "find_spec", no_module)
    pdf_text.missing_pdf_extra.cache_clear()
    request.addfinalizer(pdf_text.missing_pdf_extra.cache_clear)
    (tmp_path / "manual.pdf").write_bytes(make_pdf([["Ducks"]]))

    scan = scan_documents(["."], base=tmp_path)

    assert [(s.path, s.reason) for s in scan.skipped] == [("manual.pdf", "extra")]
    assert "pip install '.[documents]'" in scan.skipped[0].detail
