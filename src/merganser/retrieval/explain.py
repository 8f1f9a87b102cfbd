"""Why an expected file is not among the hits: where it stood at every step, and what cut it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from merganser.retrieval.bm25 import Ranking
    from merganser.retrieval.ranking import Ordering
    from merganser.retrieval.strategies import LegResult, OpenIndex
    from merganser.store.reader import Filter


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where the file's best chunk stands in one strategy.

    Attributes:
        rank: Among all chunks, from 1; None when the strategy does not find the file at all.
        score: The strategy's score, or None.
        lines: ``start-end`` of that chunk, or empty.
        verdict: What became of it, in words.
        kept: It was among the strategy's candidates.
    """

    rank: int | None
    score: float | None
    lines: str
    verdict: str
    kept: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """The way of one file through a search.

    Attributes:
        path: As indexed, or as asked for when no such file is indexed.
        rank: Its best place in the answer without a limit, from 1, or None.
        found: It is among the hits after all.
        legs: Per strategy.
        reasons: What kept it out, in the order of the steps; empty when found.
        notes: Of the search.
    """

    path: str
    rank: int | None
    found: bool
    legs: Mapping[str, Standing] = field(default_factory=dict[str, Standing])
    reasons: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Give it as JSON values."""
        return {
            "path": self.path,
            "found": self.found,
            "rank": self.rank,
            "legs": {
                name: {
                    "rank": leg.rank,
                    "score": leg.score,
                    "lines": leg.lines,
                    "verdict": leg.verdict,
                    "kept": leg.kept,
                }
                for name, leg in self.legs.items()
            },
            "reasons": list(self.reasons),
            "notes": list(self.notes),
        }


def explain_missing(
    path: str,
    legs: Sequence[LegResult],
    ordering: Ordering,
    *,
    limit: int,
    where: Filter | None,
    notes: Sequence[str] = (),
) -> Missing:
    """Follow a file through a search that was made.

    Args:
        path: As indexed, or the end of such a path.
        legs: The strategies' results.
        ordering: What became of them.
        limit: Most hits.
        where: The filter of the search.
        notes: Of the search.
    """
    indexed = _indexed_path(path, [leg.index for leg in legs])
    if indexed is None:
        return Missing(
            path=path, rank=None, found=False, reasons=_not_indexed(path, legs), notes=tuple(notes)
        )
    standings = {leg.strategy.name: _stand(leg, indexed, where) for leg in legs}
    places = (
        place
        for place, one in enumerate(ordering.passages, start=1)
        if one.candidate.chunk.path == indexed
    )
    rank = next(places, None)
    found = rank is not None and rank <= limit
    reasons = () if found else _reasons(indexed, rank, standings, ordering, limit)
    return Missing(
        path=indexed, rank=rank, found=found, legs=standings, reasons=reasons, notes=tuple(notes)
    )


def _indexed_path(path: str, indexes: Sequence[OpenIndex]) -> str | None:
    """Find the file: the very path, or else the first one that ends with it."""
    paths = sorted({file.path for index in indexes for file in index.snapshot.files()})
    if path in paths:
        return path
    return next((one for one in paths if one.endswith(f"/{path}")), None)


def _not_indexed(path: str, legs: Sequence[LegResult]) -> tuple[str, ...]:
    skipped = {
        one.path: f"{one.reason}: {one.detail}" if one.detail else one.reason
        for leg in legs
        for one in leg.index.snapshot.skipped()
    }
    for name, why in sorted(skipped.items()):
        if name == path or name.endswith(f"/{path}"):
            return (f"{name} was left out of the index ({why})",)
    return (f"{path} is not in the index: see `docs`, and `merganser plan` for what is left out",)


def _stand(leg: LegResult, path: str, where: Filter | None) -> Standing:
    snapshot = leg.index.snapshot
    keys = np.array([chunk.key for chunk in snapshot.file_chunks(path)], dtype=np.int64)
    if not len(keys):
        return _absent("its chunking gives the file no chunk, or it is not in this index")
    if where is not None:
        keys = keys[np.isin(keys, snapshot.allowed(where))]
        if not len(keys):
            return _absent("left out by the filter")
    ranking = _full_ranking(leg, where)
    at = np.flatnonzero(np.isin(ranking.keys, keys))
    if not len(at):
        asked = ", ".join(leg.matches.terms) if leg.matches else ""
        return _absent(f"holds none of the query's words ({asked})" if asked else "has no vector")
    return _place(leg, ranking, int(at[0]), keys)


def _place(leg: LegResult, ranking: Ranking, at: int, keys: NDArray[np.int64]) -> Standing:
    strategy = leg.strategy
    score = float(ranking.scores[at])
    [chunk] = leg.index.snapshot.chunks([int(ranking.keys[at])])
    # Equal scores share a place in the full ranking; the strategy's own list tells who is in.
    kept = any(candidate.chunk.key in set(keys.tolist()) for candidate, _ in leg.candidates)
    if kept:
        verdict = "kept"
    elif strategy.threshold is not None and score < strategy.threshold:
        verdict = f"score {score:.4f} is below the threshold {strategy.threshold:g}"
    else:
        verdict = f"rank {at + 1} is below the strategy's limit of {strategy.limit}"
    return Standing(
        rank=at + 1,
        score=score,
        lines=f"{chunk.start_line}-{chunk.end_line}",
        verdict=verdict,
        kept=kept,
    )


def _absent(verdict: str) -> Standing:
    return Standing(rank=None, score=None, lines="", verdict=verdict, kept=False)


def _full_ranking(leg: LegResult, where: Filter | None) -> Ranking:
    if leg.matches is not None:
        return leg.matches.rank()
    embedding = leg.index.definition.embedding
    assert leg.vector is not None, "a dense result has its query's vector"
    assert embedding is not None, "a dense strategy has an embedding"
    everything = max(leg.index.snapshot.chunk_count, 1)
    return leg.index.dense.nearest(
        leg.vector, everything, similarity=embedding.similarity, where=where, exact=True
    )


def _reasons(
    path: str,
    rank: int | None,
    standings: Mapping[str, Standing],
    ordering: Ordering,
    limit: int,
) -> tuple[str, ...]:
    if not any(one.kept for one in standings.values()):
        return tuple(f"{name}: {one.verdict}" for name, one in standings.items())
    reasons = [why for dropped, why in ordering.dropped if dropped == path]
    if rank is not None:
        first = next(one for one in ordering.passages if one.candidate.chunk.path == path)
        reranked = first.rerank_score is not None and first.fused_rank != rank
        moved = f" (rank {first.fused_rank} before reranking)" if reranked else ""
        reasons.append(f"rank {rank}{moved} is below the limit of {limit}")
    return tuple(reasons)
