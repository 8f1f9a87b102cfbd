"""Which keys may stand where: one table for the checks, the schema and the docs."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING

from merganser.config import unsupported
from merganser.config.spec_agents import AgentSpec, FilesystemToolset, RagToolset
from merganser.config.spec_docs import RepositorySpec
from merganser.config.spec_evaluation import GateSpec, ThresholdSpec
from merganser.config.spec_flows import (
    BatchFlowSpec,
    EvaluateFlowSpec,
    IndexFlowSpec,
    RetriesSpec,
    RunnerSpec,
    ScheduleSpec,
)
from merganser.config.spec_models import ModelSpec, ProviderOptions, ProviderSpec
from merganser.config.spec_rag import (
    Bm25Spec,
    ChunkedEmbeddingsSpec,
    ChunkingSpec,
    FusionSpec,
    RagSpec,
    RankingSpec,
    RerankingSpec,
    ResultsSpec,
    ToolSpec,
)
from merganser.config.spec_root import MetadataSpec, Spec
from merganser.config.unsupported import UnsupportedKey, UnsupportedKeys

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import BaseModel

Pattern = tuple[str, ...]
"""A location in which ``*`` stands for any name or index."""


@dataclass(frozen=True, slots=True)
class Variant:
    """The keys of one kind of map.

    Attributes:
        model: The spec model; its fields are the supported keys.
        unsupported: Keys of cagent's language that are known but not supported.
    """

    model: type[BaseModel]
    unsupported: UnsupportedKeys = field(default_factory=dict[str, UnsupportedKey])


@dataclass(frozen=True, slots=True)
class Section:
    """A place in the file that holds a map with fixed keys.

    Attributes:
        pattern: Where it is.
        variants: By the value of ``type``; by "" where there is one kind only.
        refused_types: Values of ``type`` that are known and refused.
        ignored_types: Values of ``type`` whose map is ignored, with the keys that it may have.
    """

    pattern: Pattern
    variants: Mapping[str, Variant]
    _: KW_ONLY
    refused_types: UnsupportedKeys = field(default_factory=dict[str, UnsupportedKey])
    ignored_types: Mapping[str, frozenset[str]] = field(default_factory=dict[str, frozenset[str]])


def _one(model: type[BaseModel], keys: UnsupportedKeys | None = None) -> dict[str, Variant]:
    return {"": Variant(model, keys or {})}


_STRATEGY = ("rag", "*", "strategies", "*")
_RESULTS = ("rag", "*", "results")

SECTIONS: tuple[Section, ...] = (
    Section((), _one(Spec, unsupported.ROOT)),
    Section(("metadata",), _one(MetadataSpec)),
    Section(("providers", "*"), _one(ProviderSpec, unsupported.PROVIDER)),
    Section(("models", "*"), _one(ModelSpec, unsupported.MODEL)),
    Section(("models", "*", "provider_opts"), _one(ProviderOptions, unsupported.PROVIDER_OPTIONS)),
    Section(("agents", "*"), _one(AgentSpec, unsupported.AGENT)),
    Section(
        ("agents", "*", "toolsets", "*"),
        {
            "filesystem": Variant(FilesystemToolset, unsupported.FILESYSTEM),
            "rag": Variant(RagToolset, unsupported.RAG_TOOLSET),
        },
        ignored_types=unsupported.TOOLSETS,
    ),
    Section(("rag", "*"), _one(RagSpec, unsupported.RAG)),
    Section(("rag", "*", "docs", "*"), _one(RepositorySpec)),
    Section(("rag", "*", "tool"), _one(ToolSpec)),
    Section(
        _STRATEGY,
        {
            "chunked-embeddings": Variant(ChunkedEmbeddingsSpec, unsupported.CHUNKED_EMBEDDINGS),
            "bm25": Variant(Bm25Spec),
        },
        refused_types=unsupported.STRATEGIES,
    ),
    Section((*_STRATEGY, "docs", "*"), _one(RepositorySpec)),
    Section((*_STRATEGY, "chunking"), _one(ChunkingSpec)),
    Section(_RESULTS, _one(ResultsSpec, unsupported.RESULTS)),
    Section((*_RESULTS, "fusion"), _one(FusionSpec)),
    Section((*_RESULTS, "ranking"), _one(RankingSpec)),
    Section((*_RESULTS, "reranking"), _one(RerankingSpec)),
    Section(
        ("flows", "*"),
        {
            "index": Variant(IndexFlowSpec),
            "batch": Variant(BatchFlowSpec),
            "evaluate": Variant(EvaluateFlowSpec),
        },
    ),
    Section(("flows", "*", "gate"), _one(GateSpec)),
    Section(("flows", "*", "gate", "*"), _one(GateSpec)),
    Section(("flows", "*", "metrics", "*"), _one(ThresholdSpec)),
    Section(("flows", "*", "schedule"), _one(ScheduleSpec)),
    Section(("flows", "*", "retries"), _one(RetriesSpec)),
    Section(("flows", "*", "runner"), _one(RunnerSpec)),
)

ADDITIONS: frozenset[Pattern] = frozenset(
    {
        ("defaults",),
        ("extends",),
        ("flows",),
        ("agents", "*", "rag_mode"),
        ("models", "*", "supports_tools"),
        (*_STRATEGY, "name"),
        (*_STRATEGY, "exclude"),
        (*_STRATEGY, "include"),
        ("rag", "*", "exclude"),
        ("rag", "*", "include"),
        ("rag", "*", "kinds"),
        (*_RESULTS, "per_file"),
        (*_RESULTS, "ranking"),
        (*_RESULTS, "budget"),
        ("rag", "*", "secrets"),
        (*_RESULTS, "reranking", "score_normalization"),
    }
    | {
        (*section.pattern, key)
        for section in SECTIONS
        if section.pattern[:1] == ("flows",) or section.pattern[-2:] == ("docs", "*")
        for variant in section.variants.values()
        for key in variant.model.model_fields
    }
)
"""Keys that cagent's language does not have."""

NAME_MAPS: tuple[Pattern, ...] = (
    ("agents",),
    ("models",),
    ("providers",),
    ("rag",),
    ("flows",),
    (*_RESULTS, "fusion", "weights"),
)
"""Maps whose keys are the user's own names; an empty entry there is not the same as none."""

FOREIGN_TOOLSETS: tuple[Pattern, ...] = (("mcps", "*"), ("toolsets", "*"))
"""Maps that are ignored as a whole, apart from keys that restrict."""

PATHS: tuple[Pattern, ...] = (
    ("rag", "*", "docs", "*"),
    ("rag", "*", "docs", "*", "path"),
    ("rag", "*", "strategies", "*", "docs", "*"),
    ("rag", "*", "strategies", "*", "docs", "*", "path"),
    ("rag", "*", "strategies", "*", "database"),
    ("flows", "*", "input"),
    ("flows", "*", "output"),
    ("flows", "*", "queries"),
    ("flows", "*", "gate", "queries"),
    ("flows", "*", "gate", "*", "queries"),
    ("flows", "*", "shards"),
)
"""Values that are paths, relative to the file in which they are written, or URLs."""

PATTERNS: tuple[Pattern, ...] = tuple(
    (*above, key, "*") for above in (("rag", "*"), _STRATEGY) for key in ("exclude", "include")
)
"""Values in gitignore's language; those with a slash are relative to the file as paths are."""

MODEL_REFERENCES: tuple[Pattern, ...] = (
    ("agents", "*", "model"),
    ("rag", "*", "strategies", "*", "embedding_model"),
    ("rag", "*", "results", "reranking", "model"),
    ("flows", "*", "judge"),
)
"""Values that are a declared model's name or an inline ``provider/model``."""

MODEL_NAMES: tuple[Pattern, ...] = (
    ("models", "*", "model"),
    ("models", "*", "provider_opts", "speculative_draft_model"),
)
"""Values that are a model's name at its provider."""

VARIABLE_NAMES: tuple[Pattern, ...] = (
    ("models", "*", "token_key"),
    ("providers", "*", "token_key"),
    ("rag", "*", "docs", "*", "token_key"),
    (*_STRATEGY, "docs", "*", "token_key"),
)
"""Values that name an environment variable; people put the token itself there."""

URLS: tuple[Pattern, ...] = (
    ("models", "*", "base_url"),
    ("providers", "*", "base_url"),
    ("flows", "*", "shards"),
    ("rag", "*", "docs", "*", "git"),
    (*_STRATEGY, "docs", "*", "git"),
)
"""Values that may be a URL with a login in it."""

TEMPLATES: tuple[Pattern, ...] = (
    *MODEL_REFERENCES,
    *MODEL_NAMES,
    ("models", "*", "base_url"),
    ("providers", "*", "base_url"),
    ("agents", "*", "toolsets", "*", "**"),
)
"""Values in which ``${env.NAME}`` is replaced; ``**`` stands for any depth."""


def readable(pattern: Pattern) -> str:
    """Return a pattern as people read it, such as ``rag.<name>.strategies[]``."""
    if not pattern:
        return "the top level"
    text = ".".join("<name>" if step == "*" else step for step in pattern)
    for many in ("strategies", "toolsets", "gate", "metrics", "docs"):
        text = text.replace(f"{many}.<name>", f"{many}[]")
    return text
