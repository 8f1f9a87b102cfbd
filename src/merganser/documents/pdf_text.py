"""Read the text of PDF files, page by page.

The law: line k of the text is page k of the file, so what are lines elsewhere are pages here:
``manual.pdf:3-4`` cites pages 3 and 4. Pages are sections named ``page 3``.

The reader is pdfium, by the extra ``documents``; without it no PDF is a document. It is a library
in C and files come from strangers, so it runs in a process of its own
(``merganser.documents.apart``).
"""

from __future__ import annotations

import re
from contextlib import closing
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from merganser.chunking.places import Place
from merganser.chunking.sections import Heading
from merganser.documents import apart
from merganser.documents.extracted import Extracted
from merganser.errors import SkipDocument
from merganser.humanize import install_extra

MAX_CHARACTERS = 32_000_000
"""Most text of one file; the longest manuals have 10,000 pages of 3,000 characters."""

# pdfium writes U+FFFE, or U+0002 in older files, where a line ends in a hyphen inside a word.
_HYPHEN = re.compile("[\ufffe\x02]\\s*")
_PASSWORD_WANTED = 4  # FPDF_ERR_PASSWORD
_UNPRINTABLE = re.compile("[\x00-\x08\x0e-\x1f\x7f\uffff\ud800-\udfff]")


@cache
def missing_pdf_extra() -> str:
    """Say how to install what PDF files are read with; empty when it is there. Imports nothing."""
    if find_spec("pypdfium2") is None:
        return f"PDF files need an extra: {install_extra('documents')}"
    return ""


def read_pdf(data: bytes) -> Extracted:
    """Return the text of a PDF file with its pages as headings.

    Args:
        data: The file.

    Returns:
        One line a page, blank for a page without text, and a heading for each of the others.

    Raises:
        SkipDocument: ``extra`` without pdfium; ``damaged``; ``encrypted`` when it needs a password;
            ``empty`` when no page holds text, as in scans; ``too large`` when they hold too much;
            ``unreadable`` when it takes too long or breaks the reader.
    """
    if missing := missing_pdf_extra():
        raise SkipDocument("extra", missing)
    return apart.SHARED.read(f"{__name__}:extract", data)


def extract(data: bytes) -> Extracted:
    """Read a file; runs apart."""
    pages = [_one_line(page) for page in read_pages(data)]
    if not any(pages):
        count = f"{len(pages)} pages hold" if len(pages) != 1 else "only page holds"
        raise SkipDocument("empty", f"its {count} no text; a scan needs text recognition first")
    headings: list[Heading] = []
    start = 0
    for number, page in enumerate(pages, 1):
        if page:
            headings.append(Heading(1, f"page {number}", start))
        start += len(page) + 1
    places = tuple(Place(number, (("page", number),)) for number in range(1, len(pages) + 1))
    return Extracted("\n".join(pages) + "\n", tuple(headings), places)


def read_pages(data: bytes) -> list[str]:
    """Return the text of each page as pdfium gives it."""
    pdfium: Any = import_module("pypdfium2")
    try:
        file = pdfium.PdfDocument(data)
    except pdfium.PdfiumError as error:
        if error.err_code == _PASSWORD_WANTED:
            raise SkipDocument("encrypted", "it needs a password") from error
        raise SkipDocument("damaged", f"not a PDF file that can be read: {error}") from error
    pages: list[str] = []
    room = MAX_CHARACTERS
    with closing(file):
        try:
            for number in range(len(file)):
                pages.append(_read_page(file, number))
                room -= len(pages[-1]) + 1
                if room < 0:
                    what = f"more than {MAX_CHARACTERS:,} characters of text"
                    raise SkipDocument("too large", what)
        except pdfium.PdfiumError as error:
            raise SkipDocument("damaged", f"a page cannot be read: {error}") from error
    return pages


def _read_page(file: Any, number: int) -> str:
    """Return the visible text of a page."""
    with closing(file[number]) as page, closing(page.get_textpage()) as text:
        return text.get_text_bounded()


def _one_line(page: str) -> str:
    """Join the lines of a page, and the words that their ends parted."""
    return " ".join(_UNPRINTABLE.sub(" ", _HYPHEN.sub("", page)).split())
