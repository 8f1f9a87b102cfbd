"""Search a rag: run its strategies together, make one list, and say what could not be done."""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Self

from merganser.errors import PlanError, SnapshotMismatchError
from merganser.retrieval.explain import Missing, explain_missing
from merganser.retrieval.freshness import FileCheck, check_files
from merganser.retrieval.hits import Hit, HitExplanation, SearchResult
from merganser.retrieval.ranking import Ordered, Ordering, order_passages, read_chunks
from merganser.retrieval.rerank import Reranker
from merganser.retrieval.strategies import LegFailure, LegResult, OpenIndex, fall_back, run_leg
from merganser.store.reader import open_snapshot
from merganser.telemetry import span

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from merganser.config.definitions import IndexDefinition, RagDefinition
    from merganser.retrieval.rerank import RerankRunner
    from merganser.retrieval.strategies import EmbedderFor
    from merganser.store.reader import Filter, Snapshot
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
        embedder_for: Gives the embedder of a dense strategy; None where there is no model server.
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
            embedder_for: Gives the embedder of a dense strategy; asked once a search. None where
                there is no model server.
            resident: Keep vectors and postings in memory, for a process that answers
                ``MANY_QUERIES`` or more.
            open_index: Opens the snapshot of an index; the served one when left out.

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
        """Let go of the snapshots."""
        for index in self._indexes.values():
            index.snapshot.close()

    async def search(
        self,
        query: str,
        *,
        limit: int | None = None,
        where: Filter | None = None,
        explain: bool = False,
        strict: bool = False,
    ) -> SearchResult:
        """Find the passages for a query.

        Args:
            query: In natural language or in the code's own words.
            limit: Most hits; None for the config's ``results.limit``.
            where: What may be found; every strategy still gives its full limit.
            explain: Say of each hit why it is there.
            strict: Fail when a strategy cannot take part, in place of doing without it.

        Returns:
            The hits with notes on whatever could not take part.

        Raises:
            PlanError: The query is empty.
            MerganserError: Strict, what kept a strategy from taking part.
            SnapshotMismatchError: All strategies are dense and their model has changed.
            StoreError: No strategy can read its index.
        """
        if not query.strip():
            raise PlanError("the query is empty: ask for something")
        wanted = self.definition.limit if limit is None else limit
        name = self.definition.name
        about = {
            "gen_ai.operation.name": "retrieval",
            "gen_ai.data_source.id": name,
            "gen_ai.request.top_k": wanted,
        }
        with span(f"retrieval {name}", about) as searching:
            found = await self._search(query, wanted, where or None, explain=explain, strict=strict)
            searching.set_attributes({"merganser.hits": len(found.hits)})
        return found

    async def _search(
        self, query: str, limit: int, where: Filter | None, *, explain: bool, strict: bool
    ) -> SearchResult:
        started = time.perf_counter()
        legs, notes = await self._run_legs(query, where, strict=strict)
        seconds = {name: value for leg in legs for name, value in leg.seconds.items()}
        fusing = time.perf_counter()
        ordering = await order_passages(self.definition, legs, query, self._reranker)
        seconds["rerank" if self._reranker else "fuse"] = time.perf_counter() - fusing
        hits, file_notes = await asyncio.to_thread(
            self._make_hits, ordering, limit, legs if explain else None
        )
        reranked = ordering.reranked
        return SearchResult(
            query=query,
            hits=hits,
            notes=(*notes, *(reranked.notes if reranked else ()), *file_notes),
            timings={**seconds, "total": time.perf_counter() - started},
            snapshots={
                index.definition.name: index.snapshot.generation for index in self._indexes.values()
            },
            rerank=reranked.status if reranked else "",
            methods={leg.strategy.name: leg.method for leg in legs if leg.method},
            include_score=self.definition.include_score,
        )

    async def why_missing(
        self, query: str, path: str, *, limit: int | None = None, where: Filter | None = None
    ) -> Missing:
        """Say where a file that was expected stands for a query, and what kept it out.

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
        if not query.strip():
            raise PlanError("the query is empty: ask for something")
        legs, notes = await self._run_legs(query, where or None)
        ordering = await order_passages(self.definition, legs, query, self._reranker)
        wanted = self.definition.limit if limit is None else limit
        return await asyncio.to_thread(
            explain_missing, path, legs, ordering, limit=wanted, where=where or None, notes=notes
        )

    async def _run_legs(
        self, query: str, where: Filter | None, *, strict: bool = False
    ) -> tuple[list[LegResult], list[str]]:
        """Run all strategies at once, and do without those that cannot."""
        outcomes = await asyncio.gather(
            *(
                run_leg(
                    strategy,
                    self._indexes[strategy.index.folder],
                    query,
                    embedder_for=self._embedder_for,
                    where=where,
                )
                for strategy in self.definition.strategies
            )
        )
        legs = [one for one in outcomes if isinstance(one, LegResult)]
        failures = [one for one in outcomes if isinstance(one, LegFailure)]
        if strict and failures:
            raise failures[0].error
        notes = [note for leg in legs for note in leg.notes]
        if legs:
            notes += [f"{f.strategy.name} did not take part: {f.error}" for f in failures]
            return legs, notes
        return await self._do_without_embedder(failures, query, where)

    async def _do_without_embedder(
        self, failures: Sequence[LegFailure], query: str, where: Filter | None
    ) -> tuple[list[LegResult], list[str]]:
        """Answer from the postings when every dense strategy is out of reach."""
        for failure in failures:
            # Another model is the config's or the index's mistake, and silently weaker answers
            # would hide it; a server that is away is not.
            if isinstance(failure.error, SnapshotMismatchError) or failure.strategy.kind == "bm25":
                raise failure.error
        legs = [await fall_back(failure, query, where) for failure in failures]
        notes = [
            f"{f.strategy.name} searched by words alone (BM25) instead of by meaning: {f.error}"
            for f in failures
        ]
        return legs, [*notes, *(note for leg in legs for note in leg.notes)]

    def _make_hits(
        self, ordering: Ordering, limit: int, explain: Sequence[LegResult] | None
    ) -> tuple[tuple[Hit, ...], list[str]]:
        """Cut to the limit, look at the files, and give whole files where that is asked for."""
        whole = self.definition.return_full_content
        chosen = list(ordering.passages)
        if whole:
            by_file = {one.candidate.chunk.path: one for one in reversed(chosen)}
            chosen = [one for one in chosen if by_file[one.candidate.chunk.path] is one]
        chosen = chosen[: max(limit, 0)]
        checks = check_files([one.candidate for one in chosen], with_text=whole)
        chunks = read_chunks([one.candidate for one in chosen])
        hits: list[Hit] = []
        for one, chunk in zip(chosen, chunks, strict=True):
            check = checks[one.candidate.index.definition.name, chunk.path]
            hit = _make_hit(one, chunk, check)
            if explain is not None:
                hit = replace(hit, explanation=_explain(one, explain))
            hits.append(hit)
        return tuple(hits), _file_notes(checks.values(), whole=whole)


def _open_served(index: IndexDefinition) -> Snapshot:
    return open_snapshot(index.folder)


def _make_hit(one: Ordered, chunk: StoredChunk, check: FileCheck) -> Hit:
    hit = Hit(
        path=chunk.path,
        start_line=chunk.start_line,
        end_line=chunk.end_line,
        text=chunk.text,
        score=one.score,
        symbol=chunk.symbol,
        language=chunk.language or None,
        legs=one.legs,
        rerank_score=one.rerank_score,
        stale=check.state != "same",
    )
    if check.text is None:
        return hit
    lines = check.text.count("\n") + (not check.text.endswith("\n"))
    return replace(hit, text=check.text, start_line=1, end_line=max(lines, 1))


def _explain(one: Ordered, legs: Sequence[LegResult]) -> HitExplanation:
    return HitExplanation(
        fused_rank=one.fused_rank,
        fused_score=one.fused.score,
        fused_terms=one.fused.terms,
        bm25_terms={
            leg.strategy.name: leg.matches.explain(one.candidate.chunk.key)
            for leg in legs
            if leg.matches is not None and leg.index is one.candidate.index
        },
        rerank_delta=None if one.rerank_score is None else one.fused_rank - one.rank,
        file_score=one.file_score,
    )


def _file_notes(checks: Iterable[FileCheck], *, whole: bool) -> list[str]:
    notes: list[str] = []
    for check in checks:
        if check.state == "same":
            continue
        became = "was removed" if check.state == "gone" else "changed"
        instead = ", so the passage is given and not the file" if whole else ""
        notes.append(f"{check.path} {became} since it was indexed{instead}: run `merganser index`")
    return notes
