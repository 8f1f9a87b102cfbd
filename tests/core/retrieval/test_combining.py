from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from merganser.retrieval.combining import fuse_strategies, weigh_by_query
from merganser.retrieval.fusion import Scale, standardised_fusion
from merganser.store.reader import open_snapshot

if TYPE_CHECKING:
    from collections.abc import Sequence

    from conftest import Rags

    from merganser.retrieval.search import Retriever
    from merganser.retrieval.strategies import StrategyResult

FILES = {f"{name}.md": f"the {name} swims and dives, {name} {name}\n" for name in "abcdefgh"} | {
    "rare.md": "quixotic lines about something else entirely, at some length and in other words\n"
}


async def run(retriever: Retriever, query: str) -> Sequence[StrategyResult]:
    results, _ = await retriever._run_strategies(query, None)  # pyright: ignore[reportPrivateUsage] - what fusion is given
    return results


def test_a_first_hit_that_is_far_ahead_counts_more_than_one_that_is_not():
    lists = {"bm25": [("far", 9.0), ("near", 1.0)], "dense": [("near", 0.51), ("far", 0.5)]}
    scales = {"bm25": Scale.of([9.0, 1.0, 1.0, 1.0]), "dense": Scale.of([0.51, 0.5, 0.45, 0.3])}

    [first, second] = standardised_fusion(lists, scales, weights={"bm25": 0.3, "dense": 0.7})

    assert (first.item, second.item) == ("far", "near")
    assert first.score == pytest.approx(sum(first.terms.values()))


def test_equal_scores_tell_nothing_and_an_unknown_one_is_the_floor():
    lists = {"bm25": [("a", 2.0)], "dense": [("b", 0.9), ("c", 0.1)]}
    scales = {"bm25": Scale.of([2.0, 2.0]), "dense": Scale.of([0.9, 0.1])}

    fused = {one.item: one.terms for one in standardised_fusion(lists, scales)}

    assert {part["bm25"] for part in fused.values()} == {0.0}
    assert fused["a"]["dense"] == fused["c"]["dense"] == pytest.approx(-1.0)


@pytest.mark.parametrize("resident", [False, True])
async def test_a_looked_up_score_is_the_one_that_a_search_gives(rags: Rags, *, resident: bool):
    await rags.build(FILES)
    results = await run(rags.open(rags.rag(), resident=resident), "b swims quixotic lines")
    with open_snapshot(rags.index().folder) as snapshot:
        keys = snapshot.allowed()

    for result in results:
        scores = dict(zip(keys.tolist(), result.score(keys).tolist(), strict=True))
        found = {one.chunk.key: score for one, score in result.candidates}

        assert len(found) > 1
        assert {key: scores[key] for key in found} == pytest.approx(found, abs=1e-6)


async def test_what_only_one_strategy_found_has_the_score_of_the_other(rags: Rags):
    await rags.build(FILES)
    few = (rags.strategy("chunked-embeddings", limit=1), rags.strategy("bm25", limit=2))
    for method in ("standardised", "weighted", "max"):
        fusion = {"strategy": method, "weights": {"bm25": 1.0, "chunked-embeddings": 1.0}}
        rag = rags.rag(*few, fusion=fusion)
        results = await run(rags.open(rag), "quixotic swims")

        fused = fuse_strategies(rag, results)

        assert all(len(one.terms) == 2 for one in fused), method
        assert 0.0 not in {one.terms["chunked-embeddings"] for one in fused}, method


async def test_words_weigh_most_where_one_chunk_holds_a_rare_word(rags: Rags):
    await rags.build(FILES)
    retriever = rags.open(rags.rag())
    weights = {
        query: weigh_by_query(await run(retriever, query))["bm25"]
        for query in ("quixotic", "swims", "ships with seventeen sails")
    }

    assert weights["quixotic"] == pytest.approx(0.95)
    assert weights["quixotic"] > weights["swims"] > weights["ships with seventeen sails"]


async def test_a_rare_word_is_first_whatever_the_vectors_say(rags: Rags):
    await rags.build(FILES)
    retriever = rags.open(rags.rag())
    against = -rags.embedder._vector(FILES["rare.md"])  # pyright: ignore[reportPrivateUsage] - the worst query there is

    async def embed_query(_: str) -> object:
        return against.astype(np.float32)

    rags.embedder.embed_query = embed_query  # pyright: ignore[reportAttributeAccessIssue]

    assert (await retriever.search("quixotic")).hits[0].path == "rare.md"
