"""Find the citations in an answer and check each against what was retrieved.

A citation is ``[n]`` with a number that the model was given, ``path:line`` or ``path:line-line``
inside lines that it was shown, or ``path (page 3)`` inside a place that it was shown. Anything else
that looks like one is invalid: an answer that cites what was never retrieved is a failure, whatever
it says.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from merganser.agent.answer import SourceLine
from merganser.chunking.places import is_within, numbers_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from merganser.agent.evidence import Evidence

_CODE = re.compile(r"(`{3,}|~{3,}).*?(?:\1`*|\Z)", re.DOTALL)
_INLINE_CODE = re.compile(r"(?<!`)(`{1,2})(?!`)(.+?)(?<!`)\1(?!`)")
# "[1]", "[1, 2]", "[1-3]"; the character before tells a citation from an index like argv[1].
_NUMBERS = re.compile(r"\[(\d{1,4}(?:\s*[,;–-]\s*\d{1,4})*)\]")
# A path with an extension that begins with a letter, which excludes 127.0.0.1:8000.
_PLACE = re.compile(
    r"(?<![\w/.:@-])((?:\.{0,2}/)?[\w.@+-]+(?:/[\w.@+-]+)*\.[A-Za-z]\w{0,9})"
    r":L?(\d{1,7})(?:\s?[-–]\s?L?(\d{1,7}))?(?!\w|\.\d)"
)
_NAMED_PLACE = re.compile(r"([\w.@+/-]*\w\.[A-Za-z]\w{0,9})`?,? ?\(([^()\n]{1,200})\)")
_MARKUP = re.compile(r"^\s*(?:`{3,}|~{3,}).*$|^[\s>*•-]*(?:\d+[.)](?:\s|$))?")
_DOMAINS = frozenset({"com", "org", "net", "io", "dev", "local", "localhost", "internal", "ai"})
"""Endings that make ``name.ending:8000`` a host and port unless a folder comes before it."""


@dataclass(frozen=True, slots=True)
class Citations:
    """What an answer cites.

    Attributes:
        sources: Every passage: first those that the answer names, then by number and place.
        invalid: The citations that match no passage, as written, without repetition.
    """

    sources: tuple[SourceLine, ...]
    invalid: tuple[str, ...]


def check_citations(text: str, evidence: Sequence[Evidence]) -> Citations:
    """Find every citation in an answer and check it.

    Args:
        text: The answer. Fenced code is not searched: it shows code, with its own brackets. In
            inline code only ``path:line`` counts.
        evidence: What the model was shown in this turn.

    Returns:
        The passages with ``cited`` set, and the citations that match none of them.

    >>> from merganser.agent.evidence import Evidence
    >>> found = check_citations("It dives [1], and sings [7].", [Evidence("a.md", 1, 2, "", id=1)])
    >>> [str(line) for line in found.sources if line.cited], found.invalid
    (['a.md:1-2'], ('[7]',))
    """
    prose = _CODE.sub(" ", text)
    cited: set[int] = set()
    invalid: dict[str, None] = {}
    _check_numbers(_INLINE_CODE.sub(_keep_number, prose), evidence, cited, invalid)
    _check_places(prose, evidence, cited, invalid)
    _check_named_places(prose, evidence, cited, invalid)
    _check_names(_NAMED_PLACE.sub(_without_place, prose), evidence, cited)
    lines = [
        SourceLine(
            item.path,
            item.start_line,
            item.end_line,
            id=item.id,
            cited=position in cited,
            source=item.source,
            score=item.score,
            place=item.place,
            commit=item.commit,
            url=item.url,
            freshness=item.freshness,
        )
        for position, item in enumerate(evidence)
    ]
    return Citations(_merge(lines), tuple(invalid))


def only_copies(text: str, evidence: Sequence[Evidence]) -> bool:
    """Tell whether an answer says nothing of its own.

    Args:
        text: The answer.
        evidence: What the model was shown.

    Returns:
        True for a list of citations, and for several lines that are all in the passages. A single
        such line is a quotation, which may answer a question; an empty text is no copy.
    """
    bare = _PLACE.sub(" ", _NUMBERS.sub(" ", text))
    lines = [line for line in map(_plain, bare.splitlines()) if re.search(r"\w", line)]
    paths = {item.path for item in evidence}
    if len(lines) == 1 and lines[0] not in paths:
        return False
    known = paths | {_plain(line) for item in evidence for line in item.text.splitlines()}
    return bool(text.strip()) and all(line in known for line in lines)


def _plain(line: str) -> str:
    """Remove what lists, quotes and fences put around a line."""
    return _MARKUP.sub("", line).strip(" \t`.,;:")


def _keep_number(match: re.Match[str]) -> str:
    inside = match.group(2)
    # `[2]` alone in backticks is a citation written as code; `argv[2]` is not.
    return inside if _NUMBERS.fullmatch(inside.strip()) else " "


def _check_numbers(
    prose: str, evidence: Sequence[Evidence], cited: set[int], invalid: dict[str, None]
) -> None:
    positions: dict[int, list[int]] = {}
    for position, item in enumerate(evidence):
        if item.id is not None:
            positions.setdefault(item.id, []).append(position)
    for match in _NUMBERS.finditer(prose):
        attached = match.start() > 0 and (
            prose[match.start() - 1].isalnum() or prose[match.start() - 1] == "_"
        )
        for number in _numbers(match.group(1)):
            if number in positions:
                cited.update(positions[number])
            elif not attached:
                invalid[f"[{number}]"] = None


def _numbers(inside: str) -> list[int]:
    numbers: list[int] = []
    for part in re.split(r"[,;]", inside):
        bounds = [int(bound) for bound in re.split(r"[–-]", part)]
        # Of a range that spans more than a turn ever retrieves only the two ends are checked.
        if len(bounds) == 2 and 0 <= bounds[1] - bounds[0] <= 100:
            numbers += range(bounds[0], bounds[1] + 1)
        else:
            numbers += bounds
    return numbers


def _check_places(
    prose: str, evidence: Sequence[Evidence], cited: set[int], invalid: dict[str, None]
) -> None:
    for match in _PLACE.finditer(prose):
        path, start = match.group(1), int(match.group(2))
        end = int(match.group(3) or start)
        candidates = [n for n, item in enumerate(evidence) if _same_path(path, item.path)]
        if not candidates and _is_host(path):
            continue
        touched = [
            n for n in candidates if evidence[n].start_line <= end and start <= evidence[n].end_line
        ]
        # "manual.pdf:3" means page 3 to whoever sees pages.
        if meant := [n for n in candidates if _has_numbers(evidence[n].place, start, end)]:
            cited.update(meant)
        elif end >= start and _covered(start, end, [evidence[n] for n in touched]):
            cited.update(touched)
        else:
            invalid[match.group(0)] = None


def _has_numbers(place: str, start: int, end: int) -> bool:
    known = numbers_of(place)
    return known is not None and known[0] <= start <= end <= known[1]


def _check_named_places(
    prose: str, evidence: Sequence[Evidence], cited: set[int], invalid: dict[str, None]
) -> None:
    for match in _NAMED_PLACE.finditer(prose):
        path, written = match.groups()
        placed = [
            n for n, item in enumerate(evidence) if item.place and _same_path(path, item.path)
        ]
        if meant := [n for n in placed if is_within(written, evidence[n].place)]:
            cited.update(meant)
        elif placed and numbers_of(written):  # "(page 9)", and no "(see below)"
            invalid[match.group(0)] = None


def _without_place(match: re.Match[str]) -> str:
    """Take out what names a place, right or wrong: it is no mention of the file alone."""
    return " " if numbers_of(match.group(2)) else match.group(0)


def _check_names(prose: str, evidence: Sequence[Evidence], cited: set[int]) -> None:
    """Mark files that are named without lines: no exact citation, but it names the source."""
    for position, item in enumerate(evidence):
        if position not in cited and re.search(
            rf"(?<![\w/.-]){re.escape(item.path)}(?![\w/:-]|\.\w)", prose
        ):
            cited.add(position)


def _same_path(written: str, path: str) -> bool:
    """Tell whether a written path is the path or an end of it, at a folder's boundary."""
    parts = PurePosixPath(written).parts
    return PurePosixPath(path).parts[-len(parts) :] == parts


def _is_host(path: str) -> bool:
    return "/" not in path and path.rpartition(".")[2].lower() in _DOMAINS


def _covered(start: int, end: int, passages: Sequence[Evidence]) -> bool:
    """Tell whether passages together contain every line from start to end."""
    line = start
    for item in sorted(passages, key=lambda item: item.start_line):
        if item.start_line <= line:
            line = max(line, item.end_line + 1)
    return line > end


def _merge(lines: Sequence[SourceLine]) -> tuple[SourceLine, ...]:
    """Keep one line per place, a cited one if there is one, and put cited places first."""
    best: dict[tuple[str, int, int], SourceLine] = {}
    for line in lines:
        place = (line.path, line.start_line, line.end_line)
        old = best.get(place)
        if old is None or (line.cited and not old.cited):
            best[place] = line
    return tuple(
        sorted(
            best.values(),
            key=lambda line: (
                not line.cited,
                line.id if line.id is not None else 1 << 30,
                line.path,
                line.start_line,
            ),
        )
    )
