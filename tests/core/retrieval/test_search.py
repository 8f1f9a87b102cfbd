from __future__ import annotations

import asyncio
import json
import os
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import duckdb
import pytest

from merganser.chunking import ChunkingOptions
from merganser.config.index_definition import EmbeddingDefinition
from merganser.config.spec_rag import FusionSpec
from merganser.embedding.embedder import Embedder
from merganser.errors import (
    NoSnapshotError,
    PlanError,
    RunnerUnavailableError,
    SnapshotMismatchError,
)
from merganser.indexing.run import index_once_async
from merganser.models.client import ModelRunner
from merganser.models.ref import ModelRef
from merganser.retrieval import Retriever
from merganser.store.filters import Filter

if TYPE_CHECKING:
    from conftest import Rags

    from tests.doubles import FaultyRunner

FILES = {
    "engine.py": "def run(flow):\n    return flow.start()\n",
    "birds.md": "# Ducks\n\nA merganser dives and comes up with a fish.\n",
    "geese.md": "# Geese\n\nA goose grazes on the meadow and does not dive.\n",
    "src/store.py": "class Store:\n    def publish(self):\n        pass\n",
}


async def test_both_strategies_find_and_name_the_place(rags: Rags):
    await rags.build(FILES)

    result = await rags.open(rags.rag()).search("which bird dives for fish")

    best = result.hits[0]
    assert best.source == "birds.md:1-3"
    assert set(best.strategies) == {"bm25", "chunked-embeddings"}
    assert best.text == FILES["birds.md"]
    assert result.notes == ()
    assert result.snapshots == {"docs": 1}
    assert {"bm25", "chunked-embeddings", "chunked-embeddings.embed", "fuse", "total"} <= set(
        result.timings
    )


async def test_words_of_path_and_symbol_are_found(rags: Rags):
    await rags.build(FILES)

    result = await rags.open(rags.rag(rags.strategy("bm25"))).search("engine run")

    assert result.hits[0].path == "engine.py"


@pytest.mark.parametrize("query", ["Go", "the and", "C#", "?!"])
async def test_short_common_or_wordless_query_is_no_error(rags: Rags, query: str):
    await rags.build({**FILES, "go.md": "Go and C are languages.\n"})

    result = await rags.open(rags.rag()).search(query)

    assert len(result.hits) > 0  # the dense strategy always finds the nearest


async def test_query_that_matches_nothing_gives_no_hits(rags: Rags):
    await rags.build(FILES)

    result = await rags.open(rags.rag(rags.strategy("bm25"))).search("zzz qqq")

    assert result.hits == ()


async def test_empty_query_is_refused(rags: Rags):
    await rags.build(FILES)

    with pytest.raises(PlanError, match="empty"):
        await rags.open(rags.rag()).search("  ")


def test_index_that_was_never_built_is_named(rags: Rags):
    with pytest.raises(NoSnapshotError, match="merganser index"):
        Retriever.open(rags.rag())


async def test_strategy_and_result_limits_are_honoured(rags: Rags):
    await rags.build({f"n{i:02}.md": f"duck number {i}\n" for i in range(30)})
    few = rags.strategy("bm25", limit=20)

    all_of_them = await rags.open(rags.rag(few, limit=15)).search("duck")
    asked_for_more = await rags.open(rags.rag(few, limit=15)).search("duck", limit=50)
    asked_for_none = await rags.open(rags.rag(few)).search("duck", limit=0)

    assert [len(r.hits) for r in (all_of_them, asked_for_more, asked_for_none)] == [15, 20, 0]


async def test_equal_scores_are_cut_by_path(rags: Rags):
    await rags.build({f"{name}.md": "duck\n" for name in "dacb"})
    rag = rags.rag(rags.strategy("bm25", limit=2), deduplicate=False)

    result = await rags.open(rag).search("duck")

    assert [hit.path for hit in result.hits] == ["a.md", "b.md"]


@pytest.mark.parametrize(("deduplicate", "count"), [(True, 1), (False, 3)])
async def test_equal_texts_are_given_once_when_asked(rags: Rags, count: int, *, deduplicate: bool):
    await rags.build({f"{name}.md": "the same duck\n" for name in "abc"})

    result = await rags.open(rags.rag(deduplicate=deduplicate)).search("duck")

    assert len(result.hits) == count


async def test_thresholds_are_compared_with_each_strategys_own_score(rags: Rags):
    await rags.build(FILES)
    dense = rags.strategy("chunked-embeddings", threshold=0.2)
    words = rags.strategy("bm25", threshold=100.0)

    result = await rags.open(rags.rag(dense, words)).search("a merganser dives")

    assert all(set(hit.strategies) == {"chunked-embeddings"} for hit in result.hits)
    assert all(hit.strategies["chunked-embeddings"].score >= 0.2 for hit in result.hits)
    assert result.hits


@pytest.mark.parametrize("resident", [False, True])
@pytest.mark.parametrize(
    ("where", "paths"),
    [
        (Filter(paths=("src/",)), {"src/store.py"}),
        (Filter(languages=("python",)), {"src/store.py", "engine.py"}),
        (Filter(symbols=("Store",)), {"src/store.py"}),
        (Filter(paths=("*.md",), languages=("python",)), set[str]()),
    ],
)
async def test_filters_leave_exactly_what_they_allow(
    rags: Rags, where: Filter, paths: set[str], *, resident: bool
):
    index = rags.index(chunking=ChunkingOptions(size=200, overlap=0, code_aware=True))
    await rags.build(FILES, index=index)
    strategies = [rags.strategy(k, index=index) for k in ("chunked-embeddings", "bm25")]

    result = await rags.open(rags.rag(*strategies), resident=resident).search(
        "def publish run flow class merganser dive", where=where
    )

    assert paths == {hit.path for hit in result.hits}


async def test_filter_is_never_applied_after_the_limit(rags: Rags):
    await rags.build(
        {f"a{i:02}.md": "duck duck duck\n" for i in range(20)} | {"z/x.md": "one duck\n"}
    )
    rag = rags.rag(
        rags.strategy("chunked-embeddings", limit=1), rags.strategy("bm25", limit=1), limit=1
    )

    result = await rags.open(rag).search("duck", where=Filter(paths=("z/",)))

    assert [hit.path for hit in result.hits] == ["z/x.md"]


async def test_filter_changes_no_score(rags: Rags):
    await rags.build(FILES)
    retriever = rags.open(rags.rag(rags.strategy("bm25"), ranking="off"))

    everything = await retriever.search("a merganser dives")
    filtered = await retriever.search("a merganser dives", where=Filter(paths=("birds.md",)))

    assert [(h.source, h.score) for h in everything.hits if h.path == "birds.md"] == [
        (h.source, h.score) for h in filtered.hits
    ]


async def test_resident_search_equals_search_by_sql(rags: Rags):
    await rags.build({f"n{i}.md": f"duck {'goose ' * (i % 3)} number {i}\n" for i in range(12)})
    similarities = ("cosine_similarity", "euclidean", "dot_product")
    for similarity in similarities:
        embedding = rags.index().embedding
        assert embedding is not None
        index = rags.index(embedding=replace(embedding, similarity=similarity))
        rag = rags.rag(
            *(rags.strategy(k, index=index, limit=5) for k in ("chunked-embeddings", "bm25"))
        )

        by_sql = await rags.open(rag).search("goose number 7")
        in_memory = await rags.open(rag, resident=True).search("goose number 7")

        assert [hit.source for hit in by_sql.hits] == [hit.source for hit in in_memory.hits]
        for one, other in zip(by_sql.hits, in_memory.hits, strict=True):
            assert {n: each.score for n, each in one.strategies.items()} == pytest.approx(
                {n: each.score for n, each in other.strategies.items()}, abs=1e-5
            )


async def test_hybrid_search_without_embedder_goes_on_and_says_so(rags: Rags):
    await rags.build(FILES)
    rags.embedder.failure = RunnerUnavailableError("the server is loading", status=503)

    result = await rags.open(rags.rag()).search("merganser")

    assert result.hits[0].path == "birds.md"
    assert result.notes == ("chunked-embeddings did not take part: the server is loading",)


async def test_dense_only_rag_without_model_server_searches_by_words(rags: Rags):
    await rags.build(FILES)

    result = await rags.open(rags.rag(rags.strategy("chunked-embeddings")), embeds=False).search(
        "merganser"
    )

    assert [hit.path for hit in result.hits] == ["birds.md"]
    assert "searched by words alone" in result.notes[0]


async def test_dense_only_rag_over_index_without_vectors_searches_by_words(rags: Rags):
    await rags.build(FILES, index=rags.index(embedding=None))

    result = await rags.open(rags.rag(rags.strategy("chunked-embeddings"))).search("merganser")

    assert [hit.path for hit in result.hits] == ["birds.md"]
    assert "holds no vectors" in result.notes[0]


async def test_other_embedder_than_the_snapshots_is_refused(rags: Rags):
    await rags.build(FILES)
    rags.embedder.fingerprint = "words-2"

    with pytest.raises(SnapshotMismatchError, match=r"words-1.*words-2.*merganser index"):
        await rags.open(rags.rag(rags.strategy("chunked-embeddings"))).search("merganser")


async def test_hybrid_search_with_other_embedder_leaves_dense_out_loudly(rags: Rags):
    await rags.build(FILES)
    rags.embedder.fingerprint = "words-2"

    result = await rags.open(rags.rag()).search("merganser")

    assert [set(hit.strategies) for hit in result.hits] == [{"bm25"}]
    assert "cannot be compared" in result.notes[0]
    assert rags.embedder.queries == []


async def test_strategies_with_different_chunking_do_not_collide(rags: Rags):
    fine = rags.index(
        name="fine",
        folder=rags.folder.parent / "fine",
        chunking=ChunkingOptions(size=20, overlap=0),
        embedding=None,
    )
    await rags.build({"long.md": "".join(f"duck line {i}\n" for i in range(12))})
    await rags.build({}, index=fine)
    rag = rags.rag(rags.strategy("bm25"), rags.strategy("bm25", name="fine", index=fine))

    result = await rags.open(rag, embeds=False).search("duck")

    assert all(len(hit.strategies) == 1 for hit in result.hits)
    assert {"bm25", "fine"} == {name for hit in result.hits for name in hit.strategies}
    assert result.snapshots == {"docs": 1, "fine": 1}


@pytest.mark.parametrize("method", ["weighted", "max"])
async def test_unbounded_bm25_does_not_drown_similarities(rags: Rags, method: str):
    await rags.build(FILES)
    rag = rags.rag(
        fusion=FusionSpec(strategy=method, k=60, weights={"chunked-embeddings": 1.0}),  # pyright: ignore[reportArgumentType] - a parameter of the test
    )

    result = await rags.open(rag).search("merganser dives", explain=True)

    terms = [hit.explanation.fused_terms for hit in result.hits if hit.explanation]
    assert max(part.get("bm25", 0.0) for part in terms) == pytest.approx(1.0)


async def test_file_that_changed_or_went_away_is_noted(rags: Rags):
    await rags.build(FILES)
    retriever = rags.open(rags.rag())
    rags.write({"birds.md": "# Ducks\n\nNow something else.\n"})
    (rags.folder / "geese.md").unlink()
    touched = rags.folder / "engine.py"
    os.utime(touched, ns=(1, 1))

    result = await retriever.search("dive run")

    assert {hit.path: hit.stale for hit in result.hits} == {
        "birds.md": True,
        "geese.md": True,
        "engine.py": False,
        "src/store.py": False,
    }
    assert sorted(note.partition(":")[0] for note in result.notes) == [
        "birds.md changed since it was indexed",
        "geese.md was removed since it was indexed",
    ]


async def test_full_content_gives_each_file_once_and_whole(rags: Rags):
    text = "".join(f"duck line {i}\n" for i in range(40))
    await rags.build({"long.md": text, "other.md": "no birds here, but a duck\n"})

    result = await rags.open(rags.rag(return_full_content=True)).search("duck")

    assert sorted((hit.source, hit.text) for hit in result.hits) == [
        ("long.md:1-40", text),
        ("other.md:1-1", "no birds here, but a duck\n"),
    ]


async def test_full_content_of_changed_file_is_the_stored_passage(rags: Rags):
    await rags.build({"birds.md": "a duck\n"})
    retriever = rags.open(rags.rag(return_full_content=True))
    rags.write({"birds.md": "a goose, and more of it\n"})

    result = await retriever.search("duck")

    assert [(hit.text, hit.stale) for hit in result.hits] == [("a duck\n", True)]
    assert "the passage is given and not the file" in result.notes[0]


async def test_search_reads_the_snapshot_it_was_opened_on(rags: Rags):
    await rags.build(FILES)
    retriever = rags.open(rags.rag())
    await rags.build({"new.md": "A merganser, a merganser, a merganser.\n"})

    before = await retriever.search("merganser")
    after = await rags.open(rags.rag()).search("merganser")

    assert before.snapshots == {"docs": 1}
    assert after.snapshots == {"docs": 2}
    assert "new.md" not in {hit.path for hit in before.hits}
    assert after.hits[0].path == "new.md"


async def test_explanation_says_what_each_strategy_and_word_added(rags: Rags):
    await rags.build(FILES)

    result = await rags.open(rags.rag()).search("merganser fish", explain=True)

    why = result.hits[0].explanation
    assert why is not None
    assert (why.fused_rank, why.rerank_delta) == (1, None)
    assert why.fused_score == pytest.approx(sum(why.fused_terms.values()))
    assert sum(why.bm25_terms["bm25"].values()) == pytest.approx(
        result.hits[0].strategies["bm25"].score
    )
    assert set(why.bm25_terms["bm25"]) == {"mergans", "fish"}


async def test_searches_at_the_same_time_do_not_disturb_each_other(rags: Rags):
    await rags.build(FILES)
    queries = ["merganser dives", "goose meadow", "run flow", "publish store"] * 4
    for resident in (False, True):
        retriever = rags.open(rags.rag(), resident=resident)
        one_by_one = [await retriever.search(query) for query in queries]

        together = await asyncio.gather(*(retriever.search(query) for query in queries))

        assert [result.hits for result in one_by_one] == [result.hits for result in together]


async def test_json_holds_scores_only_when_wanted(rags: Rags):
    await rags.build(FILES)
    retriever = rags.open(rags.rag())

    plain = (await retriever.search("merganser")).as_json()
    explained = (await retriever.search("merganser", explain=True)).as_json()

    assert "score" not in plain["hits"][0]
    assert {"score", "legs", "explanation"} <= set(explained["hits"][0])
    assert explained == json.loads(json.dumps(explained))


async def test_unreachable_reranker_is_named_in_the_result(rags: Rags):
    await rags.build(FILES)

    result = await rags.open(rags.rag(rerank=rags.rerank(threshold=0.5))).search("merganser")

    assert result.rerank.startswith("skipped (the model ")
    assert f"rerank: {result.rerank}" in result.notes
    assert result.hits[0].path == "birds.md"


async def test_closing_while_a_given_up_search_still_reads_is_no_error(rags: Rags):
    await rags.build(FILES)
    retriever = rags.open(rags.rag(rags.strategy("bm25")))
    cursor = retriever.snapshots["docs"].cursor()
    slow = "SELECT sum(a.i * b.i) FROM range(40000) a(i), range(20000) b(i)"
    reading = asyncio.create_task(asyncio.to_thread(lambda: cursor.execute(slow).fetchall()))
    await asyncio.sleep(0.1)
    assert not reading.done()

    retriever.close()

    # DuckDB 2.0 lets the reader end first, 1.5 cuts it off.
    (ended,) = await asyncio.gather(reading, return_exceptions=True)
    assert isinstance(ended, duckdb.Error) or len(cast("list[object]", ended)) == 1


async def test_real_embeddings_find_by_meaning(rags: Rags, runner: FaultyRunner):
    rags.write(
        {
            "pay.md": "Invoices are settled within thirty days of delivery.\n",
            "sea.md": "The ferry crosses the strait twice a day.\n",
            "dog.md": "Puppies need several short walks.\n",
        }
    )
    model = ModelRef(name="minilm", provider="dmr", model="ai/all-minilm")
    index = rags.index(embedding=EmbeddingDefinition(model=model, dimensions=384))
    async with ModelRunner(runner.url) as client:
        served = await client.model(model.model)
        assert served is not None
        embedder = Embedder(client, model, served, dimensions=384)
        await index_once_async(index, embedder)

        async def embedder_for(_: EmbeddingDefinition) -> Embedder:
            return embedder

        rag = rags.rag(rags.strategy("chunked-embeddings", index=index))
        with Retriever.open(rag, runner=client, embedder_for=embedder_for) as retriever:
            result = await retriever.search("when do I have to transfer the money?")

    assert result.hits[0].path == "pay.md"
