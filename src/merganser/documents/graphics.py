"""Read the words of drawings in office documents: diagrams (SmartArt), charts and shapes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from merganser.documents.text_builder import clean

if TYPE_CHECKING:
    from collections.abc import Iterator
    from xml.etree.ElementTree import Element

    from merganser.documents.package import Package


def read_graphic(package: Package, part: str, reference: Element) -> list[str]:
    """Return the lines of a chart or diagram that an element of a part refers to.

    Args:
        package: The document.
        part: The part whose relations hold.
        reference: A ``chart`` or ``relIds`` element.
    """
    relations = package.relations(part)
    key = reference.get("r:id") or reference.get("r:dm") or ""
    if key not in relations or relations[key].target not in package:
        return []
    root = package.xml(relations[key].target)
    if reference.tag == "chart":
        return _unique([*drawing_lines(root), *_chart_labels(root)])
    return _unique(drawing_lines(root))


def drawing_lines(root: Element) -> Iterator[str]:
    """Yield the paragraphs of the shapes below an element."""
    for paragraph in root.iter("p"):
        if line := paragraph_text(paragraph):
            yield line


def paragraph_text(paragraph: Element) -> str:
    """Return the text of a paragraph of a shape, with its line breaks."""
    parts: list[str] = []
    for element in paragraph:
        match element.tag:
            case "r" | "fld":
                parts += [text.text or "" for text in element.iter("t")]
            case "br":
                parts.append("\n")
            case "AlternateContent" | "m":  # formulas
                parts += [text.text or "" for text in element.iter("t")]
            case _:
                pass
    return "".join(parts)


def _chart_labels(root: Element) -> Iterator[str]:
    """Yield the names of a chart's series and of its categories, not its numbers."""
    for cache in root.iter():
        if cache.tag in {"strCache", "lvl"}:
            yield ", ".join(clean(value.text or "") for value in cache.iter("v"))


def _unique(lines: list[str] | Iterator[str]) -> list[str]:
    return list(dict.fromkeys(line for line in lines if clean(line)))
