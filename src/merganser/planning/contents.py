"""What files are made of: counts by kind, language and encoding, remarks, replaced secrets."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from merganser.documents.skipping import NAMED_FILES
from merganser.humanize import visible_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_MOST_COUNTS = 8
"""Kinds, languages and encodings that are named; the rest is counted."""


class ReadFile(NamedTuple):
    """A file as a snapshot or a forecast has it.

    Attributes:
        path: As users see it.
        kind: As in ``Document.kind``.
        language: Language, or "".
        encoding: Name of the codec that it was decoded with, or "".
        note: A remark on how it was read, mostly empty.
    """

    path: str
    kind: str
    language: str
    encoding: str
    note: str


@dataclass(frozen=True, slots=True)
class Contents:
    """What some files are made of; its fields are keys of ``index --json`` and ``plan --json``.

    Attributes:
        kinds: Number of files by kind; "" for those whose kind is not known, likewise below.
        languages: By language.
        encodings: By the codec that they were decoded with; "" for formats without one.
        remarks: Path and remark of files that were not read as others of their kind.
        redactions: Path, line and kind of each secret in whose place a mark is indexed.
    """

    kinds: Mapping[str, int] = field(default_factory=dict[str, int])
    languages: Mapping[str, int] = field(default_factory=dict[str, int])
    encodings: Mapping[str, int] = field(default_factory=dict[str, int])
    remarks: tuple[tuple[str, str], ...] = ()
    redactions: tuple[tuple[str, int, str], ...] = ()

    @classmethod
    def of(
        cls, files: Iterable[ReadFile], redactions: Iterable[tuple[str, int, str]] = ()
    ) -> Contents:
        """Count files."""
        files = tuple(files)
        return cls(
            kinds=dict(Counter(file.kind for file in files)),
            languages=dict(Counter(file.language for file in files)),
            encodings=dict(Counter(file.encoding for file in files)),
            remarks=tuple((file.path, file.note) for file in files if file.note),
            redactions=tuple(redactions),
        )


def describe_contents(contents: Contents) -> Iterator[str]:
    """Say what files are made of, one fact a line; nothing of what is as nearly always."""
    for what, counts in (("kinds", contents.kinds), ("languages", contents.languages)):
        if any(counts):
            yield f"{what}: {list_counts(counts)}"
    if {*contents.encodings} - {"", "utf-8"}:
        yield f"encodings: {list_counts(contents.encodings)}"
    if contents.remarks:
        yield f"read otherwise: {len(contents.remarks):,} files"
        yield from _first(f"{visible_name(path)} ({note})" for path, note in contents.remarks)
    if contents.redactions:
        yield f"secrets replaced by marks: {len(contents.redactions):,}"
        yield from _first(
            f"{visible_name(path)}:{line} ({kind})" for path, line, kind in contents.redactions
        )


def _first(lines: Iterable[str]) -> Iterator[str]:
    told = tuple(lines)
    yield from (f"  {line}" for line in told[:NAMED_FILES])
    if len(told) > NAMED_FILES:
        yield f"  and {len(told) - NAMED_FILES:,} more"


def list_counts(counts: Mapping[str, int]) -> str:
    """Return what there is most of, with its number.

    >>> list_counts({"go": 2, "python": 1200, "": 1})
    '1,200 python, 2 go, 1 other'
    """
    shown = Counter(counts).most_common(_MOST_COUNTS)
    more = f" and {len(counts) - len(shown)} more" if len(counts) > len(shown) else ""
    return ", ".join(f"{count:,} {name or 'other'}" for name, count in shown) + more
