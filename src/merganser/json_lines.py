"""Read lines that people write: every wrong one is reported at once, with its place."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

from merganser.errors import SourcePosition, SpecError, SpecErrors, may_quote

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable
    from pathlib import Path

T = TypeVar("T")


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
            raise self.error(f"{key} must be a text that is not empty, got {value!r}", key)
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
            raise self.error(f"id must be a text or a number, got {given!r}", "id")
        name = str(given)
        if name in seen:
            raise self.error(
                f"the id {name!r} is taken by line {seen[name]}",
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
        path: A UTF-8 file; empty lines are passed over.
        parse: Makes a value of a line, or raises ``LineError``.
        noun: What a line is, for the message about an empty file.
        example: A small line that is right, for the message about one that is no object.

    Returns:
        The values in the file's order; at least one.

    Raises:
        SpecErrors: Every line that cannot be read, or a file that is missing or empty.
    """
    try:
        text = path.read_text("utf-8-sig")
    except OSError as error:
        raise SpecErrors([SpecError(f"{path}: cannot be read: {error.strerror}")]) from error
    except UnicodeDecodeError as error:
        raise SpecErrors([SpecError(f"{path}: is not UTF-8 text: {error.reason}")]) from error

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


def gather_lines(
    path: Path, parsers: Iterable[tuple[int, str, Callable[[], T]]], *, empty: str, fix: str = ""
) -> tuple[T, ...]:
    """Return a value of every line, or report all that are wrong at once.

    Args:
        path: For the messages.
        parsers: Number and text of each line with what makes its value or raises ``LineError``.
        empty: What is wrong with a file without lines.
        fix: What to do about it.

    Raises:
        SpecErrors: Every line that is wrong, or there is none.
    """
    found: list[T] = []
    errors: list[SpecError] = []
    for number, line, parse in parsers:
        try:
            found.append(parse())
        except LineError as error:
            errors.append(
                SpecError(
                    error.problem,
                    position=SourcePosition(path, number, max(error.column, 1)),
                    fix=error.fix,
                    source_line=line.removesuffix("\r"),
                )
            )
    if errors:
        raise SpecErrors(errors)
    if not found:
        raise SpecErrors([SpecError(f"{path}: {empty}", fix=fix)])
    return tuple(found)


def _object(line: str, example: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        fix = f"write {example} on one line"
        raise LineError(f"is no JSON: {error.msg}", error.colno, fix=fix) from error
    except RecursionError as error:
        raise LineError("is nested too deeply") from error
    if not isinstance(value, dict):
        raise LineError(f"must be an object, got {value!r}", fix=f"write {example}")
    return cast("dict[str, Any]", value)
