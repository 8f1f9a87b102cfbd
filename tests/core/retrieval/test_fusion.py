from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merganser.retrieval.fusion import Fused, max_fusion, reciprocal_rank_fusion, weighted_fusion

if TYPE_CHECKING:
    from collections.abc import Callable

ITEMS = st.integers(0, 12)
LISTS = st.dictionaries(
    st.sampled_from(["bm25", "dense", "third"]),
    st.lists(ITEMS, unique=True, max_size=8).map(
        lambda items: [(item, 1.0 / (i + 1)) for i, item in enumerate(items)]
    ),
)


def fuse(case: dict[str, Any], lists: dict[str, list[tuple[str, float]]]) -> list[Fused[str]]:
    match case["strategy"]:
        case "rrf":
            return reciprocal_rank_fusion(lists, k=case["k"])
        case "weighted":
            return weighted_fusion(lists, weights=case["weights"])
        case _:
            return max_fusion(lists)


def test_values_equal_those_of_the_reference(golden: Callable[[str], Any]):
    for case in golden("fusion.json")["fusion"]:
        lists: dict[str, list[tuple[str, float]]] = {
            name: [(path, score) for path, score in hits] for name, hits in case["input"].items()
        }

        fused = fuse(case, lists)

        assert [path for path, _ in case["output"]] == [one.item for one in fused]
        assert [score for _, score in case["output"]] == pytest.approx([o.score for o in fused])


def test_equal_scores_are_ordered_by_item():
    lists = {"a": [("z", 1.0)], "b": [("m", 1.0)], "c": [("k", 1.0)]}

    assert [one.item for one in reciprocal_rank_fusion(lists)] == ["k", "m", "z"]


def test_weight_decides_between_strategies():
    lists = {"dense": [("a", 0.9), ("b", 0.8)], "bm25": [("b", 9.0), ("a", 8.0)]}

    fused = reciprocal_rank_fusion(lists, k=10, weights={"dense": 2.0})

    assert [one.item for one in fused] == ["a", "b"]
    assert fused[0].terms == pytest.approx({"dense": 2 / 11, "bm25": 1 / 12})


def test_negative_scores_survive_max():
    assert max_fusion({"a": [("x", -0.5)], "b": [("x", -0.2)]})[0].score == pytest.approx(-0.2)


def test_no_lists_give_nothing():
    assert reciprocal_rank_fusion({}) == []


@given(LISTS, st.randoms())
def test_order_of_the_strategies_changes_nothing(lists: dict[str, Any], random: Any):
    names = list(lists)
    random.shuffle(names)

    assert reciprocal_rank_fusion(lists) == reciprocal_rank_fusion({n: lists[n] for n in names})


@given(LISTS)
def test_union_is_given_once_and_sorted(lists: dict[str, list[tuple[int, float]]]):
    fused = reciprocal_rank_fusion(lists)

    assert sorted(one.item for one in fused) == sorted(
        {i for hits in lists.values() for i, _ in hits}
    )
    assert [(-one.score, one.item) for one in fused] == sorted((-o.score, o.item) for o in fused)


@given(LISTS, ITEMS)
def test_another_vote_never_lowers_a_score(lists: dict[str, list[tuple[int, float]]], item: int):
    more = {**lists, "vote": [(item, 1.0)]}

    before = {one.item: one.score for one in reciprocal_rank_fusion(lists)}
    after = {one.item: one.score for one in reciprocal_rank_fusion(more)}

    assert after[item] > before.get(item, 0.0)
    assert all(after[other] == before[other] for other in before if other != item)
