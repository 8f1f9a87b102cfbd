"""Measure searching from 10,000 chunks to a million: dense, by words, hybrid; served and once.

Indexes are synthetic in their vectors and real in their words (see ``synthetic_index``) and are
written by the store's own writer. Each size is measured in a process of its own: the service (what
is in memory is loaded once, outside the figures), numpy's exact product in the same loop, and one
search of a fresh process beyond its imports. Memory is the process's peak; the service's is taken
before numpy's matrix is loaded. Query vectors are given, so no model is needed.

    python benchmarks/bench_search.py [--sizes 10000,33000,100000] [--tree FOLDER] [--keep FOLDER]

``--sizes 1000000`` takes a quarter of an hour and 5 GB the first time, most of it for the
approximate index; ``--keep`` leaves the indexes in a folder for the next time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from measuring import peak_memory

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from numpy.typing import NDArray

    from merganser.retrieval import Retriever

KINDS = ("dense", "bm25", "hybrid")
QUERIES = 50


def main() -> None:
    """Build what is missing, measure each size in a child and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="10000,33000,100000", help="chunks, comma-separated")
    parser.add_argument("--tree", type=Path, default=Path(__file__).parents[1], help="for words")
    parser.add_argument("--keep", type=Path, help="folder of the indexes")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        what, folder, size = arguments.child
        facts = (
            measure_service(Path(folder), int(size), arguments.tree)
            if what == "service"
            else (measure_once(Path(folder), int(size), arguments.tree, what))
        )
        print(json.dumps(facts))
        return
    with tempfile.TemporaryDirectory() as temporary:
        keep = arguments.keep or Path(temporary)
        for size in map(int, arguments.sizes.split(",")):
            print_size(keep / str(size), size, arguments.tree)


def print_size(folder: Path, size: int, tree: Path) -> None:
    """Measure one size and print what it took."""
    prepare(folder, size, tree)
    facts = run_child("service", folder, size, tree)
    print(f"\n## {size:,} chunks: {facts['method']}; {facts['recall']}")
    print(f"service: loaded in {facts['load']:.2f} CPU s, {facts['rss']:.0f} MB at most")
    print("| in a service | p50 ms | p95 ms | CPU ms | x numpy exact |\n| --- |" + " ---: |" * 4)
    for name, row in facts["rows"].items():
        ratio = row["cpu"] / facts["rows"]["numpy exact"]["cpu"]
        print(f"| {name} | {row['p50']:.2f} | {row['p95']:.2f} | {row['cpu']:.2f} | {ratio:.2f} |")
    print("| once, in a fresh process | CPU s beyond imports | MB |\n| --- | ---: | ---: |")
    for kind in KINDS:
        once = run_child(kind, folder, size, tree)
        print(f"| {kind} | {once['cpu']:.2f} | {once['rss']:.0f} |")


def prepare(folder: Path, size: int, tree: Path) -> None:
    """Make the index and, above the engine's threshold, its graph."""
    from synthetic_index import make_index, read_pieces  # noqa: PLC0415 - a child may need neither

    from merganser.indexing.publishing import build_graphs  # noqa: PLC0415 - the parent needs none of it
    from merganser.store.folder import IndexFolder  # noqa: PLC0415 - the parent needs none of it

    began = time.process_time()
    if not (folder / "index" / "CURRENT").exists():
        make_index(folder / "index", folder / "tree", size, read_pieces(tree))
        print(f"{size:,} chunks written in {time.process_time() - began:.0f} CPU s")
    began = time.process_time()
    for told in build_graphs(IndexFolder(folder / "index"), 1):
        print(f"{told}; {time.process_time() - began:.0f} CPU s")


def run_child(what: str, folder: Path, size: int, tree: Path) -> dict[str, Any]:
    """Run a measurement in a fresh process."""
    command = [
        sys.executable,
        __file__,
        "--tree",
        str(tree),
        "--child",
        what,
        str(folder),
        str(size),
    ]
    # As the command line has it.
    env = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, env=env).stdout)


class GivenVectors:
    """Gives the vectors of queries, which are drawn like those of the chunks."""

    def __init__(self, size: int) -> None:
        from synthetic_index import FINGERPRINT, VectorSource  # noqa: PLC0415 - the parent needs none of it

        self.fingerprint = FINGERPRINT
        self.vectors = VectorSource(size).draw(QUERIES, 999_999_999)

    async def embed_query(self, text: str) -> NDArray[np.float32]:
        """Return the vector of the query with this number."""
        return self.vectors[int(text.rpartition("#")[2])]


def make_queries(size: int, tree: Path) -> list[str]:
    """Take windows of 8 words from the texts, numbered for their vectors."""
    from synthetic_index import read_pieces, vary  # noqa: PLC0415 - the parent needs none of it

    pieces = read_pieces(tree)
    random = np.random.default_rng(5)
    queries: list[str] = []
    while len(queries) < QUERIES:
        words = vary(pieces, int(random.integers(size))).split()
        if len(words) > 12:
            at = int(random.integers(len(words) - 8))
            queries.append(" ".join(words[at : at + 8]) + f" #{len(queries)}")
    return queries


def open_retriever(folder: Path, size: int, kind: str, *, resident: bool) -> Retriever:
    """Open one way to search."""
    from merganser.chunking import ChunkingOptions  # noqa: PLC0415 - the parent needs none of it
    from merganser.config.index_definition import EmbeddingDefinition, IndexDefinition  # noqa: PLC0415 - the parent needs none of it
    from merganser.config.rag_definition import RagDefinition, StrategyDefinition  # noqa: PLC0415 - the parent needs none of it
    from merganser.config.spec_rag import ResultsSpec  # noqa: PLC0415 - the parent needs none of it
    from merganser.models.ref import ModelRef  # noqa: PLC0415 - the parent needs none of it
    from merganser.retrieval import Retriever  # noqa: PLC0415 - the parent needs none of it

    model = ModelRef(name="synthetic", provider="dmr", model="ai/synthetic")
    index = IndexDefinition(
        name="bench",
        folder=folder / "index",
        base=folder / "tree",
        docs=(".",),
        respect_vcs=False,
        chunking=ChunkingOptions(size=1000, overlap=0),
        embedding=EmbeddingDefinition(model=model, dimensions=None),
    )
    kinds = {"dense": ["chunked-embeddings"], "bm25": ["bm25"]}.get(kind)
    strategies = tuple(
        StrategyDefinition(name=k, kind=k, index=index, limit=20, threshold=None)  # pyright: ignore[reportArgumentType] - both are kinds
        for k in kinds or ["chunked-embeddings", "bm25"]
    )
    definition = RagDefinition(
        name="bench",
        description=None,
        instruction=None,
        tool_name="bench",
        strategies=strategies,
        indexes=(index,),
        results=ResultsSpec(limit=10),
    )
    vectors = GivenVectors(size)

    async def embedder_for(_: EmbeddingDefinition) -> GivenVectors:
        return vectors

    return Retriever.open(definition, embedder_for=embedder_for, resident=resident)


def measure_service(folder: Path, size: int, tree: Path) -> dict[str, Any]:
    """Ask all queries of a process that is running."""
    from merganser.retrieval.strategies import MOST_EQUALS  # noqa: PLC0415 - a child that asks once

    queries = make_queries(size, tree)
    began = time.process_time()
    retriever = open_retriever(folder, size, "hybrid", resident=True)

    async def ask_all() -> dict[str, Any]:
        first = await retriever.search(queries[0])
        load = time.process_time() - began
        assert len(first.hits) == 10, first
        assert not first.notes, first.notes
        rows = {"hybrid": await clock(queries, retriever.search)}
        return {"load": load, "method": next(iter(first.methods.values())), "rows": rows}

    facts = asyncio.run(ask_all())
    [index] = retriever._indexes.values()  # noqa: SLF001 - its parts are measured alone  # pyright: ignore[reportPrivateUsage]
    vectors = GivenVectors(size).vectors

    async def dense(query: str) -> Any:
        vector = vectors[int(query.rpartition("#")[2])]
        return index.dense.nearest(vector, 20, similarity="cosine_similarity", equals=MOST_EQUALS)

    async def words(query: str) -> Any:
        return index.lexical.match(query, k1=1.5, b=0.75).rank(20)

    facts["rows"]["dense alone"] = asyncio.run(clock(queries, dense))
    facts["rows"]["bm25 alone"] = asyncio.run(clock(queries, words))
    facts["rss"] = peak_memory()
    # Only now the whole matrix, which a process with an approximate index never loads.
    from merganser.store.resident import ResidentTables  # noqa: PLC0415 - the parent needs none of it

    positions, matrix = ResidentTables(index.snapshot).matrix()
    keys = index.snapshot.allowed()[positions]

    async def exact(query: str) -> Any:
        cosines = matrix @ vectors[int(query.rpartition("#")[2])]
        best = np.argpartition(cosines, -10)[-10:]
        return keys[best]

    facts["rows"]["numpy exact"] = asyncio.run(clock(queries, exact))
    shares = [
        len(set(asyncio.run(dense(q)).keys[:10].tolist()) & set(asyncio.run(exact(q)).tolist()))
        / 10
        for q in queries
    ]
    facts["recall"] = f"recall@10 {np.mean(shares):.3f} of {QUERIES} new queries against exact"
    retriever.close()
    return facts


async def clock(queries: Sequence[str], ask: Callable[[str], Awaitable[Any]]) -> dict[str, float]:
    """Ask every query twice, and time the second round."""
    for query in queries:
        await ask(query)
    walls: list[float] = []
    began = time.process_time()
    for query in queries:
        wall = time.perf_counter()
        await ask(query)
        walls.append(1000 * (time.perf_counter() - wall))
    cpu = 1000 * (time.process_time() - began) / len(queries)
    return {
        "p50": float(np.percentile(walls, 50)),
        "p95": float(np.percentile(walls, 95)),
        "cpu": cpu,
    }


def measure_once(folder: Path, size: int, tree: Path, kind: str) -> dict[str, Any]:
    """Ask one query of a process that has only imported what it needs."""
    query = make_queries(size, tree)[3]
    open_retriever(folder, size, kind, resident=False).close()
    began = time.process_time()
    with open_retriever(folder, size, kind, resident=False) as retriever:
        result = asyncio.run(retriever.search(query))
    cpu = time.process_time() - began
    assert result.hits, result
    return {"cpu": cpu, "rss": peak_memory()}


if __name__ == "__main__":
    main()
