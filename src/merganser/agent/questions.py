"""Read a batch's questions and its earlier answers from JSON Lines files.

Every wrong line of a questions file is reported at once, with its number. An answers file may end
in a line that a killed run did not finish; that line is not an error, it is an unanswered question.
"""

from __future__ import annotations

import json
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any, cast

from merganser.errors import SourcePosition, SpecError, SpecErrors

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_KEYS = ("id", "question", "expected")


@dataclass(frozen=True, slots=True)
class Question:
    """One line of a questions file.

    Attributes:
        id: As given, or the line's number.
        question: Not empty.
        line: In the file, from 1.
        expected: A reference answer that evaluation compares with, or None.
    """

    id: str
    question: str
    line: int
    _: KW_ONLY
    expected: Any = None


def read_questions(path: Path) -> tuple[Question, ...]:
    """Read one JSON object a line, with ``question`` and maybe ``id`` and ``expected``.

    Args:
        path: A UTF-8 file; empty lines are passed over.

    Returns:
        The questions in the file's order; at least one.

    Raises:
        SpecErrors: Every line that cannot be read, or a file that is missing or empty.
    """
    try:
        text = path.read_text("utf-8-sig")
    except OSError as error:
        raise SpecErrors([SpecError(f"{path}: cannot be read: {error.strerror}")]) from error
    except UnicodeDecodeError as error:
        raise SpecErrors([SpecError(f"{path}: is not UTF-8 text: {error.reason}")]) from error
    questions: list[Question] = []
    errors: list[SpecError] = []
    seen: dict[str, int] = {}
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            question = _question(line, number, seen)
        except _LineError as error:
            errors.append(
                SpecError(
                    error.problem,
                    position=SourcePosition(path, number, max(error.column, 1)),
                    fix=error.fix,
                    source_line=line.removesuffix("\r"),
                )
            )
            continue
        seen[question.id] = number
        questions.append(question)
    if errors:
        raise SpecErrors(errors)
    if not questions:
        raise SpecErrors([SpecError(f"{path}: holds no question")])
    return tuple(questions)


class _LineError(Exception):
    def __init__(self, problem: str, column: int = 1, *, fix: str = "") -> None:
        self.problem = problem
        self.column = column
        self.fix = fix
        super().__init__(problem)


def _question(line: str, number: int, seen: Mapping[str, int]) -> Question:
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        raise _LineError(
            f"is no JSON: {error.msg}", error.colno, fix='write {"question": "..."} on one line'
        ) from error
    except RecursionError as error:
        raise _LineError("is nested too deeply") from error
    if not isinstance(value, dict):
        raise _LineError(f"must be an object, got {value!r}", fix='write {"question": "..."}')
    row = cast("dict[str, Any]", value)
    if unknown := [key for key in row if key not in _KEYS]:
        raise _LineError(
            f"unknown key {unknown[0]!r}",
            line.find(json.dumps(unknown[0], ensure_ascii=False)) + 1,
            fix=f"the keys are {', '.join(_KEYS)}",
        )
    question = row.get("question")
    if not isinstance(question, str) or not question.strip():
        raise _LineError(
            f"question must be a text that is not empty, got {question!r}",
            line.find('"question"') + 1,
        )
    given = row.get("id", number)
    if isinstance(given, bool) or not isinstance(given, str | int) or given == "":
        raise _LineError(f"id must be a text or a number, got {given!r}", line.find('"id"') + 1)
    if str(given) in seen:
        raise _LineError(
            f"the id {str(given)!r} is taken by line {seen[str(given)]}",
            line.find('"id"') + 1,
            fix="give every question an id of its own, or none",
        )
    return Question(str(given), question, number, expected=row.get("expected"))


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Read the rows of an answers file that are whole; a missing file has none."""
    try:
        text = path.read_text("utf-8", errors="replace")
    except FileNotFoundError:
        return
    for line in text.split("\n"):
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            yield cast("dict[str, Any]", value)
