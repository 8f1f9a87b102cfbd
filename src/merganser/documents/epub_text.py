"""Read electronic books (EPUB 2 and 3), chapter by chapter in the order of the book.

A book has no pages of its own, so a place is a chapter, by its name in the table of contents.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import unquote

from merganser.documents.html_text import read_html
from merganser.documents.text_builder import TextBuilder, clean, join_texts
from merganser.errors import SkipDocument

if TYPE_CHECKING:
    from collections.abc import Iterator
    from xml.etree.ElementTree import Element

    from merganser.documents.extracted import Extracted
    from merganser.documents.package import Package

_CONTAINER = "META-INF/container.xml"
_ENCRYPTION = "META-INF/encryption.xml"
_PAGES = frozenset({"application/xhtml+xml", "text/html", "application/x-dtbook+xml"})
_MAX_LABELS = 10_000


def read_epub(package: Package) -> Extracted:
    """Return the text of a book.

    Raises:
        SkipDocument: ``damaged`` when it does not say what it consists of; ``encrypted`` when a
            chapter is, as books with digital rights management are.
    """
    roots = [e.get("full-path", "") for e in package.xml(_CONTAINER).iter("rootfile")]
    main = next((root for root in roots if root in package), "")
    if not main:
        raise SkipDocument("damaged", "a book without a list of its parts")
    folder = main.rpartition("/")[0]
    book = package.xml(main)
    items = {item.get("id", ""): item for item in book.iter("item")}
    parts = [
        package.resolve(folder, items[key].get("href", ""))
        for listed in book.iter("itemref")
        if (key := listed.get("idref", "")) in items
        and items[key].get("media-type", "application/xhtml+xml") in _PAGES
    ]
    _refuse_encrypted(package, set(parts))
    labels = dict(_labels(package, folder, book))
    out = TextBuilder()
    for number, part in enumerate(dict.fromkeys(part for part in parts if part), 1):
        _add_chapter(out, package.read(part), labels.get(part, ""), number)
    return out.finish()


def _refuse_encrypted(package: Package, parts: set[str]) -> None:
    """Refuse a book whose chapters are encrypted; that its fonts are is usual."""
    if _ENCRYPTION in package:
        for reference in package.xml(_ENCRYPTION).iter("CipherReference"):
            if unquote(reference.get("URI", "")).lstrip("/") in parts:
                raise SkipDocument("encrypted", "a book with digital rights management")


def _add_chapter(out: TextBuilder, data: bytes, label: str, number: int) -> None:
    page = read_html(_without_head(data))
    lines = page.text.split("\n")
    headings = list(page.headings or ())
    title = clean(label) or (headings[0].title if headings else "") or f"part {number}"
    out.stand_at(("chapter", title))
    starts = {heading.start: heading for heading in headings}
    at, is_first = 0, True
    for line in lines:
        if clean(line):
            heading = next((starts[i] for i in range(at, at + len(line) + 1) if i in starts), None)
            if is_first and (heading is None or heading.title != title):
                out.add_heading(1, title)
            if heading is not None:
                is_chapter = is_first and heading.title == title
                out.mark_heading(1 if is_chapter else heading.level + 1, heading.title)
            out.add(line)
            is_first = False
        at += len(line) + 1


def _without_head(data: bytes) -> bytes:
    """Leave out the title of a part, which is often the name of its file, but not the encoding."""
    start, end = data.find(b"<title"), data.find(b"</title>")
    return data[:start] + data[end + len(b"</title>") :] if 0 <= start < end else data


def _labels(package: Package, folder: str, book: Element) -> Iterator[tuple[str, str]]:
    """Yield the parts that the table of contents names, the first name of each last."""
    found: list[tuple[str, str]] = []
    for item in book.iter("item"):
        part = package.resolve(folder, item.get("href", ""))
        if not part:
            continue
        if "nav" in item.get("properties", "").split():
            found += _nav_labels(package, part)
        elif item.get("media-type") == "application/x-dtbncx+xml":
            found += _ncx_labels(package, part)
    yield from reversed(found[:_MAX_LABELS])


def _ncx_labels(package: Package, part: str) -> Iterator[tuple[str, str]]:
    folder = part.rpartition("/")[0]
    for point in package.xml(part).iter("navPoint"):
        content = point.find("content")
        label = join_texts(text.text or "" for text in point.findall("navLabel/text"))
        if content is not None and label:
            yield package.resolve(folder, content.get("src", "")), label


def _nav_labels(package: Package, part: str) -> Iterator[tuple[str, str]]:
    folder = part.rpartition("/")[0]
    for nav in package.xml(part).iter("nav"):
        if nav.get("type", "toc") == "toc":
            for link in nav.iter("a"):
                yield package.resolve(folder, link.get("href", "")), clean("".join(link.itertext()))
