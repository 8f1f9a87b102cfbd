"""Gates and evaluate flows: from the YAML to the plan."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from merganser.config.flow_definition import EvaluateFlow, IndexFlow, models_of_flow, resolve_flow
from merganser.config.spec_evaluation import Metric, ThresholdSpec
from merganser.errors import SpecErrors
from merganser.planning.explain import describe_stage
from merganser.planning.plan import build_plan

if TYPE_CHECKING:
    from .conftest import Load

RAGS = """
models:
  judge: {provider: dmr, model: ai/reranker}
rag:
  code:
    docs: [./src]
    strategies:
      - {type: chunked-embeddings, embedding_model: dmr/ai/embed}
      - {type: bm25, chunking: {size: 300}}
    results: {reranking: {model: judge}}
  notes:
    docs: [./notes]
    strategies: [{type: bm25}]
flows:
"""


def index_flow(load: Load, text: str) -> IndexFlow:
    flow = resolve_flow(load(RAGS + text), "reindex")
    assert isinstance(flow, IndexFlow)
    return flow


def stages(load: Load, text: str) -> list[str]:
    config = load(RAGS + text)
    plan = build_plan(config, resolve_flow(config, "reindex"))
    return [type(stage).__name__ for stage in plan.stages if "Model" not in type(stage).__name__]


def test_one_gate_stands_alone_and_gates_of_one_file_are_held_together(load: Load):
    alone = index_flow(
        load, "  reindex: {type: index, gate: {queries: ./e.jsonl, min: 0.8}, keep_snapshots: 5}"
    )
    several = index_flow(
        load,
        "  reindex:\n    type: index\n    gate:\n"
        "      - {queries: ./e.jsonl, metric: recall@5, min: 0.8}\n"
        "      - {queries: ./other.jsonl, metric: mrr@10, min: 0.5}\n"
        "      - {queries: e.jsonl, metric: ndcg@10, max_drop: 0}\n",
    )

    recall = ThresholdSpec(metric=Metric("recall", 5), min=0.8)
    assert (alone.gates[0].thresholds, alone.spec.keep_snapshots) == ((recall,), 5)
    assert alone.gates[0].queries.is_absolute()
    assert [gate.queries.name for gate in several.gates] == ["e.jsonl", "other.jsonl"]
    assert several.gates[0].thresholds == (
        recall,
        ThresholdSpec(metric=Metric("ndcg", 10), max_drop=0.0),
    )


def test_metrics_are_names_or_thresholds_and_have_defaults(load: Load):
    config = load(
        RAGS
        + "  own: {type: evaluate, queries: e.jsonl, metrics: [recall@3, {metric: mrr@5, min: 1}]}"
        "\n" + "  plain: {type: evaluate, rag: notes, queries: e.jsonl}\n"
    )

    own, plain = resolve_flow(config, "own"), resolve_flow(config, "plain")

    assert isinstance(own, EvaluateFlow)
    assert isinstance(plain, EvaluateFlow)
    assert own.rags == ("code", "notes")
    assert own.spec.metrics == (
        ThresholdSpec(metric=Metric("recall", 3)),
        ThresholdSpec(metric=Metric("mrr", 5), min=1.0),
    )
    assert plain.rags == ("notes",)
    assert [str(one.metric) for one in plain.spec.metrics] == ["recall@5", "mrr@10", "ndcg@10"]


def test_without_a_gate_each_index_is_published_when_it_is_built(load: Load):
    assert (
        stages(load, "  reindex: {type: index, rag: [code, notes]}")
        == [
            "SurveySources",
            "EmbedShards",
            "BuildSnapshot",
            "PublishSnapshot",
        ]
        * 3
    )


def test_a_gate_stands_between_all_building_and_all_publishing(load: Load):
    text = "  reindex: {type: index, gate: {queries: e.jsonl, min: 0.8}}"

    assert stages(load, text) == [
        *["SurveySources", "EmbedShards", "BuildSnapshot"] * 3,
        *["EvaluateSnapshot"] * 2,
        *["PublishSnapshot"] * 3,
    ]


def test_a_gate_needs_the_reranker_and_an_index_flow_without_one_does_not(load: Load):
    gate = "gate: {queries: e.jsonl, min: 0.8}"
    gated = load(RAGS + f"  reindex: {{type: index, {gate}}}")
    plain = load(RAGS + "  reindex: {type: index}")

    roles = [
        [use.role for use in models_of_flow(config, resolve_flow(config, "reindex"))]
        for config in (gated, plain)
    ]

    assert roles == [["embedding", "reranking"], ["embedding"]]


def test_the_plan_tells_of_the_gate(load: Load):
    text = "  reindex: {type: index, rag: notes, gate: {queries: e.jsonl, min: 0.8, max_drop: 0.1}}"
    config = load(RAGS + text)

    plan = build_plan(config, resolve_flow(config, "reindex"))

    held = "recall@5 at least 0.8 and at most 0.1 lower than before"
    assert [describe_stage(stage) for stage in plan.stages][-2:] == [
        f"gate `notes` with `e.jsonl`: {held}; else publish nothing",
        "publish the snapshot of `notes` in one step (the last 3 are kept)",
    ]


def test_a_gate_may_count_secrets_alone_or_beside_queries(load: Load):
    alone = index_flow(load, "  reindex: {type: index, rag: notes, gate: {secrets: 2}}")
    text = "{queries: e.jsonl, min: 0.8, secrets: 3}, {secrets: 0}"
    beside = index_flow(load, f"  reindex: {{type: index, rag: notes, gate: [{text}]}}")

    assert (alone.gates, alone.max_secrets) == ((), 2)
    assert ([gate.queries.name for gate in beside.gates], beside.max_secrets) == (["e.jsonl"], 0)
    config = load(RAGS + "  reindex: {type: index, gate: {secrets: 0}}")
    plan = build_plan(config, resolve_flow(config, "reindex"))
    kinds = [type(stage).__name__ for stage in plan.stages]
    counted = kinds.index("CountSecrets")
    assert "BuildSnapshot" not in kinds[counted:]
    assert "PublishSnapshot" not in kinds[:counted]
    assert describe_stage(plan.stages[counted]) == (
        "gate `code`: at most 0 secrets in its files; else publish nothing"
    )


def test_secrets_that_are_kept_cannot_be_counted(load: Load):
    kept = RAGS.replace("docs: [./notes]", "docs: [./notes]\n    secrets: keep")
    load(kept + "  reindex: {type: index, rag: code, gate: {secrets: 0}}")

    with pytest.raises(SpecErrors, match="no secrets are looked for in the rag 'notes'"):
        load(kept + "  reindex: {type: index, gate: {secrets: 0}}")


@pytest.mark.parametrize("gate", ["{}", "{secrets: 0, min: 0.5}", "{min: 0.5}", "{secrets: -1}"])
def test_a_gate_that_says_nothing_or_measures_nothing_is_refused(load: Load, gate: str):
    with pytest.raises(SpecErrors, match=r"flows\.reindex\.gate"):
        load(RAGS + f"  reindex: {{type: index, gate: {gate}}}")


def test_query_sets_of_an_extended_file_are_relative_to_it(load: Load):
    load(RAGS + "  quality: {type: evaluate, queries: ./e.jsonl}", name="base/base.yaml")

    config = load("extends: ./base/base.yaml\n")

    flow = resolve_flow(config, "quality")
    assert isinstance(flow, EvaluateFlow)
    assert flow.queries.parts[-2:] == ("base", "e.jsonl")
