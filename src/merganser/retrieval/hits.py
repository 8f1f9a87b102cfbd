"""What a search returns: hits with their place and scores, and what the reader must know.

All values are plain data that survive JSON.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from merganser.chunking.places import name_passage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from merganser.retrieval.budget import Budget

PassageKey: TypeAlias = tuple[str, int, int, tuple[int, int]]
"""Path, first line, last line and digest of the text: what makes the chunks of two strategies the
same passage, also where the strategies chunk files differently. It orders ties, too."""


Freshness: TypeAlias = Literal["fresh", "changed", "gone"]
"""Whether what is cited stands in its file now: ``fresh`` where its lines are as they were indexed,
also where they moved; ``gone`` where the file is not there. Pages, slides, sheets and cells are
``fresh`` while their file is what was indexed. What cannot be read is ``changed``."""


_SAID: Mapping[str, str] = {
    "changed": "changed since it was indexed",
    "gone": "removed since it was indexed",
}


def describe_freshness(freshness: str) -> str:
    """Return what a reader must know of a passage's freshness; "" for one that is fresh.

    >>> describe_freshness("gone"), describe_freshness("fresh")
    ('removed since it was indexed', '')
    """
    return _SAID.get(freshness, "")


@dataclass(frozen=True, slots=True)
class StrategyScore:
    """What one strategy says of a hit.

    Attributes:
        rank: Its place in the strategy's list, from 1.
        score: The strategy's own score, higher is better: BM25 raw, or a similarity.
    """

    rank: int
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class HitExplanation:
    """Why a hit has its rank.

    Attributes:
        fused_rank: Its place after fusion, from 1.
        fused_score: Its score after fusion.
        fused_terms: What each strategy added to that score.
        bm25_terms: Per BM25 strategy, what each term of the query added to its score.
        priors: What each prior of ranking added to it, see ``retrieval.priors``; none of 0.
        rerank_delta: Places won (positive) or lost by reranking; None when not reranked.
        file_score: The score of its file, by which hits are diversified; None where they are not.
    """

    fused_rank: int
    fused_score: float
    fused_terms: Mapping[str, float]
    bm25_terms: Mapping[str, Mapping[str, float]] = field(
        default_factory=dict[str, dict[str, float]]
    )
    priors: Mapping[str, float] = field(default_factory=dict[str, float])
    rerank_delta: int | None = None
    file_score: float | None = None


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage of the index that answers a query.

    Attributes:
        path: As indexed: posix and relative to the config's folder.
        start_line: First line, from 1, where it stands now.
        end_line: Last line, inclusive.
        text: The passage, or the whole file where ``return_full_content`` asks for it.
        score: Higher is better; the rerank score where there is one, otherwise the fused one.
            Only hits that both have a rerank score, or both have none, can be compared by it;
            where hits are diversified by file (``results.per_file``), only hits of one file.
        symbol: For example ``Flow.run`` or ``Install > Linux``; may be empty.
        language: Of the file, or None.
        strategies: The rank and score that each strategy gave it, by the strategy's name.
        rerank_score: Of the reranker, after normalization; None when not reranked.
        freshness: Whether it stands in its file at the time of the query.
        trimmed: Whether the text was cut to a part of the passage, to fit a budget.
        moved: How many lines further down than indexed it stands; negative for up.
        place: Where the passage stands in its file, such as ``slides 3-4``; empty where that is its
            lines. Then the lines are those of the file, else of the text that was extracted.
        kind: What sort of document the file is: ``code``, ``docs``, ``tests``, ...; empty when not
            known, as in older indexes.
        symbol_kind: What the passage is: ``function``, ``section``, ``text``, ...
        commit: The commit that has the file as it was indexed; "" when it was in none.
        url: Page of a forge with the passage at that commit; "" when none is known.
        explanation: Present when the search was asked to explain.
    """

    path: str
    start_line: int
    end_line: int
    text: str
    score: float
    _: KW_ONLY
    symbol: str = ""
    language: str | None = None
    strategies: Mapping[str, StrategyScore] = field(default_factory=dict[str, StrategyScore])
    rerank_score: float | None = None
    freshness: Freshness = "fresh"
    trimmed: bool = False
    moved: int = 0
    place: str = ""
    kind: str = ""
    symbol_kind: str = ""
    commit: str = ""
    url: str = ""
    explanation: HitExplanation | None = None

    @property
    def stale(self) -> bool:
        """Whether it is not what stands in its file."""
        return self.freshness != "fresh"

    @property
    def source(self) -> str:
        """``path:start-end`` or ``path (place)``, the form in which an answer cites the hit."""
        return name_passage(self.path, f"{self.start_line}-{self.end_line}", self.place)

    def as_json(self, *, scores: bool = True) -> dict[str, Any]:
        """Return the hit as JSON values.

        Args:
            scores: With its score, those of the strategies, and the reranker's.
        """
        value: dict[str, Any] = {
            "source": self.source,
            "path": self.path,
            "start_line": self.start_line,
            "end_line": self.end_line,
            "place": self.place,
            "symbol": self.symbol,
            "symbol_kind": self.symbol_kind,
            "kind": self.kind,
            "language": self.language,
            "text": self.text,
            "freshness": self.freshness,
            "stale": self.stale,
            "moved": self.moved,
            "trimmed": self.trimmed,
            "commit": self.commit or None,
            "url": self.url or None,
        }
        if scores:
            value["score"] = self.score
            value["legs"] = {name: asdict(score) for name, score in self.strategies.items()}
            value["rerank_score"] = self.rerank_score
        if self.explanation is not None:
            value["explanation"] = asdict(self.explanation)
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchResult:
    """The answer to one query.

    Attributes:
        query: As asked.
        hits: Best first, at most the limit.
        notes: What the reader must know: a strategy that could not take part, a skipped
            reranking, files that changed since they were indexed.
        timings: Wall seconds per step (``bm25``, ``embed``, ``fuse``, ``rerank``, ``total``, ...);
            steps that ran at the same time overlap.
        snapshots: The generation that was read, per index.
        rerank: ``applied``, ``skipped (<reason>)``, or empty where none is configured.
        methods: Per dense strategy, whether its answer is exact or approximate, with the recall.
        include_score: Whether the config wants scores shown.
        budget: How the hits fill the budget of tokens; None where there is none.
    """

    query: str
    hits: tuple[Hit, ...]
    notes: tuple[str, ...] = ()
    timings: Mapping[str, float] = field(default_factory=dict[str, float])
    snapshots: Mapping[str, int] = field(default_factory=dict[str, int])
    rerank: str = ""
    methods: Mapping[str, str] = field(default_factory=dict[str, str])
    include_score: bool = False
    budget: Budget | None = None

    def as_json(self, *, scores: bool | None = None) -> dict[str, Any]:
        """Return the result as JSON values.

        Args:
            scores: With scores or without; None as the config's ``include_score`` says, and always
                with them when hits are explained.
        """
        explained = any(hit.explanation is not None for hit in self.hits)
        with_scores = (self.include_score or explained) if scores is None else scores
        return {
            "query": self.query,
            "hits": [hit.as_json(scores=with_scores) for hit in self.hits],
            "notes": list(self.notes),
            "rerank": self.rerank,
            "snapshots": dict(self.snapshots),
            "methods": dict(self.methods),
            "budget": self.budget and asdict(self.budget),
            "seconds": {name: round(value, 6) for name, value in self.timings.items()},
        }
