"""Number the paragraphs of a Word document as it shows them: ``2.3``, ``(b)``, a bullet."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable
    from xml.etree.ElementTree import Element

    from merganser.documents.docx_styles import Styles

_PLACEHOLDER = re.compile(r"%([1-9])")
_MAX_LEVELS = 9
_ROMAN = (
    *((1000, "m"), (900, "cm"), (500, "d"), (400, "cd"), (100, "c"), (90, "xc"), (50, "l")),
    *((40, "xl"), (10, "x"), (9, "ix"), (5, "v"), (4, "iv"), (1, "i")),
)
_MAX_ROMAN = 4000


class _Level(NamedTuple):
    """One level of a list: kind of number, its surroundings, where it starts."""

    kind: str
    text: str
    start: int


class Numbering:
    """Counts through the lists of a document, in the order of its paragraphs."""

    def __init__(self, roots: Iterable[Element], styles: Styles) -> None:
        self._styles = styles
        self._abstract: dict[str, dict[int, _Level]] = {}
        self._lists: dict[str, str] = {}
        self._overrides: dict[str, dict[int, _Level]] = {}
        self._counts: dict[str, list[int | None]] = {}
        self._started: set[str] = set()
        for root in roots:
            for element in root.findall("abstractNum"):
                self._abstract[element.get("abstractNumId", "")] = _levels(element)
            for element in root.findall("num"):
                self._add_list(element)

    def _add_list(self, element: Element) -> None:
        key = element.get("numId", "")
        abstract = element.find("abstractNumId")
        self._lists[key] = "" if abstract is None else abstract.get("val", "")
        known = self._abstract.get(self._lists[key], {})
        for override in element.findall("lvlOverride"):
            level = _number(override, "ilvl", 0)
            changed = _levels(override).get(level) or known.get(level)
            start = override.find("startOverride")
            if changed is not None and start is not None:
                changed = changed._replace(start=_number(start, "val", 1))
            if changed is not None:
                self._overrides.setdefault(key, {})[level] = changed

    def next(self, style: str, own: Element | None) -> str:
        """Return the number of the next paragraph as it is shown; empty when it has none.

        Args:
            style: The id of its style.
            own: Its own numbering, which may say only part of what there is to say.
        """
        inherited = self._styles.numbering(style)
        key, depth = "", None
        for numbering in (own, inherited):
            if numbering is None:
                continue
            number, indent = numbering.find("numId"), numbering.find("ilvl")
            key = key or ("" if number is None else number.get("val", ""))
            if depth is None and indent is not None:
                depth = min(max(_number(indent, "val", 0), 0), _MAX_LEVELS - 1)
        if key in self._lists:
            return self._count(key, depth or 0)
        return ""

    def _count(self, key: str, depth: int) -> str:
        abstract = self._lists[key]
        levels = self._abstract.get(abstract, {}) | self._overrides.get(key, {})
        if (level := levels.get(depth)) is None:
            return ""
        counts = self._counts.setdefault(abstract, [None] * _MAX_LEVELS)
        if key in self._overrides and key not in self._started:
            for overridden in self._overrides[key]:
                counts[min(overridden, _MAX_LEVELS - 1)] = None
        self._started.add(key)
        count = counts[depth]
        counts[depth] = level.start if count is None else count + 1
        counts[depth + 1 :] = [None] * (_MAX_LEVELS - depth - 1)
        if level.kind == "bullet":
            return "-"
        if level.kind == "none":
            return ""

        def show(match: re.Match[str]) -> str:
            at = int(match[1]) - 1
            shown = levels.get(at, level)
            count = counts[at]
            return format_count(shown.start if count is None else count, shown.kind)

        return _PLACEHOLDER.sub(show, level.text)


def _levels(parent: Element) -> dict[int, _Level]:
    found: dict[int, _Level] = {}
    for element in parent.findall("lvl"):
        kind, text, start = (element.find(tag) for tag in ("numFmt", "lvlText", "start"))
        found[_number(element, "ilvl", 0)] = _Level(
            "decimal" if kind is None else kind.get("val", ""),
            "" if text is None else text.get("val", ""),
            1 if start is None else _number(start, "val", 1),
        )
    return found


def _number(element: Element, attribute: str, otherwise: int) -> int:
    value = element.get(attribute, "")
    return int(value) if value.isdecimal() and len(value) < 10 else otherwise


def format_count(count: int, kind: str) -> str:
    """Write a number as a list counts.

    >>> format_count(4, "lowerRoman"), format_count(28, "upperLetter"), format_count(7, "decimal")
    ('iv', 'BB', '7')
    """
    match kind:
        case "lowerLetter" | "upperLetter" if 0 < count < _MAX_ROMAN:
            turns, letter = divmod(count - 1, 26)
            shown = chr(ord("a") + letter) * (turns + 1)
        case "lowerRoman" | "upperRoman" if 0 < count < _MAX_ROMAN:
            shown, rest = "", count
            for value, digits in _ROMAN:
                shown += digits * (rest // value)
                rest %= value
        case "decimalZero":
            return f"{count:02d}"
        case _:
            return str(count)
    return shown.upper() if kind.startswith("upper") else shown
