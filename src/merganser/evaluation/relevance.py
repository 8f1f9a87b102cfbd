"""Which hits are relevant: labels are located in a snapshot, and hits held against them.

A label is one relevant item. A hit matches it when both are of the same path and share at least
one line; without lines or quote any hit of the file matches, and of a quote that stands at several
places each will do. The label is found by the first hit that matches it. Later hits that match it
find nothing new; they keep their rank and are no mistake. A hit may match several labels, because
a chunk may hold several passages: it finds all of them.

A label whose path is not in the index, whose lines are behind the file's end or whose quote cannot
be found is stale. It counts as an item that was not found, and is reported with its reason.
"""

from __future__ import annotations

import difflib
import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from merganser.evaluation.queries import Label
    from merganser.retrieval import Hit
    from merganser.store import Snapshot, StoredChunk

Span = tuple[int, int]
_ANYWHERE: Span = (1, sys.maxsize)


@dataclass(frozen=True, slots=True)
class Target:
    """A label in a snapshot.

    Attributes:
        label: As written.
        spans: First and last lines of the places where it stands; none when it is stale.
        stale: Why it cannot be found, or "".
    """

    label: Label
    spans: tuple[Span, ...]
    stale: str = ""

    def matches(self, hit: Hit) -> bool:
        """Tell whether a hit has a line in common with it."""
        return hit.path == self.label.path and any(
            hit.start_line <= last and first <= hit.end_line for first, last in self.spans
        )


@dataclass(frozen=True, slots=True)
class Judgement:
    """The hits of one query held against its labels.

    Attributes:
        grades: Of the labels.
        ranks: Of the first hit that matches each label, from 1; None for one that no hit matches.
        relevant: Per hit, whether it matches any label.
    """

    grades: tuple[int, ...]
    ranks: tuple[int | None, ...]
    relevant: tuple[bool, ...]

    @property
    def first(self) -> int | None:
        """Rank of the first relevant hit."""
        return min((rank for rank in self.ranks if rank is not None), default=None)


def judge(hits: Sequence[Hit], targets: Sequence[Target]) -> Judgement:
    """Hold hits against labels.

    Args:
        hits: Best first.
        targets: At least one.
    """
    matches = [[target.matches(hit) for target in targets] for hit in hits]
    ranks = [
        next((rank for rank, row in enumerate(matches, 1) if row[number]), None)
        for number in range(len(targets))
    ]
    return Judgement(
        grades=tuple(target.label.grade for target in targets),
        ranks=tuple(ranks),
        relevant=tuple(any(row) for row in matches),
    )


class Locator:
    """Finds labels in the snapshots that are searched; each file is read once.

    Args:
        snapshots: Open, those of one rag.
    """

    def __init__(self, snapshots: Iterable[Snapshot]) -> None:
        self._snapshots = tuple(snapshots)
        self._files: dict[str, list[list[StoredChunk]]] = {}
        self._paths: tuple[str, ...] | None = None

    def locate(self, label: Label) -> Target:
        """Find a label, or say why it is stale."""
        versions = self._versions(label.path)
        if not versions:
            return Target(label, (), f"{label.path} is not in the index{self._hint(label.path)}")
        if label.quote is not None:
            return _locate_quote(label, versions)
        if label.lines is None:
            return Target(label, (_ANYWHERE,))
        end = max(chunk.end_line for chunks in versions for chunk in chunks)
        if label.lines[0] > end:
            return Target(label, (), f"{label.path} ends at line {end}")
        return Target(label, (label.lines,))

    def _versions(self, path: str) -> list[list[StoredChunk]]:
        """Give the chunks of a file, once for each snapshot that holds it."""
        if path not in self._files:
            found = [snapshot.file_chunks(path) for snapshot in self._snapshots]
            self._files[path] = [chunks for chunks in found if chunks]
        return self._files[path]

    def _hint(self, path: str) -> str:
        if self._paths is None:
            self._paths = tuple(sorted({f.path for s in self._snapshots for f in s.files()}))
        name = path.rpartition("/")[2]
        by_name = [known for known in self._paths if known.rpartition("/")[2] == name]
        # Paths of one folder are alike even where their names are not.
        near = by_name[:1] or difflib.get_close_matches(path, self._paths, n=1, cutoff=0.85)
        return f"; did you mean {near[0]!r}?" if near else ""


def _locate_quote(label: Label, versions: Sequence[Sequence[StoredChunk]]) -> Target:
    """Find every place of a quote; any white space stands for any other."""
    assert label.quote is not None
    pattern = re.compile(r"\s+".join(map(re.escape, label.quote.split())))
    spans: dict[Span, None] = {}
    for chunks in versions:
        text, first_line = _text_of(chunks)
        for found in pattern.finditer(text):
            first = first_line + text.count("\n", 0, found.start())
            spans[first, first + text.count("\n", found.start(), found.end())] = None
    if not spans:
        return Target(label, (), f"the quote is not in {label.path}")
    return Target(label, tuple(spans))


def _text_of(chunks: Sequence[StoredChunk]) -> tuple[str, int]:
    """Join the chunks of a file, whose ends may overlap; give the number of the first line too."""
    parts: list[str] = []
    end = chunks[0].start_char
    for chunk in chunks:
        if chunk.end_char > end:
            parts.append(chunk.text[max(end - chunk.start_char, 0) :])
            end = chunk.end_char
    return "".join(parts), chunks[0].start_line
