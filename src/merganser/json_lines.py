"""Read lines that people write: every wrong one is reported at once, with its place."""

from __future__ import annotations

import codecs
import json
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, cast

from merganser.errors import SourcePosition, SpecError, SpecErrors, may_quote

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable
    from pathlib import Path

T = TypeVar("T")

# The mark of UTF-32 begins with that of UTF-16.
_WIDE = {
    "utf-32": (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE),
    "utf-16": (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE),
}

_MOST_ERRORS = 20
"""Shown of one file: a mistake that is made in every line is understood by then."""

_SHOWN_VALUE = 80
_SHOWN_LINE = 160
"""Characters of the longest line that is shown with its mistake."""


class LineError(Exception):
    """What is wrong with one line; ``read_json_lines`` adds the place.

    Attributes:
        problem: What is wrong.
        column: Where it begins, from 1.
        fix: What to do; may be empty.
    """

    def __init__(self, problem: str, column: int = 1, *, fix: str = "") -> None:
        self.problem = problem
        self.column = column
        self.fix = fix
        super().__init__(problem)


@dataclass(frozen=True, slots=True)
class JsonLine:
    """One line that holds an object.

    Attributes:
        number: From 1.
        text: As written.
        values: The object, or one inside it.
        start: Where in the text that one begins, at the earliest.
    """

    number: int
    text: str
    values: dict[str, Any]
    start: int = 0

    def part(self, values: dict[str, Any], key: str) -> JsonLine:
        """Return an object that is the value of a key, to look for its own keys after that key."""
        return JsonLine(self.number, self.text, values, max(self._find(key), 0))

    def error(self, problem: str, key: str, *, fix: str = "") -> LineError:
        """Return an error that points at a key."""
        return LineError(problem, self._find(key) + 1, fix=fix)

    def _find(self, key: str) -> int:
        return self.text.find(json.dumps(key, ensure_ascii=False), self.start)

    def check_keys(self, known: Collection[str]) -> None:
        """Refuse keys that are not known.

        Raises:
            LineError: Names the first unknown key.
        """
        for key in self.values:
            if key not in known:
                fix = f"the keys are {', '.join(known)}"
                raise self.error(f"unknown key {key!r}", key, fix=fix)

    def text_of(self, key: str) -> str:
        """Return the text of a key that must be there and not be empty.

        Raises:
            LineError: It is missing, empty or no text.
        """
        value = self.values.get(key)
        if not isinstance(value, str) or not value.strip():
            raise self.error(f"{key} must be a text that is not empty, got {shown(value)}", key)
        require_characters(value, key)
        return value

    def take_id(self, seen: dict[str, int]) -> str:
        """Return the ``id`` of the line, or its number, and add it to ``seen``.

        Args:
            seen: Line numbers by id, of the lines before.

        Raises:
            LineError: It is neither text nor number, or another line has it.
        """
        given = self.values.get("id", self.number)
        if isinstance(given, bool) or not isinstance(given, str | int) or given == "":
            raise self.error(f"id must be a text or a number, got {shown(given)}", "id")
        name = str(given)
        require_characters(name, "id")
        if name in seen:
            raise self.error(
                f"the id {shown(name)} is taken by line {seen[name]}",
                "id",
                fix="give every line an id of its own, or none",
            )
        seen[name] = self.number
        return name


def read_json_lines(
    path: Path, parse: Callable[[JsonLine], T], *, noun: str, example: str
) -> tuple[T, ...]:
    """Read one JSON object a line.

    Args:
        path: A text file, see ``read_text``; empty lines are passed over.
        parse: Makes a value of a line, or raises ``LineError``.
        noun: What a line is, for the message about an empty file.
        example: A small line that is right, for the message about one that is no object.

    Returns:
        The values in the file's order; at least one.

    Raises:
        SpecErrors: Every line that cannot be read, or a file that is missing or empty.
    """
    text = read_text(path).replace("\r\n", "\n").replace("\r", "\n")

    def take(number: int, line: str) -> T:
        return parse(JsonLine(number, line, _object(line, example)))

    if not may_quote(path, ".jsonl", ".json", ".ndjson"):
        try:
            _object(text.strip().partition("\n")[0], example)
        except LineError:
            problem = f"{path}: is no file of JSON lines"
            raise SpecErrors([SpecError(problem, fix=f"write {example} on each line")]) from None
    lines = ((n, line) for n, line in enumerate(text.split("\n"), 1) if line.strip())
    parsers = ((number, line, partial(take, number, line)) for number, line in lines)
    return gather_lines(path, parsers, empty=f"holds no {noun}", fix=f"write {example}")


def read_text(path: Path) -> str:
    """Return the text of a file that a person or a spreadsheet has written, line ends as they are.

    Args:
        path: In UTF-8, with or without a byte order mark, or in UTF-16 or UTF-32 with one.

    Raises:
        SpecErrors: It cannot be read, or is in another encoding.
    """
    try:
        data = path.read_bytes()
        marks = (name for name, found in _WIDE.items() if data.startswith(found))
        return data.decode(next(marks, "utf-8-sig"))
    except OSError as error:
        raise SpecErrors([SpecError(f"{path}: cannot be read: {error.strerror}")]) from error
    except UnicodeDecodeError as error:
        problem = f"{path}: is not UTF-8 text: {error.reason}"
        raise SpecErrors([SpecError(problem, fix="save it as UTF-8")]) from error


def gather_lines(
    path: Path, parsers: Iterable[tuple[int, str, Callable[[], T]]], *, empty: str, fix: str = ""
) -> tuple[T, ...]:
    """Return a value of every line, or report those that are wrong at once, up to a bound.

    Args:
        path: For the messages.
        parsers: Number and text of each line with what makes its value or raises ``LineError``.
        empty: What is wrong with a file without lines.
        fix: What to do about it.

    Raises:
        SpecErrors: The lines that are wrong, or there is none.
    """
    found: list[T] = []
    errors: list[SpecError] = []
    wrong = 0
    for number, line, parse in parsers:
        try:
            found.append(parse())
        except LineError as error:
            wrong += 1
            if wrong <= _MOST_ERRORS:
                position = SourcePosition(path, number, max(error.column, 1))
                source = line if len(line) <= _SHOWN_LINE else ""
                errors.append(
                    SpecError(error.problem, position=position, fix=error.fix, source_line=source)
                )
    if wrong > len(errors):
        head = f"{path}: {wrong:,} lines are wrong, of which the first {len(errors)} are shown"
        errors.append(SpecError(head))
    if errors:
        raise SpecErrors(errors)
    if not found:
        raise SpecErrors([SpecError(f"{path}: {empty}", fix=fix)])
    return tuple(found)


def _object(line: str, example: str) -> dict[str, Any]:
    try:
        value = json.loads(line, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        fix = f"write {example} on one line"
        raise LineError(f"is no JSON: {error.msg}", error.colno, fix=fix) from error
    except ValueError as error:  # a number of more digits than Python converts
        raise LineError(f"has a number that is too long: {error}") from error
    except RecursionError as error:
        raise LineError("is nested too deeply") from error
    if not isinstance(value, dict):
        raise LineError(f"must be an object, got {shown(value)}", fix=f"write {example}")
    return cast("dict[str, Any]", value)


def _refuse_constant(name: str) -> NoReturn:
    raise LineError(f"is no JSON: {name} is no number there", fix='write null, or "NaN" as a text')


def shown(value: object) -> str:
    """Return a value as it may stand in a message, in a few words."""
    text = repr(value)
    return text if len(text) <= _SHOWN_VALUE else f"{text[:_SHOWN_VALUE]}…"


def require_characters(text: str, key: str) -> None:
    r"""Refuse a text with half a character in it, which ``\ud83d`` in JSON may be.

    Raises:
        LineError: It cannot be sent or written.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = ascii(text[error.start])[1:-1]
        raise LineError(f"{key} has half a character: {half}, the {error.start + 1}th") from error
