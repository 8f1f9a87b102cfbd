"""From the spec to definitions: shared indexes, models and their roles, flows."""

from __future__ import annotations

import pickle
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from merganser.chunking import ChunkingOptions
from merganser.config.flow_definition import (
    AskFlow,
    BatchFlow,
    DataTable,
    IndexFlow,
    all_models,
    models_of_flow,
    rags_of_agent,
    rags_of_flow,
    resolve_flow,
    resolve_flows,
)
from merganser.config.index_definition import DEFAULT_CHUNKING
from merganser.config.rag_definition import resolve_rag
from merganser.config.resolve_model import resolve_model
from merganser.config.spec_flows import (
    BatchFlowSpec,
    IndexFlowSpec,
    RetriesSpec,
    RunnerSpec,
    ScheduleSpec,
)
from merganser.errors import PlanError
from merganser.models.ref import DraftModel
from merganser.planning.explain import describe_plan
from merganser.planning.plan import EmbedShards, build_plan

if TYPE_CHECKING:
    from conftest import Load

    from merganser.config.load import Config

SEEDS = Path(__file__).with_name("seeds")
INDEX = IndexFlowSpec(type="index")
EMBEDDINGS = "{type: chunked-embeddings, embedding_model: dmr/ai/embeddinggemma"


@pytest.fixture
def seed(load: Load) -> Config:
    return load((SEEDS / "second.yaml").read_text(encoding="utf-8"))


def test_what_a_file_leaves_out_is_ours_and_what_it_writes_is_cagents(load: Load):
    text = (SEEDS / "second.yaml").read_text(encoding="utf-8")
    written = text.replace("database: ./code.db", "database: ./code.db, chunking: {}")
    cagents = ChunkingOptions(size=1500, overlap=75)

    ours = _chunking(load(text))

    assert (ours, ours.code_aware, ours.sentences) == (DEFAULT_CHUNKING, True, True)
    assert cagents == _chunking(load(f"defaults: cagent\n{text}"))
    assert cagents == _chunking(load(written))


def _chunking(config: Config) -> ChunkingOptions:
    return resolve_rag(config, "codebase").strategies[0].index.chunking


def test_the_seed_resolves_with_cagents_defaults(seed: Config):
    rag = resolve_rag(seed, "codebase")

    (strategy,) = rag.strategies
    assert (strategy.limit, strategy.threshold) == (5, None)
    assert strategy.index.chunking == DEFAULT_CHUNKING
    assert seed.directory / "code.db" == strategy.index.folder
    results = rag.results
    assert (results.limit, results.deduplicate, results.fusion.method, results.fusion.k) == (
        15,
        True,
        "standardised",
        60,
    )
    assert results.per_file is None
    embedding = strategy.index.embedding
    assert embedding is not None
    assert (embedding.dimensions, embedding.batch_size, embedding.concurrency) == (None, None, None)
    assert (embedding.model.provider, embedding.model.model) == ("dmr", "ai/embeddinggemma")


HYBRID = """
rag:
  codebase:
    docs: [.]
    strategies: [{type: chunked-embeddings, embedding_model: auto}, {type: bm25, limit: 7}]
"""


@pytest.mark.parametrize(
    ("head", "results", "held"),
    [
        ("", "{}", ("standardised", 15, 4)),
        ("", "{limit: 40}", ("standardised", 40, 4)),
        ("", "{fusion: {weights: {bm25: 2}}}", ("standardised", 15, 4)),
        ("", "{fusion: {k: 10}}", ("rrf", 5, 4)),
        ("", "{fusion: {strategy: rrf}, ranking: off}", ("rrf", 5, 0)),
        ("", "{ranking: {kind: false}}", ("standardised", 15, 3)),
        ("defaults: cagent", "{}", ("rrf", 5, 0)),
        (
            "defaults: cagent",
            "{fusion: {strategy: standardised}, ranking: on}",
            ("standardised", 15, 4),
        ),
    ],
)  # fmt: skip
def test_fusion_and_ranking_are_ours_unless_cagents_are_written_or_asked_for(
    load: Load, head: str, results: str, held: tuple[str, int, int]
):
    rag = resolve_rag(load(f"{head}{HYBRID}    results: {results}\n"), "codebase")

    [dense, words] = rag.strategies
    assert (rag.results.fusion.method, dense.limit, len(rag.results.ranking.names)) == held
    assert words.limit == 7


def test_the_seeds_limit_and_reranker_are_honoured(seed: Config):
    rag = resolve_rag(seed, "docs")

    assert rag.rerank is not None
    assert (
        rag.strategies[0].limit,
        rag.results.limit,
        rag.rerank.top_k,
        rag.rerank.threshold,
    ) == (20, 5, 5, 0.5)
    assert rag.rerank.model.model == "hf.co/ggml-org/qwen3-reranker-0.6b-q8_0-gguf"
    assert seed.directory / ".merganser" / "docs" == rag.indexes[0].folder


def test_strategies_that_cut_the_same_documents_alike_share_an_index(load: Load):
    config = load(f"rag: {{a: {{docs: [x], strategies: [{{type: bm25}}, {EMBEDDINGS}}}]}}}}")

    rag = resolve_rag(config, "a")

    (index,) = rag.indexes
    assert index.embedding is not None
    assert [index, index] == [strategy.index for strategy in rag.strategies]


@pytest.mark.parametrize(
    "other",
    [
        "{type: bm25, docs: [y]}",
        "{type: bm25, respect_vcs: false}",
        "{type: bm25, chunking: {overlap: 0}}",
        "{type: chunked-embeddings, embedding_model: dmr/ai/other}",
        "{type: bm25, database: ./other.db}",
    ],
)
def test_strategies_that_differ_have_folders_of_their_own(load: Load, other: str):
    config = load(
        f"rag: {{a: {{docs: [x], strategies: [{EMBEDDINGS}, database: ./i.db}}, {other}]}}}}"
        if "database" in other
        else f"rag: {{a: {{docs: [x], strategies: [{EMBEDDINGS}}}, {other}]}}}}"
    )

    one, two = resolve_rag(config, "a").indexes

    assert one.folder != two.folder
    assert one.name != two.name


def test_indexes_that_name_one_database_lie_side_by_side(load: Load):
    config = load(
        """
        rag:
          a:
            docs: [x]
            strategies:
              - {type: bm25, database: ./i.db}
              - {type: bm25, name: small, database: i.db, chunking: {size: 300}}
        """
    )

    folders = [index.folder.name for index in resolve_rag(config, "a").indexes]
    assert folders == ["i.db", "i-small.db"]


def test_code_aware_chunks_are_larger_and_a_small_size_shrinks_the_overlap(load: Load):
    config = load(
        """
        rag:
          a:
            docs: [x]
            strategies:
              - {type: bm25, chunking: {code_aware: true}}
              - {type: bm25, chunking: {size: 100}}
              - {type: bm25, chunking: {overlap: 0}}
        """
    )

    chunkings = [index.chunking for index in resolve_rag(config, "a").indexes]
    assert [(c.size, c.overlap) for c in chunkings] == [(4000, 75), (100, 50), (1500, 0)]


def test_positions_of_docs_are_kept_for_errors_at_survey_time(load: Load):
    config = load(
        "rag:\n  a:\n    docs: [x]\n    strategies:\n      - {type: bm25, docs: [y, x]}\n"
    )

    (index,) = resolve_rag(config, "a").indexes

    assert index.docs == ("x", "y")
    assert [(p.line, p.column) for p in index.docs_positions if p] == [(3, 12), (5, 29)]


def test_strategies_of_one_type_are_told_apart(load: Load):
    config = load(
        """
        rag:
          a:
            docs: [x]
            strategies: [{type: bm25}, {type: bm25, k1: 2, b: 0}, {type: bm25, name: bm25-2}]
            results: {fusion: {strategy: weighted, weights: {bm25: 0.2, bm25-2: 0.8}}}
        """
    )

    rag = resolve_rag(config, "a")

    fusion = rag.results.fusion
    assert [(s.name, fusion.weight(s.name, s.kind)) for s in rag.strategies] == [
        ("bm25", 0.2),
        ("bm25-3", 0.2),
        ("bm25-2", 0.8),
    ]
    assert (rag.strategies[1].k1, rag.strategies[1].b) == (2, 0)


def test_a_threshold_of_nothing_filters_nothing(load: Load):
    config = load(
        """
        rag:
          a:
            docs: [x]
            strategies: [{type: chunked-embeddings, embedding_model: auto, threshold: 0.4}]
            results:
              reranking: {model: dmr/r, threshold: 0, top_k: 7, score_normalization: none}
        """
    )

    rag = resolve_rag(config, "a")

    assert rag.rerank is not None
    assert (rag.strategies[0].threshold, rag.rerank.threshold, rag.rerank.top_k) == (0.4, None, 7)
    assert rag.rerank.model.score_normalization == "none"
    assert rag.indexes[0].embedding is not None
    assert rag.indexes[0].embedding.model.model == "ai/embeddinggemma"


@pytest.mark.parametrize("name", ["my docs", "../up", "ü", "a" * 100])
def test_any_rag_name_gives_a_safe_folder_and_tool_name(load: Load, name: str):
    config = load(f'rag: {{"{name}": {{docs: [x], strategies: [{{type: bm25}}]}}}}')

    rag = resolve_rag(config, name)

    assert config.directory / ".merganser" == rag.indexes[0].folder.parent
    assert rag.tool_name.replace("-", "").replace("_", "").isalnum()
    assert rag.tool_name.isascii()
    assert len(rag.tool_name) <= 64


def test_a_declared_model_carries_all_that_is_written(load: Load):
    config = load(
        """
        providers:
          local: {base_url: "http://localhost:1/v1", token_key: LOCAL_TOKEN}
        models:
          m:
            provider: local
            model: x
            temperature: 0.5
            max_tokens: 7
            provider_opts:
              runtime_flags: "--a 1, --b"
              context_size: "4096"
              keep_alive: -1
              speculative_draft_model: tiny
        """
    )

    model = resolve_model(config, "m")

    assert (model.base_url, model.token_env) == ("http://localhost:1/v1", "LOCAL_TOKEN")
    assert (
        model.temperature,
        model.max_tokens,
        model.context_size,
        model.keep_alive,
    ) == (0.5, 7, 4096, "-1")
    assert model.runtime_flags == ("--a", "1", "--b")
    assert DraftModel(model="tiny", num_tokens=16, acceptance_rate=0.8) == model.draft
    assert resolve_model(config, "local/y").base_url == "http://localhost:1/v1"


def test_an_agent_that_uses_the_fast_model_reaches_its_draft(load: Load):
    text = (SEEDS / "second.yaml").read_text(encoding="utf-8")
    config = load(text.replace("model: local-qwen, instr", "model: fast-qwen, instr"))

    uses = models_of_flow(config, resolve_flow(config, "ask-root"))

    assert [(use.model.model, use.role) for use in uses] == [
        ("ai/qwen3:0.6B-Q4_K_M", "draft"),
        ("ai/qwen3:14B", "chat"),
        ("ai/embeddinggemma", "embedding"),
        ("hf.co/ggml-org/qwen3-reranker-0.6b-q8_0-gguf", "reranking"),
    ]


def test_an_index_flow_reaches_its_embedding_model_alone(seed: Config):
    uses = models_of_flow(seed, resolve_flow(seed, "index-docs"))

    assert [(u.role, u.used_by) for u in uses] == [("embedding", "rag.docs.strategies[0]")]


def test_all_models_takes_every_declared_one(seed: Config):
    names = {use.model.name for use in all_models(seed)}

    assert set(seed.spec.models) <= names


def test_without_flows_each_rag_and_agent_gives_one(seed: Config):
    assert (
        IndexFlow(name="index-codebase", spec=INDEX, rags=("codebase",)),
        IndexFlow(name="index-docs", spec=INDEX, rags=("docs",)),
        AskFlow(name="ask-root", agent="root"),
    ) == resolve_flows(seed)


def test_explicit_flows_add_to_the_ask_flows(load: Load):
    config = load(
        """
        agents: {helper: {}, other: {}}
        rag:
          a: {docs: [x], strategies: [{type: bm25}]}
          b: {docs: [x], strategies: [{type: bm25}]}
        flows:
          all: {type: index, schedule: {cron: "0 3 * * *"}, concurrency: 2}
          faq:
            type: batch
            input: ./q.jsonl
            output: out/../a.jsonl
            after: all
            retries: {count: 2, delay: 1m30s}
            schedule: {interval: 15m}
        """
    )

    assert (
        IndexFlow(
            name="all",
            spec=IndexFlowSpec(
                type="index", schedule=ScheduleSpec(cron="0 3 * * *"), concurrency=2
            ),
            rags=("a", "b"),
        ),
        BatchFlow(
            name="faq",
            spec=BatchFlowSpec(
                type="batch",
                input="./q.jsonl",
                output="out/../a.jsonl",
                schedule=ScheduleSpec(interval=timedelta(minutes=15)),
                after=("all",),
                retries=RetriesSpec(count=2, delay=timedelta(seconds=90)),
            ),
            agent="helper",
            input=DataTable(config.directory / "q.jsonl"),
            output=DataTable(config.directory / "a.jsonl"),
        ),
        AskFlow(name="ask-helper", agent="helper"),
        AskFlow(name="ask-other", agent="other"),
    ) == resolve_flows(config)


def test_a_runner_and_a_place_for_shards_reach_the_stages_that_need_them(
    load: Load, tmp_path: Path
):
    config = load(
        """\
        rag: {a: {docs: [.], strategies: [{type: bm25}]}}
        flows:
          far: {type: index, concurrency: 8, shards: ./s,
                runner: {type: ray, address: "ray://head:10001"}}
          near: {type: index, runner: dask}
          here: {type: index, shards: "memory://x"}
        """
    )

    far, near, here = (build_plan(config, resolve_flow(config, n)) for n in ("far", "near", "here"))

    (embed,) = (stage for stage in far.stages if isinstance(stage, EmbedShards))
    assert embed.runner == RunnerSpec(type="ray", address="ray://head:10001")
    assert embed.workers == 8
    assert embed.index.shards == str(tmp_path / "s")
    assert "on Ray at ray://head:10001" in describe_plan(far)
    assert "on Dask at this machine" in describe_plan(near)
    (embed,) = (stage for stage in here.stages if isinstance(stage, EmbedShards))
    assert (embed.runner, embed.index.shards) == (None, "memory://x")
    assert resolve_rag(config, "a").indexes[0].shards is None


def test_an_agents_rags_come_from_its_key_and_its_toolsets(load: Load):
    config = load(
        """
        agents:
          root: {rag: [a], toolsets: [{type: rag, ref: b}, {type: rag, ref: a, name: again}]}
        rag:
          a: {docs: [x], strategies: [{type: bm25}]}
          b: {docs: [x], strategies: [{type: bm25}]}
        """
    )

    assert rags_of_agent(config, "root") == ("a", "b")
    assert rags_of_flow(config, AskFlow(name="ask-root", agent="root")) == ("a", "b")


@pytest.mark.parametrize(
    ("name", "problem"), [("index-doc", "did you mean 'index-docs'"), ("xyz", "flows of the file")]
)
def test_an_unknown_flow_is_a_plan_error_with_a_hint(seed: Config, name: str, problem: str):
    with pytest.raises(PlanError, match=problem):
        resolve_flow(seed, name)


def test_definitions_are_hashable_picklable_and_equal_for_equal_configs(seed: Config, load: Load):
    again = load((SEEDS / "second.yaml").read_text(encoding="utf-8"))
    rag = resolve_rag(seed, "docs")

    assert rag == resolve_rag(again, "docs")
    assert hash(rag) == hash(resolve_rag(again, "docs"))
    assert repr(rag) == repr(resolve_rag(again, "docs"))
    assert rag == pickle.loads(pickle.dumps(rag))  # noqa: S301 - our own bytes
