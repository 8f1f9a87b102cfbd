"""Evaluations of a real index: figures, comparison, history."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from merganser.config.rag_definition import resolve_rag
from merganser.config.spec_evaluation import Metric, ThresholdSpec
from merganser.errors import NoSnapshotError
from merganser.evaluation.assess import (
    Assessment,
    Baseline,
    assess_candidate,
    assess_published,
    check_thresholds,
    earlier,
    record,
)
from merganser.indexing.build import build_snapshot
from merganser.indexing.changes import find_changes
from merganser.indexing.shards import embed_shard
from merganser.indexing.workspace import begin_run
from merganser.store.evaluations import list_evaluations
from merganser.store.folder import IndexFolder

if TYPE_CHECKING:
    from pathlib import Path

    from merganser.models.ref import ModelRef, Role

    from .conftest import Shop

RECALL, MRR = Metric("recall", 5), Metric("mrr", 10)
LEAST = (ThresholdSpec(metric=RECALL, min=0.9), ThresholdSpec(metric=MRR))


def no_model(role: Role, model: ModelRef) -> None:
    del role, model


async def evaluate_shop(
    shop: Shop, queries: Path, *thresholds: ThresholdSpec, generation: int | None = None
) -> Assessment:
    return await assess_published(
        shop.config,
        "code",
        queries,
        thresholds or LEAST,
        find_model=no_model,
        generation=generation,
    )


def good(shop: Shop) -> Path:
    return shop.queries(
        {"query": "best discount of coupons", "path": "src/discount.py", "lines": "1-2"},
        {"id": "refund", "query": "money back", "path": "src/refunds.md", "quote": "14 days"},
    )


async def test_what_is_found_is_measured_per_query_and_in_the_mean(shop: Shop):
    queries = shop.queries(
        {"id": "a", "query": "best discount", "path": "src/discount.py"},
        {"id": "b", "query": "invoice", "expected": ["src/mail.py", "src/gone.py"]},
        {"id": "c", "query": "zzz", "path": "src/mail.py"},
        {"id": "d", "query": "invoice", "path": "src/mail.py", "filters": {"path": "*.md"}},
    )

    found = await evaluate_shop(shop, queries)

    evaluation = found.evaluation
    assert [result.values[RECALL] for result in evaluation.results] == [1.0, 0.5, 0.0, 0.0]
    assert [result.first for result in evaluation.results] == [1, 1, None, None]
    assert evaluation.results[1].missed == ("src/gone.py",)
    assert evaluation.results[0].hits == ("src/discount.py:1-2",)
    assert [figure.value for figure in evaluation.figures] == [0.375, 0.5]
    assert evaluation.figures[0].low <= 0.375 <= evaluation.figures[0].high
    assert evaluation.stale == ("b: src/gone.py: src/gone.py is not in the index",)
    assert [one.query.id for one in evaluation.worst(RECALL, 2)] == ["c", "d"]
    assert found.problems == ("recall@5 is 0.3750, 0.5250 below the least, 0.9",)


async def test_the_last_evaluation_is_what_a_new_one_is_compared_with(shop: Shop):
    queries = good(shop)
    first = await evaluate_shop(shop, queries)
    record(shop.config, first, kind="evaluate", flow="quality")
    shop.write("src/refunds.md", "# Refunds\n\nGone.\n")
    await shop.index()

    second = await evaluate_shop(shop, queries, ThresholdSpec(metric=RECALL, max_drop=0.1))
    record(shop.config, second, kind="evaluate", flow="quality")

    assert first.baseline is None
    assert first.passed
    assert second.baseline is not None
    assert second.verdicts[0].baseline == 1.0
    assert second.problems[0].startswith(
        "recall@5 is 0.5000, 0.5000 below the 1.0000 of the evaluation of "
    )
    assert second.problems[0].endswith("and may fall by 0.1")
    values = [row.values["recall@5"] for row in earlier(shop.config, second.evaluation)]
    assert values == [1.0, 0.5]


async def test_other_queries_are_not_compared_with(shop: Shop):
    first = await evaluate_shop(shop, good(shop))
    record(shop.config, first, kind="evaluate", flow="quality")
    other = shop.queries({"query": "invoice", "path": "src/mail.py"})

    second = await evaluate_shop(shop, other)

    assert second.baseline is None


async def test_a_kept_snapshot_is_compared_with_the_served_one(shop: Shop):
    queries = good(shop)
    shop.write("src/refunds.md", "# Refunds\n\nGone.\n")
    await shop.index()

    found = await evaluate_shop(shop, queries, generation=1)

    assert found.evaluation.snapshots == {"code": 1}
    assert found.baseline == Baseline("the served snapshot 2", {"recall@5": 0.5, "mrr@10": 0.5})
    assert [verdict.figure.value for verdict in found.verdicts] == [1.0, 1.0]
    with pytest.raises(NoSnapshotError, match="snapshot 7 is not kept"):
        await evaluate_shop(shop, queries, generation=7)


async def test_a_candidate_is_compared_with_what_is_served(shop: Shop):
    queries = good(shop)
    shop.write("src/refunds.md", "# Refunds\n\nGone.\n")
    (index,) = resolve_rag(shop.config, "code").indexes
    with begin_run(find_changes(index, fingerprint="")) as workspace:
        for shard in workspace.shards:
            await embed_shard(workspace, shard, None)
        built = build_snapshot(workspace)

        found = await assess_candidate(
            shop.config,
            "code",
            queries,
            [ThresholdSpec(metric=RECALL, min=0.5, max_drop=0.2)],
            find_model=no_model,
            open_index=lambda _: built.open(),
        )

    assert found.evaluation.snapshots == {"code": 2}
    assert found.problems == (
        "recall@5 is 0.5000, 0.5000 below the 1.0000 of the served snapshot 1, and may fall by 0.2",
    )
    assert found.evaluation.stale == (
        'refund: src/refunds.md "14 days": the quote is not in src/refunds.md',
    )


async def test_history_keeps_all_of_an_evaluation(shop: Shop):
    found = await evaluate_shop(shop, good(shop))

    record(shop.config, found, kind="gate", flow="reindex")

    (index,) = resolve_rag(shop.config, "code").indexes
    (row,) = list_evaluations(IndexFolder(index.folder), rag="code")
    assert (row.kind, row.flow, row.queries, row.failed, row.stale, row.passed) == (
        "gate",
        "reindex",
        2,
        0,
        0,
        True,
    )
    assert row.snapshots.startswith("code=1@")
    assert row.values == {"recall@5": 1.0, "mrr@10": 1.0}
    assert (row.metrics[0].min, row.metrics[1].min, row.metrics[0].baseline) == (0.9, None, None)
    assert row.started == found.evaluation.started
    assert list_evaluations(IndexFolder(index.folder), rag="other") == ()


async def test_a_least_value_is_reached_by_equality_and_not_by_less(shop: Shop):
    evaluation = (await evaluate_shop(shop, good(shop))).evaluation
    figure = replace(evaluation.figures[0], value=0.8)
    measured = replace(evaluation, figures=(figure,))

    exact = check_thresholds(measured, [ThresholdSpec(metric=RECALL, min=0.8)], None)
    above = check_thresholds(measured, [ThresholdSpec(metric=RECALL, min=0.8001)], None)

    assert exact.passed
    assert not above.passed


@pytest.mark.parametrize(("before", "problems"), [(0.5, 0), (0.8, 0), (0.9, 0), (0.95, 1)])
async def test_a_drop_is_counted_from_what_was_before(shop: Shop, before: float, problems: int):
    evaluation = (await evaluate_shop(shop, good(shop))).evaluation
    measured = replace(evaluation, figures=(replace(evaluation.figures[0], value=0.8),))
    thresholds = [ThresholdSpec(metric=RECALL, max_drop=0.1)]

    found = check_thresholds(measured, thresholds, Baseline("before", {"recall@5": before}))

    assert problems == len(found.problems)
