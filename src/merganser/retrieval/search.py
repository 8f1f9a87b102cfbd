"""Search a rag: run its strategies together, rank what they found, and note what was left out."""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Self

import duckdb

from merganser.chunking.places import describe_places
from merganser.documents.forges import origin_of
from merganser.documents.kinds import kind_of
from merganser.errors import DamagedIndexError, PlanError, SnapshotMismatchError
from merganser.retrieval.budget import MOST_HITS, count_fitting, fill_budget
from merganser.retrieval.explain import Missing, explain_missing
from merganser.retrieval.freshness import PassageCheck, check_passages, freshness_notes
from merganser.retrieval.hits import Hit, HitExplanation, SearchResult
from merganser.retrieval.ranking import PassageRanking, RankedPassage, rank_passages, read_chunks
from merganser.retrieval.rerank import Reranker
from merganser.retrieval.strategies import (
    OpenIndex,
    StrategyFailure,
    StrategyResult,
    fall_back,
    run_strategy,
)
from merganser.store.reader import open_snapshot
from merganser.telemetry import span

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence
    from pathlib import Path

    from merganser.config.index_definition import IndexDefinition
    from merganser.config.rag_definition import RagDefinition
    from merganser.retrieval.budget import Budget
    from merganser.retrieval.rerank import RerankRunner
    from merganser.retrieval.strategies import EmbedderFor
    from merganser.store.filters import Filter
    from merganser.store.reader import Snapshot
    from merganser.store.rows import StoredChunk


MANY_QUERIES = 10
"""From this many on, vectors and postings are better kept in memory than read for each."""


class Retriever:
    """Answers queries over one rag. Use it as a context manager.

    It reads the snapshots that were served when it was opened, whatever is published meanwhile.
    Several searches may run at once.

    Args:
        definition: The rag.
        indexes: Its indexes, open, by folder.
        runner: For reranking, or None where there is no model server.
        embedder_for: Returns the embedder of a dense strategy; None where there is no model server.
    """

    def __init__(
        self,
        definition: RagDefinition,
        indexes: Mapping[Path, OpenIndex],
        *,
        runner: RerankRunner | None,
        embedder_for: EmbedderFor | None,
    ) -> None:
        self.definition = definition
        self._indexes = indexes
        self._embedder_for = embedder_for
        self._reranker = Reranker(runner, definition.rerank) if definition.rerank else None

    @classmethod
    def open(
        cls,
        definition: RagDefinition,
        *,
        runner: RerankRunner | None = None,
        embedder_for: EmbedderFor | None = None,
        resident: bool = False,
        open_index: Callable[[IndexDefinition], Snapshot] | None = None,
    ) -> Self:
        """Open the snapshots of a rag.

        Args:
            definition: The rag.
            runner: For reranking, or None where there is no model server.
            embedder_for: Returns the embedder of a dense strategy, called once per search; None
                where there is no model server.
            resident: Keep vectors and postings in memory, for a process that answers
                ``MANY_QUERIES`` or more.
            open_index: Opens the snapshot of an index; None for the served one.

        Raises:
            NoSnapshotError: Nothing has been indexed yet.
            StoreError: An index cannot be read.
        """
        opening = open_index or _open_served
        with ExitStack() as stack:
            indexes = {
                index.folder: OpenIndex.over(
                    index, stack.enter_context(opening(index)), resident=resident
                )
                for index in definition.indexes
            }
            stack.pop_all()
        return cls(definition, indexes, runner=runner, embedder_for=embedder_for)

    @property
    def snapshots(self) -> Mapping[str, Snapshot]:
        """What is searched, by the index's name."""
        return {index.definition.name: index.snapshot for index in self._indexes.values()}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the snapshots."""
        for index in self._indexes.values():
            index.snapshot.close()

    async def search(
        self,
        query: str,
        *,
        limit: int | None = None,
        budget: int | None = None,
        where: Filter | None = None,
        explain: bool = False,
        strict: bool = False,
    ) -> SearchResult:
        """Find the passages for a query.

        Args:
            query: In natural language or in the code's own words.
            limit: Most hits; None for the config's ``results.limit``, or for 100 where only a
                budget is given.
            budget: Most tokens of the hits together; None for the config's ``results.budget``, 0
                for no budget.
            where: What may be found; every strategy still returns its full limit.
            explain: Say of each hit why it is there.
            strict: Fail when a strategy cannot take part, instead of searching without it.

        Returns:
            The hits with notes on whatever could not take part.

        Raises:
            PlanError: The query is empty.
            MerganserError: Strict, what kept a strategy from taking part.
            SnapshotMismatchError: All strategies are dense and their model has changed.
            StoreError: No strategy can read its index.
        """
        _check_query(query)
        results = self.definition.results
        room = results.budget if budget is None else budget
        wanted = results.limit if limit is None else limit
        if room and limit is None and "limit" not in results.model_fields_set:
            wanted = MOST_HITS
        name = self.definition.name
        about = {
            "gen_ai.operation.name": "retrieval",
            "gen_ai.data_source.id": name,
            "gen_ai.request.top_k": wanted,
        }
        with span(f"retrieval {name}", about) as searching, self._naming_damage():
            found = await self._search(
                query, wanted, where or None, budget=room or 0, explain=explain, strict=strict
            )
            searching.set_attributes({"merganser.hits": len(found.hits)})
        return found

    async def _search(
        self,
        query: str,
        limit: int,
        where: Filter | None,
        *,
        budget: int,
        explain: bool,
        strict: bool,
    ) -> SearchResult:
        started = time.perf_counter()
        results, notes = await self._run_strategies(query, where, strict=strict)
        seconds = {name: value for result in results for name, value in result.seconds.items()}
        fusing = time.perf_counter()
        ranking = await rank_passages(self.definition, results, query, self._reranker)
        seconds["rerank" if self._reranker else "fuse"] = time.perf_counter() - fusing
        hits, stale_notes, filled = await asyncio.to_thread(
            self._make_hits, ranking, limit, results if explain else None, query, budget
        )
        reranked = ranking.reranked
        return SearchResult(
            query=query,
            hits=hits,
            notes=(*notes, *(reranked.notes if reranked else ()), *stale_notes),
            timings={**seconds, "total": time.perf_counter() - started},
            snapshots={name: snapshot.generation for name, snapshot in self.snapshots.items()},
            rerank=reranked.status if reranked else "",
            methods={result.strategy.name: result.method for result in results if result.method},
            include_score=self.definition.results.include_score,
            budget=filled,
        )

    async def why_missing(
        self, query: str, path: str, *, limit: int | None = None, where: Filter | None = None
    ) -> Missing:
        """Say how an expected file ranks for a query, and what kept it out of the hits.

        Args:
            query: The question.
            path: As indexed, or the end of such a path.
            limit: As for ``search``.
            where: As for ``search``.

        Raises:
            PlanError: The query is empty.
            SnapshotMismatchError: As for ``search``.
            StoreError: As for ``search``.
        """
        _check_query(query)
        wanted = self.definition.results.limit if limit is None else limit
        with self._naming_damage():
            results, notes = await self._run_strategies(query, where or None)
            ranking = await rank_passages(self.definition, results, query, self._reranker)
            return await asyncio.to_thread(
                explain_missing,
                path,
                results,
                ranking,
                limit=wanted,
                where=where or None,
                notes=notes,
            )

    @contextmanager
    def _naming_damage(self) -> Generator[None]:
        """Name the damaged file where DuckDB fails to read."""
        try:
            yield
        except duckdb.Error as error:
            told = [index.snapshot.explain(error) for index in self._indexes.values()]
            named = [one for one in told if isinstance(one, DamagedIndexError)]
            raise (named or told)[0] from error

    async def _run_strategies(
        self, query: str, where: Filter | None, *, strict: bool = False
    ) -> tuple[list[StrategyResult], list[str]]:
        """Run all strategies at once, and go on without those that fail."""
        outcomes = await asyncio.gather(
            *(
                run_strategy(
                    strategy,
                    self._indexes[strategy.index.folder],
                    query,
                    embedder_for=self._embedder_for,
                    where=where,
                )
                for strategy in self.definition.strategies
            )
        )
        results = [one for one in outcomes if isinstance(one, StrategyResult)]
        failures = [one for one in outcomes if isinstance(one, StrategyFailure)]
        if strict and failures:
            raise failures[0].error
        notes = [note for result in results for note in result.notes]
        if results:
            notes += [f"{f.strategy.name} did not take part: {f.error}" for f in failures]
            return results, notes
        return await _search_by_words(failures, query, where)

    def _make_hits(
        self,
        ranking: PassageRanking,
        limit: int,
        explain: Sequence[StrategyResult] | None,
        query: str,
        budget: int,
    ) -> tuple[tuple[Hit, ...], list[str], Budget | None]:
        """Apply limit and budget, check the files, return whole ones where they are asked for."""
        whole = self.definition.results.return_full_content
        chosen = list(ranking.passages)
        if whole:
            by_file = {one.candidate.chunk.path: one for one in reversed(chosen)}
            chosen = [one for one in chosen if by_file[one.candidate.chunk.path] is one]
        chosen = chosen[: max(limit, 0)]
        allowed = len(chosen)
        chunks = read_chunks([one.candidate for one in chosen])
        if budget and not whole:  # no file is looked at for what is not returned
            chosen = chosen[: count_fitting((chunk.text for chunk in chunks), budget)]
        candidates = [one.candidate for one in chosen]
        chunks = chunks[: len(chosen)]
        checks = check_passages(candidates, chunks, whole=whole)
        hits: list[Hit] = []
        for one, chunk, check in zip(chosen, chunks, checks, strict=True):
            hit = _make_hit(one, chunk, check)
            # The commit has the lines as they were indexed.
            indexed = (hit.start_line - hit.moved, hit.end_line - hit.moved)
            lines = None if hit.place else indexed
            known = one.candidate.index.snapshot.meta.get("repositories", "")
            commit, url = origin_of(known, hit.path, lines)
            hit = replace(hit, commit=commit, url=url)
            if explain is not None:
                hit = replace(hit, explanation=_explain(one, explain))
            hits.append(hit)
        filled = None
        if budget:
            hits, filled = fill_budget(hits, query, budget)
            filled = replace(filled, left_out=allowed - len(hits))
            paths = {hit.path for hit in hits}
            checks = [check for check in checks if check.file.path in paths]
        return tuple(hits), freshness_notes(checks, whole=whole), filled


def _open_served(index: IndexDefinition) -> Snapshot:
    return open_snapshot(index.folder)


def _check_query(query: str) -> None:
    if not query.strip():
        raise PlanError("the query is empty: ask for something")


async def _search_by_words(
    failures: Sequence[StrategyFailure], query: str, where: Filter | None
) -> tuple[list[StrategyResult], list[str]]:
    """Answer by BM25 when no dense strategy can embed the query."""
    for failure in failures:
        # Another model is the config's or the index's mistake, and silently weaker answers
        # would hide it; a server that is away is not.
        if isinstance(failure.error, SnapshotMismatchError) or failure.strategy.kind == "bm25":
            raise failure.error
    results = [await fall_back(failure, query, where) for failure in failures]
    notes = [
        f"{f.strategy.name} searched by words alone (BM25) instead of by meaning: {f.error}"
        for f in failures
    ]
    return results, [*notes, *(note for result in results for note in result.notes)]


def _make_hit(one: RankedPassage, chunk: StoredChunk, check: PassageCheck) -> Hit:
    hit = Hit(
        path=chunk.path,
        start_line=chunk.start_line + check.moved,
        end_line=chunk.end_line + check.moved,
        text=chunk.text,
        score=one.score,
        symbol=chunk.symbol,
        language=chunk.language or None,
        strategies=one.strategies,
        rerank_score=one.rerank_score,
        freshness=check.freshness,
        moved=check.moved,
        place=chunk.place,
        # Older indexes have none.
        kind=chunk.file_kind or kind_of(chunk.path, chunk.language or None),
        symbol_kind=chunk.kind,
    )
    file = check.file
    if file.text is None:
        return hit
    lines = file.text.count("\n") + (not file.text.endswith("\n"))
    last = max(lines, 1)
    place = describe_places(file.places, 1, last)
    return replace(hit, text=file.text, start_line=1, end_line=last, place=place)


def _explain(one: RankedPassage, results: Sequence[StrategyResult]) -> HitExplanation:
    return HitExplanation(
        fused_rank=one.fused_rank,
        fused_score=one.fused.score,
        fused_terms=one.fused.terms,
        bm25_terms={
            result.strategy.name: result.matches.explain(one.candidate.chunk.key)
            for result in results
            if result.matches is not None and result.index is one.candidate.index
        },
        rerank_delta=None if one.rerank_score is None else one.ranked - one.rank,
        priors=one.priors,
        file_score=one.file_score,
    )


@dataclass(slots=True)
class BoundedSource:
    """A retriever bounded by a filter; it remembers the passages that it gave."""

    retriever: Retriever
    where: Filter | None
    passages: list[str] = field(default_factory=list[str])

    async def search(self, question: str, /) -> SearchResult:
        """Find the passages for a question that the filter lets through, best first."""
        found = await self.retriever.search(question, where=self.where)
        self.passages += [hit.text for hit in found.hits]
        return found
