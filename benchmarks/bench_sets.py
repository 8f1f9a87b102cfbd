r"""Measure retrieval on the sets of ``benchmarks/sets``, each figure with its interval.

    python benchmarks/bench_sets.py TREES [--only chi --only words-chi] [--work FOLDER]

``TREES`` holds a checkout of each repository of ``sets.json``, at its commit and under its name
there (``languages`` is FastAPI); a missing tree is left out and named. For a set of questions:
success@5 and nDCG@10 of dense alone, BM25 alone, plain reciprocal rank fusion (k 60, five each) and
the shipped config, all with ``per_file: 1``, and the paired difference of each to the better of the
two strategies alone. For ``words-NAME``: of 150 words ``[A-Za-z_]\w{7,}`` of one file alone, drawn
by seed, the share whose file is the first hit and among the first ten. Intervals are of 95 %, by
bootstrap over queries. With ``--work`` indexes stay, and a second run embeds only what changed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from merganser.config.load import load_config
from merganser.config.rag_definition import RagDefinition, resolve_rag
from merganser.config.spec_evaluation import Metric
from merganser.config.spec_rag import FusionSpec, RankingSpec
from merganser.embedding.embedder import Embedder
from merganser.evaluation.metrics import bootstrap_interval
from merganser.evaluation.queries import read_queries
from merganser.evaluation.rag_evaluation import Evaluation, evaluate
from merganser.indexing.run import index_once_async
from merganser.models.client import ModelRunner
from merganser.retrieval import Retriever
from merganser.runner.embedded_runner import EmbeddedRunner

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from merganser.config.index_definition import EmbeddingDefinition
    from merganser.store.reader import Snapshot

HERE = Path(__file__).resolve().parent
SETS: dict[str, dict[str, Any]] = json.loads((HERE / "sets" / "sets.json").read_text("utf-8"))
QUESTIONS = (Metric("success", 5), Metric("ndcg", 10))
WORDS = (Metric("success", 1), Metric("success", 10))
WORD = re.compile(r"\b[A-Za-z_]\w{7,}\b")
DRAWN, SEED = 150, 7


def main() -> None:
    """Measure every set whose tree is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trees", type=Path, help="folder of the checkouts")
    parser.add_argument("--only", action="append", help="names of sets; all by default")
    parser.add_argument("--work", type=Path, help="folder that keeps the indexes between runs")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        work = arguments.work or Path(scratch)
        asyncio.run(_measure_all(arguments.trees.resolve(), work, arguments.only))


async def _measure_all(trees: Path, work: Path, only: Sequence[str] | None) -> None:
    """Measure set by set, each tree indexed once for its questions and its words."""
    with EmbeddedRunner(pulled=["ai/all-minilm"]) as runner:
        async with ModelRunner(runner.url) as client:
            for name, about in SETS.items():
                asked = [one for one in (name, f"words-{name}") if not only or one in only]
                if asked and not (trees / name).is_dir():
                    print(f"\n{name}: {trees / name} is missing; {about['repository']}")
                elif asked:
                    await _measure(name, asked, (trees / name).resolve(), work / name, client)


async def _measure(
    name: str, asked: Sequence[str], tree: Path, folder: Path, client: ModelRunner
) -> None:
    """Index a tree, and measure its questions, its words or both."""
    rag = _write(_documents(SETS[name], tree), folder)
    definition = rag.indexes[0].embedding
    assert definition is not None, "the shipped config embeds"
    served = await client.model(definition.model.model)
    assert served is not None, "the runner has it"
    embedder = Embedder(client, definition.model, served, dimensions=None)

    async def embedder_for(_: EmbeddingDefinition) -> Embedder:
        return embedder

    report = await index_once_async(rag.indexes[0], embedder)
    for one in asked:
        metrics = QUESTIONS if one == name else WORDS
        found: dict[str, Evaluation] = {}
        for variant, changed in _variants(rag).items():
            with Retriever.open(
                changed, runner=client, embedder_for=embedder_for, resident=True
            ) as retriever:
                (snapshot,) = retriever.snapshots.values()
                if one == name:
                    path = _questions(name, snapshot, tree, folder)
                else:
                    path = _words(snapshot, folder)
                found[variant] = await evaluate(retriever, read_queries(path), metrics)
        _print(one, SETS[name]["role"], report.chunks, found, metrics)


def _documents(about: dict[str, Any], tree: Path) -> list[str]:
    """Return what is indexed of a tree: ``only`` of it, in each of ``languages``, or all."""
    return [
        str(tree / only.replace("{language}", language))
        for only in about.get("only", ["."])
        for language in about.get("languages", [""])
    ]


def _write(docs: Sequence[str], folder: Path) -> RagDefinition:
    """Write a config that indexes documents as the shipped one would."""
    folder.mkdir(parents=True, exist_ok=True)
    shipped = str(HERE.parent / "configs" / "codebase.yaml")
    config = {"extends": shipped, "rag": {"codebase": {"docs": list(docs)}}}
    path = folder / "codebase.yaml"
    path.write_text(json.dumps(config), "utf-8")
    models = {"ai/embeddinggemma": "ai/all-minilm"}
    return resolve_rag(load_config(path, model_map=models), "codebase")


def _questions(name: str, snapshot: Snapshot, tree: Path, folder: Path) -> Path:
    """Write the questions of a set with the paths that the index gives to its files."""
    known = {str((folder / file.path).resolve()): file.path for file in snapshot.files()}
    rows = [
        json.loads(line)
        for line in (HERE / "sets" / f"{name}.jsonl").read_text("utf-8").splitlines()
    ]
    for row in rows:
        for label in row["expected"]:
            label["path"] = known.get(str((tree / label["path"]).resolve()), label["path"])
    return _rows(folder / "questions.jsonl", rows)


def _words(snapshot: Snapshot, folder: Path) -> Path:
    """Write the drawn words, each with the file that has it."""
    texts = (
        (file.path, chunk.text)
        for file in snapshot.files()
        for chunk in snapshot.file_chunks(file.path)
    )
    drawn = words_of_one_file(texts).items()
    return _rows(folder / "words.jsonl", [{"query": word, "path": path} for word, path in drawn])


def words_of_one_file(texts: Iterable[tuple[str, str]], most: int = DRAWN) -> dict[str, str]:
    """Return words that one file alone has, in this spelling, with its path.

    Args:
        texts: Paths with texts in them, in any order: the same words are drawn from each.
        most: Words.
    """
    files: dict[str, set[str]] = {}
    for path, text in texts:
        for word in WORD.findall(text):
            files.setdefault(word, set()).add(path)
    alone = sorted(word for word, paths in files.items() if len(paths) == 1)
    order: list[int] = np.random.default_rng(SEED).permutation(len(alone)).tolist()
    return {word: files[word].pop() for word in (alone[index] for index in order[:most])}


def _rows(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
    return path


def _variants(rag: RagDefinition) -> dict[str, RagDefinition]:
    """Return the shipped config and what it must not lose to; none of the others ranks."""
    dense, words = rag.strategies
    plain = rag.results.model_copy(update={"ranking": RankingSpec.none()})
    fused = plain.model_copy(update={"fusion": FusionSpec(strategy="rrf", k=60)})
    alone = replace(rag, results=plain)
    five = (replace(dense, limit=5), replace(words, limit=5))
    return {
        "dense": replace(alone, strategies=(replace(dense, limit=100),)),
        "BM25": replace(alone, strategies=(replace(words, limit=100),)),
        "rrf 60, 5 each": replace(rag, results=fused, strategies=five),
        "shipped, no ranking": alone,
        "shipped": rag,
    }


def _print(
    name: str,
    role: str,
    chunks: int,
    found: dict[str, Evaluation],
    metrics: Sequence[Metric],
) -> None:
    """Print a table: each figure, and its difference to the better strategy alone."""
    asked = len(next(iter(found.values())).results)
    print(f"\n{name} ({role}): {chunks:,} chunks, {asked} queries")
    for problem in next(iter(found.values())).stale:
        print(f"  stale: {problem}")
    for metric in metrics:
        values = {
            variant: np.array([result.values[metric] for result in one.results])
            for variant, one in found.items()
        }
        best = max(("dense", "BM25"), key=lambda one: values[one].mean())
        print(f"  {metric!s:12}{'':30}minus {best}")
        for variant, per_query in values.items():
            own = _interval(per_query, "")
            print(f"    {variant:20}{own:26}{_interval(per_query - values[best], '+')}", flush=True)


def _interval(values: np.ndarray[Any, np.dtype[np.float64]], sign: str) -> str:
    low, high = bootstrap_interval(values.tolist())
    return f"{values.mean():{sign}.3f} [{low:{sign}.3f}, {high:{sign}.3f}]"


if __name__ == "__main__":
    main()
