"""From the strategies' lists to one: fusion, equal texts given once, reranking, files' turns.

The limit is not applied here, so that an explanation can say where a passage below it stands.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from merganser.retrieval.diversify import score_files, take_turns
from merganser.retrieval.fusion import Fused, max_fusion, reciprocal_rank_fusion, weighted_fusion
from merganser.retrieval.hits import Leg
from merganser.telemetry import span

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from merganser.config.definitions import RagDefinition
    from merganser.retrieval.hits import PassageKey
    from merganser.retrieval.rerank import Reranked, Reranker
    from merganser.retrieval.strategies import Candidate, LegResult
    from merganser.store.rows import StoredChunk


@dataclass(frozen=True, slots=True, kw_only=True)
class Ordered:
    """A passage with all that was said of it.

    Attributes:
        candidate: The chunk.
        legs: Per strategy that found it.
        fused: Its score after fusion.
        fused_rank: Its place after fusion, from 1, passages with the same text counted once.
        rank: Its place after reranking, from 1; ``fused_rank`` where nothing was reranked.
        rerank_score: Or None.
        file_score: What all of its file's passages add up to, or None where files take no turns.
    """

    candidate: Candidate
    legs: Mapping[str, Leg]
    fused: Fused[PassageKey]
    fused_rank: int
    rank: int
    rerank_score: float | None = None
    file_score: float | None = None

    @property
    def score(self) -> float:
        """The rerank score where there is one, otherwise the fused one."""
        return self.fused.score if self.rerank_score is None else self.rerank_score


@dataclass(frozen=True, slots=True)
class Ordering:
    """All passages that any strategy found.

    Attributes:
        passages: Best first.
        dropped: Per passage that is not among them, its path and the reason.
        reranked: What the reranker did, or None where none is configured.
    """

    passages: tuple[Ordered, ...]
    dropped: tuple[tuple[str, str], ...]
    reranked: Reranked | None = None


def fuse_legs(definition: RagDefinition, legs: Sequence[LegResult]) -> list[Fused[PassageKey]]:
    """Make one list of the strategies' lists.

    A rag with a single strategy keeps that strategy's scores. ``weighted`` and ``max`` compare
    scores across strategies, and raw BM25 has no upper bound, so there it is divided by the best
    score of the query.

    Args:
        definition: Which method, with its weights.
        legs: Those that could take part.
    """
    alone = len(definition.strategies) == 1
    method = "max" if alone else definition.fusion.strategy
    weights = None if alone else definition.fusion.weights
    by_rank = alone or method == "rrf"
    lists = {leg.strategy.name: _scores(leg, raw=by_rank) for leg in legs}
    match method:
        case "rrf":
            return reciprocal_rank_fusion(lists, k=definition.fusion.k, weights=weights)
        case "weighted":
            return weighted_fusion(lists, weights=weights)
        case "max":
            return max_fusion(lists, weights=weights)


def _scores(leg: LegResult, *, raw: bool) -> list[tuple[PassageKey, float]]:
    best = leg.candidates[0][1] if leg.candidates and leg.matches and not raw else 1.0
    return [(candidate.passage, score / best) for candidate, score in leg.candidates]


async def order_passages(
    definition: RagDefinition, legs: Sequence[LegResult], query: str, reranker: Reranker | None
) -> Ordering:
    """Fuse, give equal texts once, rerank, and let files take turns.

    Args:
        definition: What the config says.
        legs: The strategies that could take part.
        query: The question.
        reranker: Or None where none is configured.
    """
    with span("fuse", {"merganser.legs": len(legs)}) as fusing:
        ordering = _fuse(definition, legs)
        fusing.set_attributes({"merganser.candidates": len(ordering.passages)})
    if reranker is not None:
        ordering = await _rerank(ordering, query, reranker)
    if definition.per_file is not None:
        ordering = replace(ordering, passages=_take_turns(ordering.passages, definition.per_file))
    return ordering


def _fuse(definition: RagDefinition, legs: Sequence[LegResult]) -> Ordering:
    candidates: dict[PassageKey, Candidate] = {}
    standings: dict[PassageKey, dict[str, Leg]] = {}
    for leg in legs:
        for rank, (candidate, score) in enumerate(leg.candidates, start=1):
            candidates.setdefault(candidate.passage, candidate)
            standing = standings.setdefault(candidate.passage, {})
            standing.setdefault(leg.strategy.name, Leg(rank, score))
    passages: list[Ordered] = []
    dropped: list[tuple[str, str]] = []
    first_with: dict[tuple[int, int], str] = {}
    for fused in fuse_legs(definition, legs):
        chunk = candidates[fused.item].chunk
        place = f"{chunk.path}:{chunk.start_line}-{chunk.end_line}"
        first = first_with.setdefault(chunk.text_hash, place)
        if definition.deduplicate and first != place:
            dropped.append((chunk.path, f"{place} has the same text as {first}"))
            continue
        passages.append(
            Ordered(
                candidate=candidates[fused.item],
                legs=standings[fused.item],
                fused=fused,
                fused_rank=len(passages) + 1,
                rank=len(passages) + 1,
            )
        )
    return Ordering(tuple(passages), tuple(dropped))


async def _rerank(ordering: Ordering, query: str, reranker: Reranker) -> Ordering:
    passages = ordering.passages
    texts = await asyncio.to_thread(_texts, [one.candidate for one in passages])
    reranked = await reranker.rerank(query, texts)
    after = tuple(
        replace(passages[index], rank=rank, rerank_score=reranked.scores.get(index))
        for rank, index in enumerate(reranked.order, start=1)
    )
    lost = ((passages[i].candidate.chunk.path, why) for i, why in reranked.dropped.items())
    return Ordering(after, (*ordering.dropped, *lost), reranked)


def _take_turns(passages: Sequence[Ordered], per_file: int) -> tuple[Ordered, ...]:
    paths = [one.candidate.chunk.path for one in passages]
    scores = score_files(paths)
    return tuple(
        replace(passages[index], file_score=scores[paths[index]])
        for index in take_turns(paths, per_file)
    )


def read_chunks(candidates: Sequence[Candidate]) -> list[StoredChunk]:
    """Read the chunks of some candidates, those of one index together."""
    found: dict[tuple[str, int], StoredChunk] = {}
    for index in {one.index.definition.name: one.index for one in candidates}.values():
        keys = [one.chunk.key for one in candidates if one.index is index]
        chunks = index.chunks(keys)
        found |= {(index.definition.name, chunk.key): chunk for chunk in chunks}
    return [found[one.index.definition.name, one.chunk.key] for one in candidates]


def _texts(candidates: Sequence[Candidate]) -> list[str]:
    return [chunk.text for chunk in read_chunks(candidates)]
