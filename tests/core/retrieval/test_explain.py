from __future__ import annotations

from typing import TYPE_CHECKING

from merganser.store.filters import Filter

if TYPE_CHECKING:
    from conftest import Rags

FILES = {f"n{i:02}.md": f"duck number {'x ' * i}\n" for i in range(12)} | {
    "sub/goose.md": "goose\n",
    "twin.md": "goose\n",
}


async def test_file_cut_by_a_strategys_limit_is_told_its_rank(rags: Rags):
    await rags.build(FILES)
    rag = rags.rag(rags.strategy("bm25", limit=3))

    missing = await rags.open(rag).why_missing("duck", "n11.md")

    assert (missing.found, missing.rank) == (False, None)
    assert missing.reasons == ("bm25: rank 12 is below the strategy's limit of 3",)
    assert missing.strategies["bm25"].rank == 12
    assert missing.strategies["bm25"].lines == "1-1"


async def test_file_cut_by_a_threshold_is_told_its_score(rags: Rags):
    await rags.build(FILES)

    missing = await rags.open(rags.rag(rags.strategy("bm25", threshold=50.0))).why_missing(
        "duck", "n00.md"
    )

    [reason] = missing.reasons
    assert "is below the threshold 50" in reason


async def test_file_cut_by_the_result_limit_is_told_its_fused_rank(rags: Rags):
    await rags.build(FILES)

    missing = await rags.open(rags.rag(rags.strategy("bm25", limit=20), limit=2)).why_missing(
        "duck", "n05.md"
    )

    assert missing.rank == 6
    assert missing.reasons == ("rank 6 is below the limit of 2",)


async def test_file_without_the_querys_words_is_told_so(rags: Rags):
    await rags.build(FILES)

    missing = await rags.open(rags.rag(rags.strategy("bm25"))).why_missing("duck", "goose.md")

    assert missing.path == "sub/goose.md"
    assert missing.reasons == ("bm25: holds none of the query's words (duck)",)


async def test_filtered_file_is_told_so(rags: Rags):
    await rags.build(FILES)

    missing = await rags.open(rags.rag(rags.strategy("bm25"))).why_missing(
        "duck", "n01.md", where=Filter(paths=("sub/",))
    )

    assert missing.reasons == ("bm25: left out by the filter",)


async def test_file_with_the_text_of_another_is_told_whose(rags: Rags):
    await rags.build(FILES)

    missing = await rags.open(rags.rag()).why_missing("goose", "twin.md")

    assert any("has the same text as" in reason for reason in missing.reasons) or missing.found


async def test_skipped_file_is_told_the_reason_it_was_skipped(rags: Rags):
    rags.write({"data.md": "a\0b" * 10})
    await rags.build(FILES)

    missing = await rags.open(rags.rag()).why_missing("duck", "data.md")

    assert "was left out of the index (binary" in missing.reasons[0]


async def test_unknown_file_is_not_in_the_index(rags: Rags):
    await rags.build(FILES)

    missing = await rags.open(rags.rag()).why_missing("duck", "nowhere.py")

    assert "nowhere.py is not in the index" in missing.reasons[0]


async def test_file_that_is_there_needs_no_reason(rags: Rags):
    await rags.build(FILES)

    missing = await rags.open(rags.rag()).why_missing("duck", "n00.md")

    assert (missing.found, missing.rank, missing.reasons) == (True, 1, ())
    assert {"bm25", "chunked-embeddings"} == set(missing.strategies)
