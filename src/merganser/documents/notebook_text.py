"""Read Jupyter notebooks, cell by cell: nbformat 4, and what 1 to 3 called the same things.

Cells and what their code put out are kept as text; pictures, widgets and attachments are not, and
HTML only where a result has no plainer form. The file is read leniently: tools write sources as
text or as lists of lines, and a cell that is none costs itself alone.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, cast

from merganser.chunking.places import Place
from merganser.chunking.sections import Embedded, find_headings
from merganser.documents.encoding import decode
from merganser.documents.extracted import Extracted
from merganser.documents.html_text import read_html
from merganser.errors import SkipDocument

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from merganser.chunking.sections import Heading

MAX_CHARACTERS = 8_000_000
"""Most text of one notebook; what is larger holds logs or data."""

# CSI and OSC sequences, and the other escapes that terminals know.
_ESCAPES = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-Z\\^-~])"
    r"|[\x00-\x08\x0b\x0e-\x1f\x7f]"
)
_PLAIN = ("text/plain", "text/markdown", "text/html", "text/latex")
_OLD_KEYS = {"text/plain": "text", "text/html": "html", "text/latex": "latex"}
_PICTURES = ("image/", "png", "jpeg", "svg")
_LANGUAGES = {
    "ir": "r",
    "c++": "cpp",
    "c#": "csharp",
    "f#": "fsharp",
    "shell": "bash",
    "sh": "bash",
}
_PYTHON_MAGICS = frozenset({"time", "timeit", "capture", "prun"})
_MAGIC = re.compile(r"%%(\w+)")
_MAGIC_LANGUAGES = {
    "bash": "bash",
    "sh": "bash",
    "html": "html",
    "javascript": "javascript",
    "js": "javascript",
    "sql": "sql",
    "r": "r",
    "ruby": "ruby",
    "perl": "perl",
    "latex": "latex",
}


def read_notebook(data: bytes) -> Extracted:
    """Return the text of a notebook's cells, with their headings and the language of their code.

    Raises:
        SkipDocument: As ``decode``; ``damaged`` when it is no notebook; ``empty`` when no cell
            holds text; ``too large`` when they hold too much.
    """
    decoded = decode(data)
    try:
        notebook = json.loads(decoded.text, strict=False)
    except (ValueError, RecursionError) as error:
        raise SkipDocument("damaged", f"not a notebook: {str(error)[:200]}") from error
    content = _map(notebook)
    if not isinstance(content.get("nbformat", 4 if "cells" in content else None), int):
        raise SkipDocument("damaged", "not a notebook: JSON of another form")
    written = _Written()
    language = _language_of(_map(content.get("metadata")))
    count = 0
    for count, cell in enumerate(_cells(content), 1):
        written.add_cell(count, cell, language)
    if written.is_empty:
        raise SkipDocument("empty", f"its {count} cells hold no text" if count else "no cells")
    return written.finish(decoded.encoding)


class _Written:
    """The text so far."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._length = 0
        self._line = 1
        self._places: list[Place] = []
        self._headings: list[Heading] = []
        self._embedded: list[Embedded] = []

    @property
    def is_empty(self) -> bool:
        return not self._parts

    def finish(self, encoding: str) -> Extracted:
        return Extracted(
            "".join(self._parts),
            tuple(self._headings),
            tuple(self._places),
            encoding,
            embedded=tuple(self._embedded),
        )

    def add_cell(self, number: int, cell: dict[str, Any], language: str | None) -> None:
        """Write a cell's source and what it put out."""
        kind = cell.get("cell_type")
        source = _text(cell.get("source", cell.get("input")))
        start = self._length
        if source.strip():
            self._write(source, Place(self._line, (("cell", number), ("line", 1)), counts=True))
        if kind == "markdown":
            self._headings += (h._replace(start=h.start + start) for h in find_headings(source))
        elif kind == "heading" and source.strip():  # before nbformat 4
            level = cell.get("level")
            hashes = "#" * (min(max(level, 1), 6) if isinstance(level, int) else 1)
            found = find_headings(f"{hashes} {source}")
            self._headings += (heading._replace(start=start) for heading in found)
        elif kind == "code" and source.strip():
            inner = _code_language(source, language or cell.get("language"))
            if inner:
                self._embedded.append(Embedded(start, start + len(source), inner))
        outputs = cell.get("outputs")
        said = [_output_text(_map(output)) for output in _list(outputs)]
        if text := "\n".join(part.rstrip("\n") for part in said if part.strip()):
            self._write(
                text, Place(self._line, (("cell", number), ("output line", 1)), counts=True)
            )

    def _write(self, text: str, place: Place) -> None:
        text = text.rstrip("\n") + "\n\n"
        self._places.append(place)
        self._parts.append(text)
        self._length += len(text)
        self._line += text.count("\n")
        if self._length > MAX_CHARACTERS:
            raise SkipDocument("too large", f"more than {MAX_CHARACTERS:,} characters of text")


def _cells(notebook: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the cells; before nbformat 4 they were on worksheets."""
    for sheet in (notebook, *map(_map, _list(notebook.get("worksheets")))):
        yield from map(_map, _list(sheet.get("cells")))


def _language_of(metadata: dict[str, Any]) -> str | None:
    info, kernel = _map(metadata.get("language_info")), _map(metadata.get("kernelspec"))
    for name in (info.get("name"), kernel.get("language"), metadata.get("language")):
        if isinstance(name, str) and name:
            lowered = name.lower()
            return "python" if "python" in lowered else _LANGUAGES.get(lowered, lowered)
    return None


def _code_language(source: str, language: object) -> str | None:
    """Return the language of a cell's code; a magic of its first line says another one."""
    if magic := _MAGIC.match(source.lstrip()):
        return "python" if magic[1] in _PYTHON_MAGICS else _MAGIC_LANGUAGES.get(magic[1].lower())
    return language if isinstance(language, str) else "python"


def _output_text(output: dict[str, Any]) -> str:
    """Return what an output shows in words; empty for pictures and widgets."""
    kind = output.get("output_type")
    if kind in {"error", "pyerr"}:
        shown = "\n".join(_text(line) for line in _list(output.get("traceback")))
        return _cleaned(shown or f"{_text(output.get('ename'))}: {_text(output.get('evalue'))}")
    if kind == "stream":
        return _cleaned(_text(output.get("text")))
    data = _map(output.get("data", output))
    if any(key.startswith(_PICTURES) and value for key, value in data.items()):
        return ""  # its text is the name of an object in memory, such as "<Figure size 640x480>"
    for form in _PLAIN:
        text = _text(data.get(form, data.get(_OLD_KEYS.get(form, ""))))
        if text.strip():
            return _cleaned(text) if form != "text/html" else _shown(text)
    return ""


def _shown(page: str) -> str:
    """Return the text of a result that there is as HTML alone."""
    lines = read_html(page.encode("utf-8", "replace")).text.split("\n")
    return "\n".join(line for line in lines if line.strip())


def _cleaned(text: str) -> str:
    """Return what a terminal shows in the end: no escapes, of overwritten lines the last state."""
    plain = _ESCAPES.sub("", text.replace("\r\n", "\n"))
    if "\r" not in plain:
        return plain
    return "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in plain.split("\n"))


def _text(value: object) -> str:
    """Return a text that may be a list of its lines, each with its line end."""
    if isinstance(value, list):
        return "".join(part for part in cast("Iterable[object]", value) if isinstance(part, str))
    return value if isinstance(value, str) else ""


def _map(value: object) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else []
