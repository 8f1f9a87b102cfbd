"""Read the text of PDF files: lines in reading order, cited by page.

Headings are the file's own outline; without one a section is a page. The reader is pdfium, by the
extra ``documents``; without it no PDF is a document. It is a library in C and files come from
strangers, so it runs in a process of its own (``merganser.documents.apart``).
"""

from __future__ import annotations

import re
from contextlib import closing
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple
from unicodedata import normalize

from merganser.chunking.places import Place
from merganser.chunking.sections import MAX_TITLE, Heading
from merganser.documents import apart
from merganser.documents.extracted import Extracted
from merganser.errors import SkipDocument
from merganser.humanize import install_extra

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_CHARACTERS = 32_000_000
"""Most text of one file; the longest manuals have 10,000 pages of 3,000 characters."""

_MAX_HEADINGS = 20_000
_MAX_DEPTH = 6
# pdfium writes U+FFFE, or U+0002 in older files, where a line ends in a hyphen inside a word.
_HYPHEN = re.compile("[\ufffe\x02]\\s*(\\S*)[^\\S\\n]?")
_LIGATURES = re.compile("[\ufb00-\ufb06]")
_PASSWORD_WANTED = 4  # FPDF_ERR_PASSWORD
_UNPRINTABLE = re.compile("[\x00-\x08\x0e-\x1f\x7f\uffff\ud800-\udfff]")


@cache
def missing_pdf_extra() -> str:
    """Say how to install what PDF files are read with; empty when it is there. Imports nothing."""
    if find_spec("pypdfium2") is None:
        return f"PDF files need an extra: {install_extra('documents')}"
    return ""


def read_pdf(data: bytes) -> Extracted:
    """Return the text of a PDF file.

    Raises:
        SkipDocument: ``extra`` without pdfium; ``damaged``; ``encrypted`` when it needs a password;
            ``empty`` when no page holds text, as in scans; ``too large`` when they hold too much;
            ``unreadable`` when it takes too long or breaks the reader.
    """
    if missing := missing_pdf_extra():
        raise SkipDocument("extra", missing)
    return apart.SHARED.read(f"{__name__}:extract", data)


class Page(NamedTuple):
    """What is read of a page: its text, and what the file calls it where that is no number."""

    text: str
    label: str


class Bookmark(NamedTuple):
    """An entry of the outline: its level from 1, its title, and its page from 0."""

    level: int
    title: str
    page: int


def extract(data: bytes) -> Extracted:
    """Read a file; runs apart."""
    pages, outline = read_pages(data)
    if not any(page.text for page in pages):
        count = f"{len(pages)} pages hold" if len(pages) != 1 else "only page holds"
        raise SkipDocument("empty", f"its {count} no text; a scan needs text recognition first")
    parts: list[str] = []
    starts: list[int] = []
    places: list[Place] = []
    start, line = 0, 1
    for number, page in enumerate(pages, 1):
        text = f"{page.text}\n" if page.text else ""
        starts.append(start)
        if text:
            places.append(Place(line, (("page", number),), label=page.label))
        parts.append(text)
        start += len(text)
        line += text.count("\n")
    text = "".join(parts)
    headings = _place_headings(text, starts, outline) or tuple(
        Heading(1, "", starts[place.steps[0][1] - 1])
        for place in places
        if isinstance(place.steps[0][1], int)
    )
    empty = sum(not page.text for page in pages)
    note = f"{empty} of its {len(pages)} pages hold no text" if empty else ""
    return Extracted(text, headings, tuple(places), note=note)


def _place_headings(
    text: str, starts: Sequence[int], outline: Sequence[Bookmark]
) -> tuple[Heading, ...]:
    """Find the titles of an outline on their pages; one that is not there begins with its page."""
    found: list[Heading] = []
    at = 0
    for level, title, page in outline:
        first = starts[page]
        after = starts[page + 1] if page + 1 < len(starts) else len(text)
        if after <= at:
            continue  # entries that go back name what other entries have
        words = r"\s+".join(re.escape(word) for word in title.split())
        # Titles are often without the number that the page has, and broken over lines.
        pattern = re.compile(rf"(?im)^.{{0,20}}?{words}")
        seen = pattern.search(text, max(first, at), after)
        at = seen.start() if seen else max(first, at)
        if found and found[-1].start == at and not seen:
            continue
        found.append(Heading(level, title, at))
        at = seen.end() if seen else at
    return tuple(found)


def read_pages(data: bytes) -> tuple[list[Page], list[Bookmark]]:
    """Return the pages of a file and the entries of its outline that lead to one."""
    pdfium: Any = import_module("pypdfium2")
    try:
        file = pdfium.PdfDocument(data)
    except pdfium.PdfiumError as error:
        if error.err_code == _PASSWORD_WANTED:
            raise SkipDocument("encrypted", "it needs a password") from error
        raise SkipDocument("damaged", f"not a PDF file that can be read: {error}") from error
    pages: list[Page] = []
    room = MAX_CHARACTERS
    with closing(file):
        try:
            for number in range(len(file)):
                label = _one_line(file.get_page_label(number))[:40]
                text = _read_page(file, number)
                pages.append(Page(text, "" if label == str(number + 1) else label))
                room -= len(text) + 1
                if room < 0:
                    what = f"more than {MAX_CHARACTERS:,} characters of text"
                    raise SkipDocument("too large", what)
            outline = _read_outline(file, len(pages))
        except pdfium.PdfiumError as error:
            raise SkipDocument("damaged", f"a page cannot be read: {error}") from error
    return pages, outline


def _read_outline(file: Any, pages: int) -> list[Bookmark]:
    entries: list[Bookmark] = []
    for entry in file.get_toc(max_depth=_MAX_DEPTH):
        destination = entry.get_dest()
        page = destination.get_index() if destination else None
        title = _one_line(entry.get_title())[:MAX_TITLE].strip()
        if page is not None and 0 <= page < pages and title:
            entries.append(Bookmark(min(entry.level, _MAX_DEPTH - 1) + 1, title, page))
        if len(entries) >= _MAX_HEADINGS:
            break
    return entries


def _read_page(file: Any, number: int) -> str:
    """Return the visible text of a page, line by line."""
    with closing(file[number]) as page, closing(page.get_textpage()) as text:
        return clean_page(_by_columns(text) or text.get_text_bounded())


def clean_page(text: str) -> str:
    """Join the words that line ends parted, and take off blank lines and what nobody sees."""
    joined = _HYPHEN.sub(r"\1\n", text.replace("\r\n", "\n"))
    plain = _UNPRINTABLE.sub(" ", joined)
    if _LIGATURES.search(plain):
        plain = _LIGATURES.sub(lambda found: normalize("NFKC", found[0]), plain)
    lines = (" ".join(line.split()) for line in plain.splitlines())
    return "\n".join(line for line in lines if line)


def _one_line(text: str) -> str:
    return " ".join(_UNPRINTABLE.sub(" ", text).split())


# -- columns ---------------------------------------------------------------------------------------
# The order of a file is that of reading in most; some programs write line by line across columns.

_SAMPLE = 40
_LEAST_LINES = 6
_LEAST_SHARE = 0.25  # of the page's width; cells of tables are narrower


class _Run(NamedTuple):
    """A stretch of text in one line, by its edges."""

    left: float
    bottom: float
    right: float
    top: float

    def is_beside(self, other: _Run) -> bool:
        """Return whether both stand in one line."""
        shared = min(self.top, other.top) - max(self.bottom, other.bottom)
        return 2 * shared > min(self.top - self.bottom, other.top - other.bottom)


def _by_columns(text: Any) -> str:
    """Return a page column by column if the file has it line by line across two, else nothing."""
    count = text.count_rects()
    if count < 2 * _LEAST_LINES:
        return ""
    begin = max(0, (count - _SAMPLE) // 2)
    sample = [_Run(*text.get_rect(i)) for i in range(begin, min(begin + _SAMPLE, count))]
    if len(_gaps(sample)) < _LEAST_LINES:
        return ""
    runs = [_Run(*text.get_rect(i)) for i in range(count)]
    gutter = median(_gaps(runs))
    sides: list[list[_Run]] = [[], []]
    blocks: list[list[_Run]] = []
    for run in runs:
        if run.left < gutter < run.right:
            blocks += [*sides, [run]]
            sides = [[], []]
        else:
            sides[run.left >= gutter].append(run)
    blocks += sides
    if not _are_columns(runs, gutter):
        return ""
    shown = ("\n".join(_lines_of(block, text)) for block in blocks if block)
    return "\n".join(shown)


def _gaps(runs: Sequence[_Run]) -> list[float]:
    """Return the middles of the gaps between runs that follow each other in one line."""
    return [
        (one.right + two.left) / 2
        for one, two in pairwise(runs)
        if two.left - one.right > (one.top - one.bottom) and one.is_beside(two)
    ]


def _are_columns(runs: Sequence[_Run], gutter: float) -> bool:
    """Return whether a gutter parts prose: wide lines on both sides, and few across it."""
    width = max(run.right for run in runs) - min(run.left for run in runs)
    sides = (
        [run for run in runs if run.right <= gutter],
        [run for run in runs if run.left >= gutter],
    )
    return sum(map(len, sides)) > 0.8 * len(runs) and all(
        len(side) >= _LEAST_LINES
        and median(run.right - run.left for run in side) >= _LEAST_SHARE * width
        for side in sides
    )


def _lines_of(block: Sequence[_Run], text: Any) -> list[str]:
    lines: list[str] = []
    before: _Run | None = None
    for run in block:
        shown = text.get_text_bounded(*run)
        if before is not None and run.is_beside(before):
            lines[-1] += f" {shown}"
        else:
            lines.append(shown)
        before = run
    return lines
