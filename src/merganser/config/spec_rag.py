"""``rag``: what is indexed, how it is searched, and what is done with the hits."""

import re
from collections import Counter
from collections.abc import Mapping
from hashlib import sha256
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, Strict, model_validator

from merganser.config.spec_base import (
    Count,
    Flag,
    Names,
    Number,
    StrictModel,
    Text,
    ToolName,
    Unit,
    fault,
    split_one_or_many,
)
from merganser.config.spec_docs import DocsEntry, RepositorySpec
from merganser.documents.kinds import Kind
from merganser.documents.secrets import SecretsMode
from merganser.models.ref import ScoreNormalization

KindNames = Annotated[
    tuple[Literal[Kind, "all"], ...],
    BeforeValidator(
        split_one_or_many, json_schema_input_type=Literal[Kind, "all"] | list[Literal[Kind, "all"]]
    ),
]
Similarity = Literal["cosine_similarity", "euclidean", "dot_product"]

CHUNK_SIZE = 1500
"""Characters; cagent's effective default for text."""
CODE_CHUNK_SIZE = 4000
"""Characters; cagent's effective default with ``code_aware``."""
CHUNK_OVERLAP = 75
"""Characters; cagent's effective default."""

_SAFE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,63}")


def _check_database(value: str) -> str:
    if "://" in value or value == ":memory:":
        raise fault(
            f"must be a path, got {value!r}",
            fix="write the path of a folder for the index files, or leave it out",
        )
    return value


def _default_size(data: dict[str, Any]) -> int:
    return CODE_CHUNK_SIZE if data.get("code_aware") else CHUNK_SIZE


def _default_overlap(data: dict[str, Any]) -> int:
    return min(CHUNK_OVERLAP, data.get("size", CHUNK_SIZE) // 2)


class ChunkingSpec(StrictModel):
    """How documents are divided into chunks."""

    code_aware: Flag = False
    """Divide source code at functions and classes, and Markdown at headings."""

    size: Annotated[int, Strict(), Field(ge=2)] = Field(default_factory=_default_size)
    """Most characters in a chunk; 1500, or 4000 with ``code_aware``."""

    overlap: Annotated[int, Strict(), Field(ge=0)] = Field(default_factory=_default_overlap)
    """Characters that a chunk repeats of the one before it; 75, or half of a ``size`` below 150."""

    respect_word_boundaries: Flag = False
    """Break between words where a boundary is near; no text is lost either way."""

    @model_validator(mode="after")
    def _overlap_is_smaller(self) -> Self:
        if self.overlap >= self.size:
            raise fault(
                f"must be smaller than size ({self.size}), got {self.overlap}",
                fix="an overlap of 5 % of the size is usual",
                at=("overlap",),
            )
        return self


class _Strategy(StrictModel):
    name: Text | None = None
    """Name of the strategy within its rag; its type when left out."""

    docs: tuple[DocsEntry, ...] = ()
    """Entries beside those of the rag, for this strategy alone."""

    exclude: Names = ()
    """Patterns of files and folders that are left out beside those of the rag."""

    include: Names = ()
    """Patterns of what is taken back beside those of the rag."""

    database: Annotated[Text, AfterValidator(_check_database)] | None = None
    """Folder of the index files, relative to the config; ``.merganser/<rag>`` when left out."""

    chunking: ChunkingSpec = Field(default_factory=ChunkingSpec)
    """How documents are divided into chunks. Without it, code is divided at its definitions into at
    most 1000 characters, other text at headings, paragraphs and ends of sentences into at most
    1500, and none inside a word."""

    limit: Count = 5
    """Most hits that this strategy contributes; the default is cagent's."""

    respect_vcs: Flag | None = None
    """Leave out what git ignores; the rag's own setting when left out."""


class ChunkedEmbeddingsSpec(_Strategy):
    """Find chunks whose embedding is similar to the query's."""

    type: Literal["chunked-embeddings"]
    """Which kind of strategy this is."""

    embedding_model: Text
    """A name under ``models``, an inline ``provider/model``, or ``auto``."""

    vector_dimensions: Count | None = None
    """Length of a vector; found by asking the model when left out."""

    similarity_metric: Similarity = "cosine_similarity"
    """How the similarity of two vectors is measured."""

    threshold: Annotated[Number, Field(ge=-1, le=1)] | None = None
    """Lowest similarity of a hit; no limit when left out. cagent drops hits below 0.5 by default,
    which with many small models is nearly all of them, so hits are dropped only where you say."""

    embedding_batch_size: Count | None = None
    """Most texts in one request; the best number is found when left out (cagent: 50)."""

    max_embedding_concurrency: Count | None = None
    """Most requests at a time; the best number is found when left out (cagent: 3)."""


class Bm25Spec(_Strategy):
    """Find chunks that share words with the query (BM25)."""

    type: Literal["bm25"]
    """Which kind of strategy this is."""

    k1: Annotated[Number, Field(ge=0)] = 1.5
    """How soon repeated words stop adding to the score."""

    b: Unit = 0.75
    """How much long chunks are marked down, 0 to 1."""

    threshold: Annotated[Number, Field(ge=0)] | None = None
    """Lowest score of a hit; BM25 scores have no upper bound."""


StrategySpec = Annotated[ChunkedEmbeddingsSpec | Bm25Spec, Field(discriminator="type")]


FusionMethod = Literal["standardised", "rrf", "weighted", "max"]


class FusionSpec(StrictModel):
    """How the hits of several strategies are combined into one list."""

    strategy: Literal["standardised", "rrf", "reciprocal_rank_fusion", "weighted", "max"] | None = (
        None
    )
    """By scores made comparable within the query (``standardised``), by rank (``rrf``), by weighted
    score, or by the highest score. When left out, ``standardised`` with weights that follow the
    query; ``rrf`` where ``k`` is written or ``defaults`` is ``cagent``."""

    k: Count = 60
    """Constant of reciprocal rank fusion (Cormack, Clarke and Buettcher, SIGIR 2009)."""

    weights: Mapping[Text, Annotated[Number, Field(ge=0)]] = Field(default_factory=dict[str, float])
    """Weight of each strategy, by its name or type; needed by ``weighted``."""

    @property
    def method(self) -> FusionMethod:
        """The strategy in its short spelling, or ours where none is written."""
        if self.strategy is None:
            return "rrf" if "k" in self.model_fields_set else "standardised"
        return "rrf" if self.strategy == "reciprocal_rank_fusion" else self.strategy

    def weight(self, name: str, kind: str) -> float:
        """Return the weight of the strategy of that name and type, 1 where none is written."""
        return self.weights.get(name, self.weights.get(kind, 1.0))


class RerankingSpec(StrictModel):
    """A model that reads the query and a hit together and scores the hit again."""

    model: Text
    """A name under ``models`` or an inline ``provider/model``."""

    top_k: Annotated[int, Strict(), Field(ge=0)] = 0
    """How many of the best hits are scored; 0 means ``results.limit``."""

    threshold: Unit = 0.5
    """Lowest score of a hit, from 0 to 1; 0 for no limit. Only for scores of a known scale."""

    criteria: str | None = None
    """What counts as relevant, in the prompt of a chat model that reranks."""

    score_normalization: ScoreNormalization = "auto"
    """How raw scores become 0 to 1: ``auto`` decides once, by the scores that the model returns."""


class RankingSpec(StrictModel):
    """What files and names say of a passage, added to its score. ``off`` alone turns it off."""

    kind: Flag = True
    """Tests, examples, changelogs and licences behind what they are about, unless the query asks
    for them; documents behind code, or before it where the query asks how something is done."""

    symbol: Flag = True
    """Passages first that define what the query names."""

    file: Flag = True
    """Files first that are called as the query says."""

    path: Flag = True
    """Folders first that are called as the query says."""

    @property
    def names(self) -> tuple[str, ...]:
        """The parts that are on."""
        return tuple(name for name, is_on in self if is_on)

    @classmethod
    def none(cls) -> Self:
        """Return it with all parts off."""
        return cls(**dict.fromkeys(cls.model_fields, False))


def _read_ranking(value: Any) -> Any:
    if value in ("off", False):
        return RankingSpec.none()
    return {} if value in ("on", True) else value


LEAST_BUDGET = 100
"""Tokens below which no passage has room beside the name of its place."""


class ResultsSpec(StrictModel):
    """What is done with the hits."""

    limit: Count = 15
    """Most hits in the end."""

    budget: Annotated[int, Strict(), Field(ge=LEAST_BUDGET)] | None = None
    """Most tokens of the hits together, estimated at three characters a token, from 100. The best
    are taken whole as long as they fit, the next one is trimmed to the lines around what it has of
    the query. Then `limit` counts only where it is written: else all that the strategies
    contribute are taken, up to 100."""

    fusion: FusionSpec = FusionSpec()
    """How the hits of several strategies are combined into one list."""

    ranking: Annotated[
        RankingSpec,
        BeforeValidator(_read_ranking, json_schema_input_type=Literal["on", "off"] | RankingSpec),
    ] = RankingSpec()
    """What files and names add to the scores, or ``off``; with ``defaults: cagent`` off."""

    reranking: RerankingSpec | None = None
    """A model that scores the best hits again."""

    deduplicate: Flag = True
    """Return passages with equal text only once."""

    per_file: Count | None = None
    """Passages of one file in a row: files take turns, and the file whose passages score best
    together comes first. When left out, passages are ordered by their own scores."""

    include_score: Flag = False
    """Show the scores to the model."""

    return_full_content: Flag = False
    """Return whole documents in place of chunks."""


class ToolSpec(StrictModel):
    """How the search looks to the agent's model."""

    name: ToolName | None = None
    """Name of the tool; the rag's own when left out."""

    description: str | None = None
    """What the tool is for."""

    instruction: str | None = None
    """Text for the model's system prompt."""


class RagSpec(StrictModel):
    """One searchable collection of documents."""

    tool: ToolSpec = ToolSpec()
    """How the search looks to the agent's model."""

    docs: tuple[DocsEntry, ...] = ()
    """Files, folders and globs, relative to the config; labelled folders and git repositories."""

    exclude: Names = ()
    """Patterns of files and folders that are left out, in gitignore's language, relative to the
    config; a `!pattern` in `docs` is the same."""

    include: Names = ()
    """Patterns of what is taken back: of exclusions, of what git ignores, and of what is left out
    by default (dependencies, builds, lock files, generated and minified files)."""

    kinds: KindNames = ()
    """Kinds of documents that are indexed: `code`, `docs`, `tests`, `examples`, `config`, `data`,
    `generated`, `vendored`, `lock` or `all`; the first six when left out."""

    respect_vcs: Flag = True
    """Leave out what git ignores."""

    secrets: SecretsMode = "redact"
    """Passwords, tokens and keys: ``redact`` leaves out the files that hold them by nature and puts
    marks in their place elsewhere, ``skip`` leaves out every file that holds one, ``keep`` indexes
    all as it is."""

    strategies: tuple[StrategySpec, ...]
    """Ways to search; several are fused."""

    results: ResultsSpec = ResultsSpec()
    """What is done with the hits."""

    @property
    def strategy_names(self) -> tuple[str, ...]:
        """The strategies' names: as written, or the type, numbered where a type repeats."""
        return strategy_names(self.strategies)

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        if not self.strategies:
            raise fault(
                "must have at least one strategy",
                fix="add '- type: bm25', or chunked-embeddings with an embedding_model",
                at=("strategies",),
            )
        for index, strategy in enumerate(self.strategies):
            if not any(map(names_documents, (*self.docs, *strategy.docs))):
                raise fault(
                    "has no documents",
                    fix="list files, folders or globs under docs",
                    at=("docs",) if "docs" in self.model_fields_set else ("strategies", index),
                )
        return self

    @model_validator(mode="after")
    def _labels_are_unique(self) -> Self:
        owners = dict[str, RepositorySpec]()
        for at, docs in (
            (("docs",), self.docs),
            *((("strategies", i, "docs"), one.docs) for i, one in enumerate(self.strategies)),
        ):
            for number, entry in enumerate(docs):
                if isinstance(entry, RepositorySpec):
                    label = entry.shown_label
                    # The same entry may stand in several strategies.
                    if owners.setdefault(label.casefold(), entry) != entry:
                        raise fault(
                            f"the label {label!r} stands for another folder already",
                            fix="give each its own 'label'",
                            at=(*at, number, "label"),
                        )
        return self

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        counts = Counter(strategy.name for strategy in self.strategies if strategy.name)
        for index, strategy in enumerate(self.strategies):
            if strategy.name and counts[strategy.name] > 1:
                raise fault(
                    f"{strategy.name!r} names several strategies of this rag",
                    fix="give each its own name",
                    at=("strategies", index, "name"),
                )
        return self

    @model_validator(mode="after")
    def _weights_fit(self) -> Self:
        fusion = self.results.fusion
        known = {n: s.type for n, s in zip(self.strategy_names, self.strategies, strict=True)}
        where = ("results", "fusion", "weights")
        for name in fusion.weights:
            if name not in known and name not in known.values():
                raise fault(
                    f"{name!r} is no strategy of this rag",
                    fix=f"its strategies are: {', '.join(known)}",
                    at=(*where, name),
                )
        missing = [
            n for n, t in known.items() if n not in fusion.weights and t not in fusion.weights
        ]
        if fusion.strategy == "weighted" and missing:
            raise fault(
                f"weighted fusion needs a weight for {', '.join(missing)}",
                fix=f"add '{missing[0]}: 0.5' under weights",
                at=where if "weights" in fusion.model_fields_set else where[:-1],
            )
        return self


def names_documents(entry: str | RepositorySpec) -> bool:
    """Return whether an entry of ``docs`` takes something in; ``!pattern`` leaves it out."""
    return not (isinstance(entry, str) and entry.startswith("!"))


def strategy_names(strategies: tuple[ChunkedEmbeddingsSpec | Bm25Spec, ...]) -> tuple[str, ...]:
    """Return the names: as written, or the type, with ``-2``, ``-3`` where that is taken."""
    taken = {strategy.name for strategy in strategies if strategy.name}
    names = list[str]()
    for strategy in strategies:
        name = strategy.name or strategy.type
        number = 1
        while strategy.name is None and name in taken:
            number += 1
            name = f"{strategy.type}-{number}"
        taken.add(name)
        names.append(name)
    return tuple(names)


def safe_name(name: str) -> str:
    """Return a name that can be a file name and a tool name; different names stay different."""
    if _SAFE_NAME.fullmatch(name):
        return name
    slug = re.sub(r"[^A-Za-z0-9_]+", "-", name).strip("-")[:48] or "rag"
    return f"{slug}-{sha256(name.encode()).hexdigest()[:8]}"
