"""What the engine works with, as pure data: no YAML and no names left to look up.

Everything is frozen, hashable and has a stable ``repr``, because plans take their fingerprints
from it. `merganser.config.resolve` makes these from a config and exports them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta
    from pathlib import Path

    from merganser.chunking import ChunkingOptions
    from merganser.config.metric import Metric
    from merganser.config.spec_flows import RunnerKind
    from merganser.config.spec_rag import Similarity
    from merganser.errors import SourcePosition
    from merganser.models.ref import ModelRef


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingDefinition:
    """How the chunks of an index are embedded.

    Attributes:
        model: The embedding model.
        dimensions: Expected length of a vector; None takes what the model gives.
        batch_size: Most texts in one request, or None for what is found to be best.
        concurrency: Most requests at a time, or None for what is found to be best.
        similarity: How near two vectors are.
    """

    model: ModelRef
    dimensions: int | None
    batch_size: int | None = None
    concurrency: int | None = None
    similarity: Similarity = "cosine_similarity"


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexDefinition:
    """One index on disk; strategies that cut the same documents alike share it.

    Attributes:
        name: Unique in the config.
        folder: Where its files are, absolute.
        base: Folder that ``docs`` and stored paths are relative to, absolute.
        docs: Paths and globs as written.
        docs_positions: Where each of them stands in the YAML.
        respect_vcs: Whether what git ignores is left out.
        chunking: How documents are cut.
        embedding: How chunks are embedded, or None for an index of words alone.
        shards: Folder or URL where what shards leave is kept for all machines, or None for the
            index folder; the flow says it.
    """

    name: str
    folder: Path
    base: Path
    docs: tuple[str, ...]
    docs_positions: tuple[SourcePosition | None, ...] = field(default=(), repr=False, compare=False)
    respect_vcs: bool
    chunking: ChunkingOptions
    embedding: EmbeddingDefinition | None
    shards: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StrategyDefinition:
    """One way to search a rag.

    Attributes:
        name: Unique in its rag.
        kind: Dense or by words.
        index: The index that it searches.
        limit: Most hits that it contributes.
        threshold: Least score of a hit, or None.
        weight: Its weight in weighted fusion, or None.
        k1: BM25: how soon repeated words stop counting.
        b: BM25: how much long chunks are held back, 0 to 1.
    """

    name: str
    kind: Literal["chunked-embeddings", "bm25"]
    index: IndexDefinition
    limit: int
    threshold: float | None
    weight: float | None
    k1: float = 1.5
    b: float = 0.75


@dataclass(frozen=True, slots=True, kw_only=True)
class FusionDefinition:
    """How the hits of several strategies become one list.

    Attributes:
        strategy: By rank, by weighted score, or by the highest score.
        k: Constant of reciprocal rank fusion.
        weights: By the strategy's name; those that have one.
    """

    strategy: Literal["rrf", "weighted", "max"]
    k: int
    weights: Mapping[str, float] = field(hash=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class RerankDefinition:
    """How the best hits are scored anew.

    Attributes:
        model: The reranker.
        top_k: How many of the best hits are scored.
        threshold: Least normalised score of a hit, 0 to 1, or None.
        criteria: What counts as relevant, or None.
    """

    model: ModelRef
    top_k: int
    threshold: float | None
    criteria: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RagDefinition:
    """One searchable collection.

    Attributes:
        name: As in the config.
        description: What the search tool is for, or None.
        instruction: Told to the model in its system prompt, or None.
        tool_name: Name of the search tool; letters, digits, ``-`` and ``_``, at most 64.
        strategies: Ways to search, at least one.
        indexes: The distinct indexes of the strategies.
        fusion: How several lists become one.
        rerank: A second look at the best hits, or None.
        limit: Most hits in the end.
        deduplicate: Whether equal texts are given once.
        per_file: Passages that a file gives at a time, or None where files take no turns.
        include_score: Whether the model is told the scores.
        return_full_content: Whether whole documents are given in place of chunks.
    """

    name: str
    description: str | None
    instruction: str | None
    tool_name: str
    strategies: tuple[StrategyDefinition, ...]
    indexes: tuple[IndexDefinition, ...]
    fusion: FusionDefinition
    rerank: RerankDefinition | None
    limit: int
    deduplicate: bool
    per_file: int | None
    include_score: bool
    return_full_content: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """When a flow runs by itself.

    Attributes:
        cron: Five fields, or None.
        timezone: Where the cron's clock hangs.
        interval: Time between two starts, or None.
        watch: When documents change, instead of either.
    """

    cron: str | None
    timezone: str
    interval: timedelta | None
    watch: bool = False

    def __str__(self) -> str:
        if self.cron:
            return f"cron {self.cron} ({self.timezone})"
        return "when files change" if self.watch else f"every {_show_interval(self.interval)}"


def _show_interval(interval: timedelta | None) -> str:
    """Write an interval as people do in YAML, in the largest unit that leaves no rest."""
    seconds = interval.total_seconds() if interval else 0.0
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds and seconds % size == 0:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:g}s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Retries:
    """How often a failed run is started again.

    Attributes:
        count: Attempts after the first.
        delay: Time before each.
    """

    count: int
    delay: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """What a metric must reach.

    Attributes:
        metric: What is measured.
        min: Least value, 0 to 1, or None.
        max_drop: Most that it may fall below what it is compared with, 0 to 1, or None.
    """

    metric: Metric
    min: float | None = None
    max_drop: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """What a new snapshot must reach to be published.

    Attributes:
        queries: Queries with the passages that answer them (JSONL), absolute.
        thresholds: All must hold.
    """

    queries: Path
    thresholds: tuple[Threshold, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardRunner:
    """What embeds shards in other processes.

    Attributes:
        kind: Dask or Ray.
        address: Of a cluster, or None to start one on this machine.
        workers: Shards at a time, or None for one each core.
    """

    kind: RunnerKind
    address: str | None = None
    workers: int | None = None

    def __str__(self) -> str:
        """Name it for people."""
        return f"{self.kind.capitalize()} at {self.address or 'this machine'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexFlow:
    """Bring indexes up to date.

    Attributes:
        name: As in the config, or ``index-<rag>``.
        rags: At least one.
        gates: Held for each rag before anything is published; one for each file of queries.
        keep_snapshots: How many snapshots of each index are kept, at least 1.
        schedule: When it runs by itself, or None.
        after: Flows whose success starts it.
        retries: What happens after a failed run, or None for nothing.
        concurrency: Shards embedded at a time, or None for the engine's choice.
        runner: What embeds them in other processes, or None for threads of the run.
        shards: Folder or URL where what they leave is kept for all machines, or None.
    """

    name: str
    rags: tuple[str, ...]
    gates: tuple[Gate, ...] = ()
    keep_snapshots: int = 3
    schedule: Schedule | None = None
    after: tuple[str, ...] = ()
    retries: Retries | None = None
    concurrency: int | None = None
    runner: ShardRunner | None = None
    shards: str | None = None


@dataclass(frozen=True, slots=True)
class DataTable:
    """Rows in a file: JSON Lines, CSV or Parquet by its ending, or a table of a DuckDB file.

    Attributes:
        path: Absolute.
        table: Name of the table in a DuckDB file; "" for the other kinds.
    """

    path: Path
    table: str = ""

    def __str__(self) -> str:
        """Give ``path`` or ``path#table``, as a config writes it."""
        return f"{self.path}#{self.table}" if self.table else str(self.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchFlow:
    """Answer a file of questions.

    Attributes:
        name: As in the config.
        agent: Who answers.
        input: Questions.
        output: Answers.
        concurrency: Questions answered at a time, or None for the engine's choice.
        max_failed: Share of failed questions, 0 to 1, above which the run fails.
        judge: Model that judges groundedness and relevance, or None for no judging.
        schedule: When it runs by itself, or None.
        after: Flows whose success starts it.
        retries: What happens after a failed run, or None for nothing.
    """

    name: str
    agent: str
    input: DataTable
    output: DataTable
    concurrency: int | None = None
    max_failed: float = 0.1
    judge: ModelRef | None = None
    schedule: Schedule | None = None
    after: tuple[str, ...] = ()
    retries: Retries | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateFlow:
    """Measure how well rags find what they should.

    Attributes:
        name: As in the config.
        rags: At least one.
        queries: Queries with the passages that answer them (JSONL), absolute.
        thresholds: What is measured, and what it must reach.
        schedule: When it runs by itself, or None.
        after: Flows whose success starts it.
        retries: What happens after a failed run, or None for nothing.
    """

    name: str
    rags: tuple[str, ...]
    queries: Path
    thresholds: tuple[Threshold, ...]
    schedule: Schedule | None = None
    after: tuple[str, ...] = ()
    retries: Retries | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AskFlow:
    """Ask an agent one question.

    Attributes:
        name: ``ask-<agent>``.
        agent: Who answers.
    """

    name: str
    agent: str


FlowDefinition = IndexFlow | BatchFlow | EvaluateFlow | AskFlow
