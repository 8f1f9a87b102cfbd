"""Read a batch's questions and its earlier answers from JSON Lines files.

Every wrong line of a questions file is reported at once, with its number. An answers file may end
in a line that a killed run did not finish; that line is not an error, it is an unanswered question.
"""

from __future__ import annotations

import json
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any, cast

from merganser.json_lines import JsonLine, read_json_lines

if TYPE_CHECKING:
    from collections.abc import Iterator
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
    seen: dict[str, int] = {}

    def parse(line: JsonLine) -> Question:
        line.check_keys(_KEYS)
        question = line.text_of("question")
        expected = line.values.get("expected")
        return Question(line.take_id(seen), question, line.number, expected=expected)

    return read_json_lines(path, parse, noun="question", example='{"question": "..."}')


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
