"""``merganser search``: the passages for a query."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from merganser.cli.options import (
    WORDS,
    Reach,
    file_argument,
    json_option,
    print_json,
    reach_options,
)
from merganser.errors import PlanError

if TYPE_CHECKING:
    from merganser.config.load import Config
    from merganser.retrieval import Hit, Missing, SearchResult
    from merganser.store.filters import Filter

_SNIPPET_LINES = 6


@click.command()
@file_argument
@click.argument("query", type=WORDS)
@click.option("--rag", "rags", multiple=True, help="Which rag; repeatable [default: all].")
@click.option("--limit", type=click.IntRange(min=1), help="Most hits [default: the config's].")
@click.option("--path", multiple=True, metavar="GLOB", help="Only files like this; repeatable.")
@click.option("--language", multiple=True, help="Only files in this language; repeatable.")
@click.option("--symbol", multiple=True, help="Only within this symbol; repeatable.")
@click.option("--explain", is_flag=True, help="Say why each hit is there.")
@click.option("--why-not", metavar="PATH", help="Say why this file is not among the hits.")
@click.option("--full", "whole", is_flag=True, help="Print whole passages.")
@reach_options
@json_option
def command(
    file: str,
    query: str,
    *,
    rags: tuple[str, ...],
    limit: int | None,
    path: tuple[str, ...],
    language: tuple[str, ...],
    symbol: tuple[str, ...],
    explain: bool,
    why_not: str | None,
    whole: bool,
    as_json: bool,
    reach: Reach,
) -> int:
    """Find the passages for QUERY in the indexes of FILE."""
    from merganser.store.filters import Filter

    config = reach.load(file)
    names = rags or tuple(config.spec.rag)
    if not names:
        raise PlanError(f"{config.path} has no `rag` to search")
    where = Filter(paths=path, languages=language, symbols=symbol)
    base_url = reach.address()
    results, missing = asyncio.run(
        _search(
            config,
            names,
            query,
            base_url=base_url,
            limit=limit,
            where=where,
            explain=explain,
            why_not=why_not,
        )
    )
    if as_json:
        found = {name: result.as_json() for name, result in results.items()}
        print_json({"rags": found, "missing": missing} if why_not else {"rags": found})
        return 0
    for name, result in results.items():
        if len(results) > 1:
            click.echo(f"== {name}")
        _show(result, whole=whole)
        for strategy, method in result.methods.items() if explain else ():
            click.echo(f"{strategy}: {method}", err=True)
    for name, lines in missing.items():
        click.echo(f"why not {why_not} ({name}):\n" + "\n".join(f"  {line}" for line in lines))
    return 0


async def _search(
    config: Config,
    names: tuple[str, ...],
    query: str,
    *,
    base_url: str | None,
    limit: int | None,
    where: Filter,
    explain: bool,
    why_not: str | None,
) -> tuple[dict[str, SearchResult], dict[str, list[str]]]:
    from merganser.retrieval.opening import locate_models, open_retrievers

    find, notes = await locate_models(config, names, base_url=base_url)
    for note in notes:
        click.echo(f"note: {note}", err=True)
    results: dict[str, SearchResult] = {}
    missing: dict[str, list[str]] = {}
    async with open_retrievers(config, names, find) as retrievers:
        for name, retriever in retrievers.items():
            results[name] = await retriever.search(query, limit=limit, where=where, explain=explain)
            if why_not:
                why = await retriever.why_missing(query, why_not, limit=limit, where=where)
                missing[name] = _describe_missing(why)
    return results, missing


def _describe_missing(why: Missing) -> list[str]:
    legs = [f"{name}: {leg.verdict}" for name, leg in why.legs.items()]
    return [*legs, *([f"it is found, at place {why.rank}"] if why.found else why.reasons)]


def _show(result: SearchResult, *, whole: bool) -> None:
    if not result.hits:
        click.echo("no hits")
    for number, hit in enumerate(result.hits, 1):
        legs = ", ".join(f"{name} #{leg.rank}" for name, leg in hit.legs.items())
        symbol = f"  {hit.symbol}" if hit.symbol else ""
        stale = "  (changed since it was indexed)" if hit.stale else ""
        click.echo(f"{number}. {hit.source}{symbol}{stale}\n   {hit.score:.4f}  {legs}")
        click.echo(_indented(hit, whole=whole))
    if result.rerank and f"rerank: {result.rerank}" not in result.notes:
        click.echo(f"rerank: {result.rerank}", err=True)
    for note in result.notes:
        click.echo(f"note: {note}", err=True)


def _indented(hit: Hit, *, whole: bool) -> str:
    lines = hit.text.strip("\r\n").splitlines()
    shown = lines if whole else lines[:_SNIPPET_LINES]
    text = "\n".join(f"   | {line}" for line in shown)
    more = f"\n   | … {len(lines) - len(shown)} more lines" if len(lines) > len(shown) else ""
    why = ""
    if hit.explanation is not None:
        terms = ", ".join(f"{k} {v:.4f}" for k, v in hit.explanation.fused_terms.items())
        why = f"\n   fused #{hit.explanation.fused_rank}: {terms}"
        for name, weights in hit.explanation.bm25_terms.items():
            words = ", ".join(f"{term} {weight:.2f}" for term, weight in weights.items())
            why += f"\n   {name}: {words or 'none of the words'}"
        if hit.explanation.rerank_delta is not None:
            why += f"\n   rerank moved it by {hit.explanation.rerank_delta:+d}"
        if hit.explanation.file_score is not None:
            why += f"\n   its file adds up to {hit.explanation.file_score:.3f}"
    return text + more + why
