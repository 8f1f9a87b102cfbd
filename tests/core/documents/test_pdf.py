"""What is read of a PDF file; its lines are its pages."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from merganser.chunking import ChunkingOptions, chunk_document
from merganser.documents import pdf_text
from merganser.documents.reading import read_document
from merganser.documents.scanning import Document, scan_documents
from merganser.errors import SkipDocument

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def make_pdf(pages: Sequence[Sequence[str]]) -> bytes:
    """Write a PDF file with lines of text on pages."""
    kids = " ".join(f"{4 + 2 * n} 0 R" for n in range(len(pages)))
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    box, font = "[0 0 612 792]", "/Resources << /Font << /F1 3 0 R >> >>"
    for n, lines in enumerate(pages):
        shown = "".join(f"({line}) Tj T* " for line in lines)
        stream = f"BT /F1 12 Tf 14 TL 72 720 Td {shown}ET"
        objects += [
            f"<< /Type /Page /Parent 2 0 R /MediaBox {box} /Contents {5 + 2 * n} 0 R {font} >>",
            f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream",
        ]
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


def test_the_lines_of_a_pdf_are_its_pages(tmp_path: Path):
    words = ["The quick brown fox", "jumps over the lazy dog."]
    document = scan_one(tmp_path, make_pdf([["Ducks", "dive."], [], words, ["The end."]]))

    read = read_document(document)
    chunks = chunk_document(
        read.text,
        language=document.language,
        options=ChunkingOptions(size=46, overlap=0),
        headings=read.headings,
    )

    assert document.language == "pdf"
    assert read.text == f"Ducks dive.\n\n{' '.join(words)}\nThe end.\n"
    assert [(c.symbol, c.start_line, c.end_line, c.text) for c in chunks] == [
        ("page 1", 1, 1, "Ducks dive."),
        ("page 3", 3, 3, " ".join(words)),
        ("page 4", 4, 4, "The end."),
    ]


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
