"""Why an expected file is not among the hits: its rank at every step, and what removed it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from merganser.retrieval.bm25 import Ranking
    from merganser.retrieval.ranking import PassageRanking
    from merganser.retrieval.strategies import OpenIndex, StrategyResult
    from merganser.store.filters import Filter


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """The rank of a file's best chunk in one strategy.

    Attributes:
        rank: Among all chunks, from 1; None when the strategy does not find the file at all.
        score: The strategy's score; None when the file is not found.
        lines: ``start-end`` of that chunk; empty when the file is not found.
        place: As in ``Hit``, of that chunk.
        verdict: ``kept``, or why it is not among the strategy's candidates.
        kept: Whether it was among the strategy's candidates.
    """

    rank: int | None
    score: float | None
    lines: str
    verdict: str
    kept: bool
    place: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """What happened to one file in a search.

    Attributes:
        path: As indexed, or as asked for when no such file is indexed.
        rank: Its best rank before the limit is applied, from 1; None when it has none.
        found: Whether it is among the hits after all.
        strategies: Its rank in each strategy, by the strategy's name.
        reasons: What kept it out, in the order of the steps; empty when found.
        notes: What the search had to say, such as a strategy that could not take part.
    """

    path: str
    rank: int | None
    found: bool
    strategies: Mapping[str, Standing] = field(default_factory=dict[str, Standing])
    reasons: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def explain_missing(
    path: str,
    results: Sequence[StrategyResult],
    ranking: PassageRanking,
    *,
    limit: int,
    where: Filter | None,
    notes: Sequence[str] = (),
) -> Missing:
    """Follow a file through a search that was made.

    Args:
        path: As indexed, or the end of such a path.
        results: What each strategy found.
        ranking: The one list made of that.
        limit: The most hits that the search returns.
        where: The filter of the search, or None.
        notes: What the search had to say.
    """
    indexed = _indexed_path(path, [result.index for result in results])
    if indexed is None:
        reasons = _not_indexed(path, results)
        return Missing(path=path, rank=None, found=False, reasons=reasons, notes=tuple(notes))
    standings = {result.strategy.name: _stand(result, indexed, where) for result in results}
    ranks = (
        rank
        for rank, one in enumerate(ranking.passages, start=1)
        if one.candidate.chunk.path == indexed
    )
    rank = next(ranks, None)
    found = rank is not None and rank <= limit
    reasons = () if found else _reasons(indexed, rank, standings, ranking, limit)
    return Missing(
        path=indexed,
        rank=rank,
        found=found,
        strategies=standings,
        reasons=reasons,
        notes=tuple(notes),
    )


def _indexed_path(path: str, indexes: Sequence[OpenIndex]) -> str | None:
    """Return the path itself if it is indexed, or else the first indexed path that ends with it."""
    paths = sorted({file.path for index in indexes for file in index.snapshot.files()})
    if path in paths:
        return path
    return next((one for one in paths if one.endswith(f"/{path}")), None)


def _not_indexed(path: str, results: Sequence[StrategyResult]) -> tuple[str, ...]:
    skipped = {
        one.path: f"{one.reason}: {one.detail}" if one.detail else one.reason
        for result in results
        for one in result.index.snapshot.skipped()
    }
    for name, why in sorted(skipped.items()):
        if name == path or name.endswith(f"/{path}"):
            return (f"{name} was left out of the index ({why})",)
    return (f"{path} is not in the index: see `docs`, and `merganser plan` for what is left out",)


def _stand(result: StrategyResult, path: str, where: Filter | None) -> Standing:
    snapshot = result.index.snapshot
    keys = np.array([chunk.key for chunk in snapshot.file_chunks(path)], dtype=np.int64)
    if not len(keys):
        return _absent("its chunking gives the file no chunk, or it is not in this index")
    if where is not None:
        keys = keys[np.isin(keys, snapshot.allowed(where))]
        if not len(keys):
            return _absent("left out by the filter")
    ranking = _full_ranking(result, where)
    at = np.flatnonzero(np.isin(ranking.keys, keys))
    if not len(at):
        asked = ", ".join(result.matches.terms) if result.matches else ""
        return _absent(f"holds none of the query's words ({asked})" if asked else "has no vector")
    return _place(result, ranking, int(at[0]), keys)


def _place(result: StrategyResult, ranking: Ranking, at: int, keys: NDArray[np.int64]) -> Standing:
    strategy = result.strategy
    score = float(ranking.scores[at])
    [chunk] = result.index.snapshot.chunks([int(ranking.keys[at])])
    # Equal scores have no order in the full ranking; the strategy's own list says which are kept.
    kept = any(candidate.chunk.key in set(keys.tolist()) for candidate, _ in result.candidates)
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
        place=chunk.place,
    )


def _absent(verdict: str) -> Standing:
    return Standing(rank=None, score=None, lines="", verdict=verdict, kept=False)


def _full_ranking(result: StrategyResult, where: Filter | None) -> Ranking:
    if result.matches is not None:
        return result.matches.rank()
    embedding = result.index.definition.embedding
    assert result.vector is not None, "a dense result has its query's vector"
    assert embedding is not None, "a dense strategy has an embedding"
    everything = max(result.index.snapshot.chunk_count, 1)
    return result.index.dense.nearest(
        result.vector, everything, similarity=embedding.similarity, where=where, exact=True
    )


def _reasons(
    path: str,
    rank: int | None,
    standings: Mapping[str, Standing],
    ranking: PassageRanking,
    limit: int,
) -> tuple[str, ...]:
    if not any(one.kept for one in standings.values()):
        return tuple(f"{name}: {one.verdict}" for name, one in standings.items())
    reasons = [why for dropped, why in ranking.dropped if dropped == path]
    if rank is not None:
        first = next(one for one in ranking.passages if one.candidate.chunk.path == path)
        reranked = first.rerank_score is not None and first.ranked != rank
        moved = f" (rank {first.ranked} before reranking)" if reranked else ""
        reasons.append(f"rank {rank}{moved} is below the limit of {limit}")
    return tuple(reasons)
