"""Loading: the seed examples, ``extends``, variables, model maps, warnings and fingerprints."""

from __future__ import annotations

import copy
import random
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from merganser.config.load import load_config
from merganser.config.sections import SECTIONS
from merganser.config.spec_flows import IndexFlowSpec
from merganser.config.spec_rag import ChunkedEmbeddingsSpec
from merganser.errors import SpecErrors

if TYPE_CHECKING:
    from conftest import Load

CONFIGS = Path(__file__).parents[3] / "configs"

SEEDS = Path(__file__).with_name("seeds")
FIRST_SEED = (SEEDS / "first.yaml").read_text(encoding="utf-8")
SECOND_SEED = (SEEDS / "second.yaml").read_text(encoding="utf-8")
RAG = "{docs: [./docs], strategies: [{type: bm25}]}"


def keys_of(config: Any) -> list[str]:
    return [warning.key for warning in config.warnings]


@pytest.mark.parametrize("text", [FIRST_SEED, SECOND_SEED])
def test_the_seed_examples_load_without_warnings(load: Load, text: str):
    assert load(text).warnings == ()


def test_the_second_seed_keeps_what_it_says(load: Load):
    spec = load(SECOND_SEED).spec

    strategy = spec.rag["docs"].strategies[0]
    assert (strategy.limit, strategy.type) == (20, "chunked-embeddings")
    assert spec.models["optimized-qwen"].provider_opts.runtime_flags == ("--ngl=33", "--threads=8")
    assert spec.models["fast-qwen"].provider_opts.speculative_draft_model == "ai/qwen3:0.6B-Q4_K_M"


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_shipped_configs_load_without_warnings(path: Path):
    assert load_config(path).warnings == ()


@pytest.mark.parametrize("version", ["'0'", "7", "'8'", "16", ""])
def test_versions_are_accepted(load: Load, version: str):
    assert load(f"version: {version}\n{FIRST_SEED}").spec.agents


def test_keys_without_a_value_are_as_if_left_out(load: Load):
    config = load(
        f"agents:\n  root:\n    toolsets:\n    model: dmr/ai/qwen3\nmodels:\nrag: {{a: {RAG}}}"
    )

    assert config.spec.agents["root"].toolsets == ()


def test_later_keys_are_named_in_warnings_with_positions(load: Load):
    config = load(
        """
        agents:
          root:
            model: dmr/ai/qwen3
            sub_agents: [other]
            toolsets:
              - type: shell
              - {type: filesystem, toon: .*}
              - {type: think}
          other: {add_date: true}
        mcps:
          search: {ref: docker:duckduckgo}
        """
    )

    assert keys_of(config) == [
        "agents.root.sub_agents",
        "agents.root.toolsets[0].type",
        "agents.root.toolsets[1].toon",
        "agents.root.toolsets[2].type",
        "agents.other.add_date",
        "mcps",
    ]
    assert f"{config.path}:5:5: agents.root.sub_agents: not supported yet, ignored" == str(
        config.warnings[0]
    )
    assert [t.type for t in config.spec.agents["root"].toolsets] == ["filesystem"]


def test_errors_behind_dropped_toolsets_keep_their_written_index(load: Load):
    with pytest.raises(SpecErrors) as caught:
        load(
            """
            agents:
              root:
                toolsets:
                  - type: shell
                  - type: think
                  - {type: rag, ref: none}
            """
        )

    assert [error.key for error in caught.value.errors] == ["agents.root.toolsets[2].ref"]
    assert [(e.position.line, e.position.column) for e in caught.value.errors if e.position] == [
        (7, 26)
    ]


def test_old_versions_are_told_that_max_tokens_changed_its_meaning(load: Load):
    models = "models: {m: {provider: dmr, model: x, max_tokens: 5}}\n"

    assert keys_of(load("version: '7'\n" + models + FIRST_SEED)) == ["models.m.max_tokens"]
    assert keys_of(load("version: '8'\n" + models + FIRST_SEED)) == []


def test_an_empty_file_is_warned_about(load: Load):
    assert "nothing to run" in str(load("# nothing\n").warnings[0])


def test_instructions_in_a_list_are_joined_by_blank_lines(load: Load):
    config = load("agents: {root: {instruction: [one, two]}}")

    assert config.spec.agents["root"].instruction == "one\n\ntwo"


def test_own_values_win_over_the_extended_file_and_maps_are_merged(load: Load, tmp_path: Path):
    (tmp_path / "base.yaml").write_text(
        "agents:\n"
        "  root: {model: dmr/ai/qwen3, instruction: base, rag: [a]}\n"
        "  other: {model: dmr/ai/gemma3}\n"
        f"rag: {{a: {RAG}, b: {RAG}}}\n",
        encoding="utf-8",
    )

    spec = load(
        "extends: ./base.yaml\nagents: {root: {instruction: own, rag: [b]}, new: {}}\n"
    ).spec

    assert list(spec.agents) == ["root", "other", "new"]
    root = spec.agents["root"]
    assert (root.model, root.instruction, root.rag) == ("dmr/ai/qwen3", "own", ("b",))


def test_null_takes_an_inherited_key_away(load: Load, tmp_path: Path):
    (tmp_path / "base.yaml").write_text(
        "agents: {root: {model: dmr/ai/qwen3, max_iterations: 5}}", encoding="utf-8"
    )

    assert load("extends: base.yaml\nagents: {root: {max_iterations: ~}}").spec.agents


def test_extended_keys_keep_their_own_file_in_errors(load: Load, tmp_path: Path):
    base = tmp_path / "base.yaml"
    base.write_text("agents:\n  root: {rag: [none]}\n", encoding="utf-8")

    with pytest.raises(SpecErrors) as caught:
        load("extends: base.yaml\n")

    assert [f"{base}:2:16"] == [str(error.position) for error in caught.value.errors]


def test_paths_of_an_extended_file_hold_from_where_it_lies(load: Load, tmp_path: Path):
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "base.yaml").write_text(
        "rag: {a: {docs: [./docs, '**/*.md', /abs], strategies: [{type: bm25, database: i.db}]}}\n"
        "flows:\n  here: {type: index, shards: ./s}\n  there: {type: index, shards: 's3://b/s'}\n",
        encoding="utf-8",
    )

    spec = load("extends: ../shared/base.yaml", name="own/config.yaml").spec

    assert spec.rag["a"].docs == ("../shared/docs", "../shared/**/*.md", "/abs")
    assert spec.rag["a"].strategies[0].database == "../shared/i.db"
    shards = [flow.shards for flow in spec.flows.values() if isinstance(flow, IndexFlowSpec)]
    assert shards == ["../shared/s", "s3://b/s"]


def test_extends_may_be_chained(load: Load, tmp_path: Path):
    (tmp_path / "one.yaml").write_text(FIRST_SEED, encoding="utf-8")
    (tmp_path / "two.yaml").write_text("extends: one.yaml\n", encoding="utf-8")

    assert list(load("extends: two.yaml").spec.agents) == ["root"]


def test_variables_are_filled_in_where_the_language_allows_them(load: Load):
    config = load(
        """
        models:
          m:
            provider: vllm
            model: ${env.NAME}-7b
            base_url: http://${env.HOST || 'localhost'}:${ env.PORT || "8000" }/v1
        agents:
          root: {model: m, instruction: "${env.NAME}"}
        """,
        environment={"NAME": "qwen", "HOST": "", "PORT": "9"},
    )

    model = config.spec.models["m"]
    assert (model.model, model.base_url) == ("qwen-7b", "http://localhost:9/v1")
    assert config.spec.agents["root"].instruction == "${env.NAME}"


@pytest.mark.parametrize(
    "wanted",
    [
        "ai/embeddinggemma",
        "embeddinggemma",
        "dmr/ai/EmbeddingGemma:latest",
        "docker.io/ai/embeddinggemma",
    ],
)
def test_a_model_map_matches_any_spelling(load: Load, wanted: str):
    config = load(SECOND_SEED, model_map={wanted: "dmr/ai/minilm"})

    strategy = config.spec.rag["docs"].strategies[0]
    assert isinstance(strategy, ChunkedEmbeddingsSpec)
    assert strategy.embedding_model == "dmr/ai/minilm"
    assert config.warnings == ()


def test_a_model_map_reaches_declared_and_draft_models_but_no_names(load: Load):
    config = load(
        SECOND_SEED,
        model_map={
            "ai/qwen3:14B": "ai/small",
            "ai/qwen3:0.6b-q4_k_m": "ai/tiny",
            "reranker": "ai/wrong",
        },
    )

    models = config.spec.models
    assert models["local-qwen"].model == "ai/small"
    assert models["fast-qwen"].provider_opts.speculative_draft_model == "ai/tiny"
    assert models["optimized-qwen"].model == "ai/qwen3"
    results = config.spec.rag["docs"].results
    assert results.reranking is not None
    assert results.reranking.model == "reranker"


def test_a_model_map_that_matches_nothing_is_warned_about(load: Load):
    config = load(FIRST_SEED, model_map={"ai/other": "ai/x"})

    assert [str(warning) for warning in config.warnings] == [
        "--model-map ai/other=...: no model of that name is used"
    ]


def test_the_fingerprint_follows_the_meaning_alone(load: Load):
    base = load(SECOND_SEED).fingerprint
    plain: dict[str, Any] = yaml.safe_load(SECOND_SEED)
    seed = random.Random(7)  # noqa: S311 - no secret
    reordered = yaml.safe_dump(shuffle(plain, seed), sort_keys=False)
    explicit = copy.deepcopy(plain)
    explicit["rag"]["docs"]["respect_vcs"] = True
    explicit["metadata"] = {"author": "someone"}
    chunked = copy.deepcopy(plain)
    chunked["rag"]["docs"]["strategies"][0]["chunking"] = {}
    changed = copy.deepcopy(plain)
    changed["rag"]["docs"]["strategies"][0]["limit"] = 21

    assert base == load(reordered).fingerprint
    assert base == load(yaml.safe_dump(explicit)).fingerprint
    assert base != load(yaml.safe_dump(changed)).fingerprint
    assert base != load(yaml.safe_dump(chunked)).fingerprint
    assert base != load(SECOND_SEED, model_map={"ai/embeddinggemma": "ai/x"}).fingerprint


def shuffle(value: Any, seed: random.Random) -> Any:
    if not isinstance(value, dict):
        return value
    entries: list[tuple[Any, Any]] = list(value.items())  # pyright: ignore[reportUnknownArgumentType] - plain YAML
    seed.shuffle(entries)
    return {key: shuffle(child, seed) for key, child in entries}


def test_a_dumped_spec_loads_as_itself(load: Load):
    spec = load(SECOND_SEED).spec
    dumped = spec.model_dump(mode="json", exclude_none=True)

    assert spec == load(yaml.safe_dump(dumped, sort_keys=False)).spec


FIELDS = sorted(
    {name for s in SECTIONS for v in s.variants.values() for name in v.model.model_fields}
)
TYPES = [
    "filesystem",
    "rag",
    "shell",
    "bm25",
    "chunked-embeddings",
    "semantic-embeddings",
    "index",
    "batch",
]
PLAIN: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from([*TYPES, "a", "dmr/x", "${env.X}"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*FIELDS, "*", "a", "b"]), inner, max_size=4)
    ),
    max_leaves=25,
)
TREES = st.fixed_dictionaries(
    {},
    optional={
        "agents": st.dictionaries(st.sampled_from(["root", "a"]), PLAIN, max_size=2) | PLAIN,
        "models": st.dictionaries(st.sampled_from(["m", "a"]), PLAIN, max_size=2) | PLAIN,
        "rag": st.dictionaries(st.sampled_from(["r", "a"]), PLAIN, max_size=2) | PLAIN,
        "flows": st.dictionaries(st.sampled_from(["f", "a"]), PLAIN, max_size=2) | PLAIN,
        "providers": PLAIN,
        "mcps": PLAIN,
        "metadata": PLAIN,
        "version": PLAIN,
    },
)


@given(TREES)
def test_any_tree_of_known_keys_loads_or_gives_positioned_errors(
    tmp_path_factory: pytest.TempPathFactory, tree: dict[str, Any]
):
    path = tmp_path_factory.mktemp("tree") / "config.yaml"
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")

    try:
        load_config(path, environment={})
    except SpecErrors as errors:
        assert all(error.position and error.problem for error in errors.errors)  # noqa: PT017 - either outcome is right


def test_loading_imports_nothing_heavy():
    code = (
        "import sys, merganser.config.load, merganser.config.check;"
        "print([m for m in ('prefect', 'duckdb', 'numpy', 'httpx', 'tree_sitter', 'rich.progress')"
        " if m in sys.modules])"
    )

    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )

    assert result.stdout.strip() == "[]"
