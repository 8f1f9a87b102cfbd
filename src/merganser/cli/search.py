"""``merganser search``: the passages for a query."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from merganser.cli import EXIT_STALE
from merganser.cli.options import (
    WORDS,
    Reach,
    budget_option,
    file_argument,
    fresh_option,
    json_option,
    kind_option,
    print_json,
    reach_options,
    wait_option,
)
from merganser.cli.terminal import say
from merganser.errors import PlanError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from merganser.retrieval import Hit, Missing, SearchResult

_SNIPPET_LINES = 6


@click.command()
@file_argument
@click.argument("query", type=WORDS)
@click.option("--rag", "rags", multiple=True, help="Which rag; repeatable [default: all].")
@click.option("--limit", type=click.IntRange(min=1), help="Most hits [default: the config's].")
@budget_option
@click.option("--path", multiple=True, metavar="GLOB", help="Only files like this; repeatable.")
@click.option("--language", multiple=True, help="Only files in this language; repeatable.")
@kind_option
@click.option("--symbol", multiple=True, help="Only within this symbol; repeatable.")
@click.option("--explain", is_flag=True, help="Say why each hit is there.")
@click.option("--why-not", metavar="PATH", help="Say why this file is not among the hits.")
@click.option("--full", "whole", is_flag=True, help="Print whole passages.")
@fresh_option
@wait_option
@reach_options
@json_option
def command(
    file: str,
    query: str,
    *,
    rags: tuple[str, ...],
    limit: int | None,
    budget: int | None,
    path: tuple[str, ...],
    language: tuple[str, ...],
    symbol: tuple[str, ...],
    kinds: tuple[str, ...],
    explain: bool,
    why_not: str | None,
    whole: bool,
    require_fresh: bool,
    as_json: bool,
    reach: Reach,
) -> int:
    """Find the passages for QUERY in the indexes of FILE.

    With --require-fresh it exits with 5 when a passage that it prints is not what stands in its
    file.
    """
    from merganser.cli.progress import shown_progress
    from merganser.models.outage import waiting_for_server
    from merganser.store.filters import Filter

    config = reach.load(file)
    names = rags or tuple(config.spec.rag)
    if not names:
        raise PlanError(f"{config.path} has no `rag` to search")
    paths = tuple(_relative(one, config.directory) for one in path)
    where = Filter(paths=paths, languages=language, symbols=symbol, kinds=kinds)
    base_url = reach.address()
    results: dict[str, SearchResult] = {}
    missing: dict[str, list[str]] = {}

    async def search_all() -> None:
        from merganser.retrieval.opening import locate_models, open_retrievers

        find, notes = await locate_models(config, names, base_url=base_url)
        for note in notes:
            say(f"note: {note}", err=True)
        async with open_retrievers(config, names, find) as retrievers:
            for name, retriever in retrievers.items():
                results[name] = await retriever.search(
                    query, limit=limit, budget=budget, where=where, explain=explain
                )
                if why_not:
                    why = await retriever.why_missing(query, why_not, limit=limit, where=where)
                    missing[name] = _describe_missing(why)

    wait = reach.wait_for_server or timedelta(0)  # words alone find something at once
    with shown_progress(quiet=as_json), waiting_for_server(wait.total_seconds()):
        asyncio.run(search_all())
    stale = [hit for result in results.values() for hit in result.hits if hit.stale]
    code = EXIT_STALE if stale and require_fresh else 0
    if as_json:
        found = {name: result.as_json() for name, result in results.items()}
        print_json({"rags": found, "missing": missing} if why_not else {"rags": found})
        return code
    for name, result in results.items():
        if len(results) > 1:
            say(f"== {name}")
        _show(result, whole=whole)
        for strategy, method in result.methods.items() if explain else ():
            say(f"{strategy}: {method}", err=True)
    for name, lines in missing.items():
        say(f"why not {why_not} ({name}):\n" + "\n".join(f"  {line}" for line in lines))
    if code:
        say("error: not every passage stands in its file: run `merganser index`", err=True)
    return code


def _relative(path: str, directory: Path) -> str:
    """Return an absolute path below the config's folder as hits print it."""
    start = f"{directory}/"
    return f"/{path.removeprefix(start)}" if path.startswith(start) else path


def _describe_missing(why: Missing) -> list[str]:
    verdicts = [f"{name}: {one.verdict}" for name, one in why.strategies.items()]
    return [*verdicts, *([f"it is found, at place {why.rank}"] if why.found else why.reasons)]


def _show(result: SearchResult, *, whole: bool) -> None:
    from merganser.retrieval.hits import describe_freshness

    if not result.hits:
        say("no hits")
    for number, hit in enumerate(result.hits, 1):
        ranks = ", ".join(f"{name} #{one.rank}" for name, one in hit.strategies.items())
        symbol = f"  {hit.symbol}" if hit.symbol else ""
        said = describe_freshness(hit.freshness)
        stale = (said and f"  ({said})") + ("  (trimmed)" if hit.trimmed else "")
        say(f"{number}. {hit.source}{symbol}{stale}\n   {hit.score:.4f}  {ranks}")
        if hit.url:
            say(f"   {hit.url}")
        for line in _passage(hit, whole=whole):
            say(f"   {line}")
    if result.rerank and f"rerank: {result.rerank}" not in result.notes:
        say(f"rerank: {result.rerank}", err=True)
    if (filled := result.budget) is not None:
        say(
            f"budget: {filled.used:,} of {filled.tokens:,} tokens (estimated), "
            f"{filled.trimmed} trimmed, {filled.left_out} left out",
            err=True,
        )
    for note in result.notes:
        say(f"note: {note}", err=True)


def _passage(hit: Hit, *, whole: bool) -> Iterator[str]:
    lines = hit.text.strip("\r\n").splitlines()
    shown = lines if whole else lines[:_SNIPPET_LINES]
    yield from (f"| {line}" for line in shown)
    if len(lines) > len(shown):
        yield f"| … {len(lines) - len(shown)} more lines"
    if (why := hit.explanation) is None:
        return
    terms = ", ".join(f"{name} {term:.4f}" for name, term in why.fused_terms.items())
    yield f"fused #{why.fused_rank}: {terms}"
    if why.priors:
        added = ", ".join(f"{name} {value:+.2f}" for name, value in why.priors.items())
        yield f"ranking: {added}"
    for name, weights in why.bm25_terms.items():
        words = ", ".join(f"{term} {weight:.2f}" for term, weight in weights.items())
        yield f"{name}: {words or 'none of the words'}"
    if why.rerank_delta is not None:
        yield f"rerank moved it by {why.rerank_delta:+d}"
    if why.file_score is not None:
        yield f"its file adds up to {why.file_score:.3f}"
