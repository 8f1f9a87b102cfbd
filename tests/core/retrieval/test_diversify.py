from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from merganser.retrieval.ranking import diversify, score_files

if TYPE_CHECKING:
    from conftest import Rags

PATHS = st.lists(st.sampled_from("abcdef"), max_size=40)


def files_of(paths: list[str], per_file: int) -> str:
    return "".join(paths[index] for index in diversify(paths, per_file))


def test_the_best_passages_file_comes_first_however_many_another_has():
    assert files_of(list("abcb"), 1) == "abcb"
    assert files_of(list("abbbbbbb"), 1) == "abbbbbbb"


def test_the_next_two_passages_of_a_file_count_a_little():
    assert files_of(list("abccc"), 1) == "abccc"  # 1/2 against 1/3 + 0.3 * (1/4 + 1/5)
    assert files_of(list("abcddd"), 1) == "abdcdd"  # 1/3 against 1/4 + 0.3 * (1/5 + 1/6)


def test_no_passage_after_the_third_of_a_file_counts():
    assert score_files(list("abbb"))["b"] == score_files(list("abbbbbb"))["b"]


@pytest.mark.parametrize(
    ("per_file", "expected"), [(1, "abcabca"), (2, "aabbcca"), (3, "aaabbcc"), (9, "aaabbcc")]
)
def test_each_file_gives_so_many_at_a_time(per_file: int, expected: str):
    assert files_of(list("aabacbc"), per_file) == expected


@settings(deadline=None)
@given(PATHS, st.integers(1, 5))
def test_every_passage_is_given_once_and_a_files_own_order_stays(paths: list[str], per_file: int):
    order = diversify(paths, per_file)

    assert list(range(len(paths))) == sorted(order)
    for path in set(paths):
        own = [index for index in order if paths[index] == path]
        assert sorted(own) == own


@settings(deadline=None)
@given(PATHS)
def test_a_file_never_waits_for_the_second_turn_of_another(paths: list[str]):
    files = files_of(paths, 1)
    distinct = len(set(paths))

    assert len(set(files[:distinct])) == distinct


BIRDS = {
    "ducks.md": "".join(f"duck line {number}\n" for number in range(40)),
    "geese.md": "A goose is no duck, it grazes on the meadow all day long and does not dive.\n",
}


async def test_per_file_lets_another_file_into_the_answer(rags: Rags):
    await rags.build(BIRDS)
    crowded = rags.open(rags.rag(rags.strategy("bm25")))
    in_turns = rags.open(rags.rag(rags.strategy("bm25"), per_file=1))

    before = await crowded.search("duck", limit=2)
    after = await in_turns.search("duck", limit=2, explain=True)
    everything = await in_turns.search("duck")

    assert [hit.path for hit in before.hits] == ["ducks.md", "ducks.md"]
    assert [hit.path for hit in after.hits] == ["ducks.md", "geese.md"]
    assert sum(hit.path == "ducks.md" for hit in everything.hits) > 1
    explanations = [hit.explanation for hit in after.hits]
    scores = [why.file_score for why in explanations if why]
    assert scores[0] is not None
    assert scores[1] is not None
    assert scores[0] > scores[1] > 0
