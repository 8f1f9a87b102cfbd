"""Know what the styles of a Word document make of a paragraph: heading, title, hidden, contents."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from xml.etree.ElementTree import Element

_HEADING = re.compile(r"heading ?([1-9])", re.IGNORECASE)
_CONTENTS = re.compile(r"(?:toc ?[1-9]|table of figures)", re.IGNORECASE)
_BODY_TEXT = 9  # the outline level of what is no heading
_MAX_BASES = 20


class _Style(NamedTuple):
    name: str
    based_on: str
    element: Element


class Styles:
    """The styles of a document by id; an unknown id means no style."""

    def __init__(self, roots: Iterable[Element]) -> None:
        self._styles: dict[str, _Style] = {}
        self._default = ""
        for root in roots:
            for element in root.iter("style"):
                name, base = element.find("name"), element.find("basedOn")
                key = element.get("styleId", "")
                self._styles[key] = _Style(
                    "" if name is None else name.get("val", ""),
                    "" if base is None else base.get("val", ""),
                    element,
                )
                if element.get("type") == "paragraph" and element.get("default") in {"1", "true"}:
                    self._default = key

    def level(self, style: str, own: Element | None) -> int | None:
        """Return a paragraph's level as a heading: 0 for the title, from 1 on; None for text.

        Args:
            style: The id of its style.
            own: An outline level of its own.
        """
        if own is not None and (value := own.get("val", "")).isdecimal():
            return int(value) + 1 if int(value) < _BODY_TEXT else None
        for each in self._chain(style or self._default):
            if each.name.lower() == "title":
                return 0
            if heading := _HEADING.fullmatch(each.name):
                return int(heading[1])
            outline = each.element.find("pPr/outlineLvl")
            if outline is not None and (value := outline.get("val", "")).isdecimal():
                return int(value) + 1 if int(value) < _BODY_TEXT else None
        return None

    def is_contents(self, style: str) -> bool:
        """Tell whether paragraphs of a style are lines of a table of contents."""
        return any(_CONTENTS.fullmatch(each.name) for each in self._chain(style))

    def is_hidden(self, style: str) -> bool:
        """Tell whether the text of a style is not shown."""
        for each in self._chain(style):
            if (vanish := each.element.find("rPr/vanish")) is not None:
                return is_on(vanish)
        return False

    def numbering(self, style: str) -> Element | None:
        """Return the numbering that a style gives its paragraphs."""
        for each in self._chain(style):
            if (numbering := each.element.find("pPr/numPr")) is not None:
                return numbering
        return None

    def _chain(self, style: str) -> Iterator[_Style]:
        """Yield a style and those it is based on."""
        for _ in range(_MAX_BASES):
            if (found := self._styles.get(style)) is None:
                return
            yield found
            style = found.based_on


def is_on(switch: Element) -> bool:
    """Tell whether a property that is there is switched on."""
    return switch.get("val", "1") not in {"0", "false", "off"}
