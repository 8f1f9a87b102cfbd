"""Combine what strategies found: complete their scores, weigh them by the query, and fuse.

Under ``standardised`` the weight of words against meaning follows what is searched and what was
found. People ask for code in other words than code has, and for prose in much the same, so words
begin with less where the nearest passages are code. They gain with *coverage*, the share of the
query's idf that BM25's best chunk holds, and most where it holds a rare word: then that chunk is
what was asked for, and no vector knows such a word.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from merganser.documents.kinds import PROSE_LANGUAGES
from merganser.retrieval.fusion import (
    Fused,
    Scale,
    max_fusion,
    reciprocal_rank_fusion,
    standardised_fusion,
    weighted_fusion,
)
from merganser.retrieval.strategies import POOL

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from merganser.config.rag_definition import RagDefinition
    from merganser.retrieval.hits import PassageKey
    from merganser.retrieval.strategies import Candidate, StrategyResult

IN_CODE, IN_PROSE = 0.15, 0.55
"""Weight of words where the nearest passages are all code or all prose; meaning has the rest of 1.

These and the next were chosen on one half of the queries of CoSQA and Cranfield, on questions over
three texts, and over Flask and Echo; the optimum is flat: .1 more or less of each changes nDCG@10
by less than .01, but for ``IN_CODE``, where .2 costs .01 on CoSQA."""

COVERED, RARE = 0.6, 0.35
"""Weight of words where BM25's best chunk holds all that was asked, and what is added to it by the
share of the query's idf that is in rare words which the chunk holds."""

_LEAST_COVERAGE = 0.7
"""From this share on, coverage counts; below it, the best chunk is one of many."""

_FEW, _ONE_IN = 10, 20
"""A rare word stands in at most so many chunks, which all fit on a first page of hits, and in at
most one chunk in so many."""

Scores = list[tuple["PassageKey", float]]


def fuse_strategies(
    definition: RagDefinition, results: Sequence[StrategyResult]
) -> list[Fused[PassageKey]]:
    """Fuse the strategies' lists by the method of the config.

    A rag with a single strategy keeps that strategy's scores. All methods but ``rrf``, which has
    only ranks, know the score of a passage that only another strategy found, where both search the
    same index. ``weighted`` and ``max`` compare raw scores, and BM25's have no upper bound, so
    there they are divided by the best of the query.

    Args:
        definition: Which method, with its weights.
        results: Of the strategies that could take part.
    """
    found = {result.strategy.name: _found(result) for result in results}
    if len(definition.strategies) == 1:
        return max_fusion(found)
    fusion = definition.results.fusion
    named = definition.strategies
    weights = {one.name: fusion.weight(one.name, one.kind) for one in named}
    if fusion.method == "rrf":
        return reciprocal_rank_fusion(found, k=fusion.k, weights=weights)
    known = {name: [*scores, *others] for (name, scores), others in
             zip(found.items(), _look_up(results), strict=True)}  # fmt: skip
    if fusion.method == "standardised":
        scales = {result.strategy.name: Scale.of(result.first) for result in results}
        weights = weights if fusion.weights else weigh_by_query(results)
        return standardised_fusion(known, scales, weights=weights)
    known = {r.strategy.name: _compare_raw(r, known[r.strategy.name]) for r in results}
    if fusion.method == "weighted":
        return weighted_fusion(known, weights=weights)
    return max_fusion(known, weights=weights)


def weigh_by_query(results: Sequence[StrategyResult]) -> Mapping[str, float]:
    """Weigh words against meaning by what the words of the query found.

    Args:
        results: Of the strategies that could take part.

    Returns:
        By strategy, together 1; strategies of one kind share its weight.
    """
    words = [result for result in results if result.matches is not None]
    if not words or len(words) == len(results):
        return {result.strategy.name: 1.0 / len(results) for result in results}
    lexical = sum(_weight_of_words(one, _share_of_code(results)) for one in words) / len(words)
    dense = (1.0 - lexical) / (len(results) - len(words))
    return {
        result.strategy.name: dense if result.matches is None else lexical / len(words)
        for result in results
    }


def _weight_of_words(result: StrategyResult, code: float) -> float:
    usual = IN_PROSE + (IN_CODE - IN_PROSE) * code
    if result.matches is None or not result.candidates:
        return usual
    best = result.candidates[0][0].chunk.key
    few = min(_FEW, max(result.matches.weighing.chunk_count // _ONE_IN, 1))
    coverage, rare = result.matches.coverage(best, few=few)
    covered = (coverage - _LEAST_COVERAGE) / (1.0 - _LEAST_COVERAGE)
    reached = COVERED + RARE * rare
    return usual + (reached - usual) * max(covered, 0.0)


def _share_of_code(results: Sequence[StrategyResult]) -> float:
    """Return which share of the passages nearest by meaning is code, 0 to 1."""
    near = [
        candidate.chunk.language
        for result in results
        if result.matches is None
        for candidate, _ in result.candidates[:POOL]
    ]
    return sum(bool(one) and one not in PROSE_LANGUAGES for one in near) / max(len(near), 1)


def _found(result: StrategyResult) -> Scores:
    return [(candidate.passage, score) for candidate, score in result.candidates]


def _look_up(results: Sequence[StrategyResult]) -> list[Scores]:
    """Return each strategy's scores of the passages that only others found in its index."""
    every: dict[PassageKey, Candidate] = {}
    for result in results:
        every |= {one.passage: one for one, _ in result.candidates}
    return [_look_up_others(result, every) for result in results]


def _look_up_others(result: StrategyResult, every: Mapping[PassageKey, Candidate]) -> Scores:
    own = {candidate.passage for candidate, _ in result.candidates}
    others = [
        (passage, candidate.chunk.key)
        for passage, candidate in every.items()
        if passage not in own and candidate.index is result.index
    ]
    if not others:
        return []
    scores = result.score(np.array([key for _, key in others], dtype=np.int64))
    return [(passage, score) for (passage, _), score in zip(others, scores.tolist(), strict=True)]


def _compare_raw(result: StrategyResult, scores: Scores) -> Scores:
    if result.matches is None or not result.candidates:
        return scores
    best = result.candidates[0][1]
    return [(passage, score / best) for passage, score in scores]
