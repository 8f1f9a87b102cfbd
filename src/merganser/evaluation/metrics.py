"""Retrieval metrics: which hits are relevant, and what that means from 0 to 1, higher is better.

A label is one relevant item. A hit matches it when both have the same path and share at least one
line. A label without lines or quote is matched by any hit of the file, and one whose quote stands
at several places by a hit at any of them. The first hit that matches a label finds it. Later hits
that match it find nothing new; they keep their rank and are no mistake. A hit may match several
labels, because a chunk may hold several passages: it finds all of them.

A label is stale when its path is not in the index, its lines are beyond the end of the file, or its
quote cannot be found. It counts as an item that was not found, and is reported with the reason.

``k`` counts hits as the search returns them. With R relevant labels of a query:

- ``recall@k``: labels found among the first k hits, divided by R.
- ``precision@k``: hits among the first k that match a label, divided by k, also where there are
  fewer than k hits.
- ``success@k``: 1 when any label is found among the first k hits, else 0.
- ``mrr@k``: 1 / rank of the first relevant hit, 0 when it is not among the first k.
- ``ndcg@k``: the sum of grade / log2(place + 1) over the labels found at places up to k, divided
  by the same sum for the best order of all R labels, cut at k. A label's place is the rank of the
  hit that finds it; where one hit finds several labels, or the place is taken, it is the next free
  one, highest grade first. So each place holds one label, and the value never exceeds 1.

Where no hit finds two labels these are the values of trec_eval and ir-measures (R, P, Success, RR,
nDCG with linear gain). The value of a query set is the mean over its queries; a query that
failed counts 0.
"""

from __future__ import annotations

import difflib
import math
import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, assert_never

import numpy as np

from merganser.chunking.places import numbers_of
from merganser.store.rows import text_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from merganser.config.spec_evaluation import Metric
    from merganser.evaluation.queries import Label
    from merganser.retrieval import Hit
    from merganser.store.reader import Snapshot
    from merganser.store.rows import StoredChunk

RESAMPLES = 2000
CONFIDENCE = 0.95
_SEED = 20  # any fixed one: the same values give the same interval in every run

Span = tuple[int, int]
_ANYWHERE: Span = (1, sys.maxsize)


@dataclass(frozen=True, slots=True)
class Target:
    """A label in a snapshot.

    Attributes:
        label: As written.
        spans: First and last line of each place where it is; empty when it is stale.
        stale: Why it cannot be found; empty when it can.
    """

    label: Label
    spans: tuple[Span, ...]
    stale: str = ""

    def matches(self, hit: Hit) -> bool:
        """Tell whether a hit has a line in common with it."""
        return hit.path == self.label.path and any(
            hit.start_line - hit.moved <= last and first <= hit.end_line - hit.moved
            for first, last in self.spans
        )


@dataclass(frozen=True, slots=True)
class Relevance:
    """Which hits of one query are relevant.

    Attributes:
        grades: The grade of each label.
        ranks: The rank of the first hit that matches each label, from 1; None where no hit does.
        relevant: Per hit, whether it matches any label.
    """

    grades: tuple[int, ...]
    ranks: tuple[int | None, ...]
    relevant: tuple[bool, ...]

    @property
    def first(self) -> int | None:
        """Rank of the first relevant hit, from 1; None when no hit is relevant."""
        return min((rank for rank in self.ranks if rank is not None), default=None)


def mark_relevant(hits: Sequence[Hit], targets: Sequence[Target]) -> Relevance:
    """Find out which hits match which labels.

    Args:
        hits: Best first.
        targets: At least one.

    >>> from merganser.evaluation.queries import Label
    >>> from merganser.retrieval import Hit
    >>> hits = [Hit("b.py", 1, 9, "", 0.9), Hit("a.py", 5, 20, "", 0.8)]
    >>> mark_relevant(hits, [Target(Label(path="a.py"), spans=((10, 12),))]).ranks
    (2,)
    """
    matches = [[target.matches(hit) for target in targets] for hit in hits]
    ranks = [
        next((rank for rank, row in enumerate(matches, 1) if row[number]), None)
        for number in range(len(targets))
    ]
    return Relevance(
        grades=tuple(target.label.grade for target in targets),
        ranks=tuple(ranks),
        relevant=tuple(any(row) for row in matches),
    )


class Locator:
    """Finds labels in the snapshots that are searched; each file is read once.

    Args:
        snapshots: The open snapshots of one rag.
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
        if any(chunk.place for chunks in versions for chunk in chunks):
            return _locate_numbers(label, label.lines, versions)
        end = max(chunk.end_line for chunks in versions for chunk in chunks)
        if label.lines[0] > end:
            return Target(label, (), f"{label.path} ends at line {end}")
        return Target(label, (label.lines,))

    def _versions(self, path: str) -> list[list[StoredChunk]]:
        """Return the chunks of a file, once for each snapshot that holds it."""
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


def _locate_numbers(
    label: Label, wanted: Span, versions: Sequence[Sequence[StoredChunk]]
) -> Target:
    """Find the pages, slides, rows or cells of a file that has no lines of its own."""
    known = [(numbers_of(chunk.place), chunk) for chunks in versions for chunk in chunks]
    spans = {
        (chunk.start_line, chunk.end_line): None
        for numbers, chunk in known
        if numbers and numbers[0] <= wanted[1] and wanted[0] <= numbers[1]
    }
    if not spans:
        end = max((numbers[1] for numbers, _ in known if numbers), default=0)
        return Target(label, (), f"{label.path} has no place with that number; the last is {end}")
    return Target(label, tuple(spans))


def _locate_quote(label: Label, versions: Sequence[Sequence[StoredChunk]]) -> Target:
    """Find every place of a quote; any white space matches any other."""
    assert label.quote is not None
    pattern = re.compile(r"\s+".join(map(re.escape, label.quote.split())))
    spans: dict[Span, None] = {}
    for chunks in versions:
        text, first_line = text_of(chunks)
        for found in pattern.finditer(text):
            first = first_line + text.count("\n", 0, found.start())
            spans[first, first + text.count("\n", found.start(), found.end())] = None
    if not spans:
        return Target(label, (), f"the quote is not in {label.path}")
    return Target(label, tuple(spans))


def measure(metric: Metric, relevance: Relevance) -> float:
    """Compute a metric for one query.

    Args:
        metric: What to measure.
        relevance: Of at least ``metric.k`` hits, or of all there are.

    >>> from merganser.config.spec_evaluation import Metric
    >>> relevance = Relevance(grades=(1, 1), ranks=(2, None), relevant=(False, True))
    >>> measure(Metric("recall", 5), relevance), measure(Metric("mrr", 5), relevance)
    (0.5, 0.5)
    """
    k = metric.k
    found = sum(rank is not None and rank <= k for rank in relevance.ranks)
    match metric.measure:
        case "recall":
            return found / len(relevance.ranks)
        case "precision":
            return sum(relevance.relevant[:k]) / k
        case "success":
            return float(found > 0)
        case "mrr":
            return 1.0 / relevance.first if relevance.first is not None and found else 0.0
        case "ndcg":
            return _ndcg(relevance, k)
        case _:
            assert_never(metric.measure)


def places(relevance: Relevance) -> list[tuple[int, int]]:
    """Return place and grade of every label that was found, by place; see ``ndcg`` above."""
    found = sorted(
        (rank, -grade)
        for rank, grade in zip(relevance.ranks, relevance.grades, strict=True)
        if rank is not None
    )
    taken: list[tuple[int, int]] = []
    for rank, negative in found:
        after = taken[-1][0] + 1 if taken else 1
        taken.append((max(rank, after), -negative))
    return taken


def _ndcg(relevance: Relevance, k: int) -> float:
    gained = sum(grade / math.log2(place + 1) for place, grade in places(relevance) if place <= k)
    best = sorted(relevance.grades, reverse=True)[:k]
    ideal = sum(grade / math.log2(place + 1) for place, grade in enumerate(best, 1))
    return gained / ideal


def bootstrap_interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % confidence interval of a mean by the percentile bootstrap over queries.

    Args:
        values: One per query, at least one.

    Returns:
        Low and high end; both are the mean when there is a single query.
    """
    sample: NDArray[np.float64] = np.asarray(values, dtype=np.float64)
    random = np.random.default_rng(_SEED)
    drawn = random.integers(0, len(sample), size=(RESAMPLES, len(sample)))
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(sample[drawn].mean(axis=1), [tail, 100 - tail])
    return float(low), float(high)
