"""Measure retrieval quality with real embeddings: the figures behind ``configs/codebase.yaml``.

    python benchmarks/bench_quality.py [--cosqa FOLDER] [--cranfield FOLDER] [--work FOLDER]

Collections: questions about eleven libraries and about SQLAlchemy (``benchmarks/questions``),
docstrings of both, searched by their first sentence in files without them, and, where their folders
are given, CoSQA (``code_idx_map.txt`` and ``cosqa-retrieval-dev-500.json``) and Cranfield
(``cran.all.1400``, ``cran.qry``, ``cranqrel``; code 1 gives grade 4, code 4 grade 1). None of them
is the corpus of the demo, whose ten questions stay unseen by any choice.

Each collection is indexed as the shipped config says and searched by each strategy alone and by
both under several settings; the last line is the shipped config. With ``--work`` the indexes stay,
and a second run embeds only what changed. The first takes about ten minutes on two cores.
"""

from __future__ import annotations

import argparse
import ast
import asyncio
import json
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from merganser.config.load import load_config
from merganser.config.rag_definition import RagDefinition, resolve_rag
from merganser.config.spec_evaluation import Metric
from merganser.config.spec_rag import FusionSpec
from merganser.embedding.embedder import Embedder
from merganser.evaluation.queries import read_queries
from merganser.evaluation.rag_evaluation import evaluate
from merganser.indexing.run import index_once_async
from merganser.models.client import ModelRunner
from merganser.retrieval import Retriever
from merganser.runner.embedded_runner import EmbeddedRunner

if TYPE_CHECKING:
    from merganser.config.index_definition import EmbeddingDefinition

HERE = Path(__file__).resolve().parent
LIBRARIES = (
    *("httpx", "rich", "pydantic", "fastapi", "starlette", "click"),
    *("anyio", "jinja2", "docker", "uvicorn", "fsspec"),
)
# Tables of characters, shims of old versions, other databases' dialects, and tests.
LEFT_OUT = re.compile(r"_unicode_data|_emoji_codes|/v1/|/deprecated|/dialects/|/testing/|/tests/")
METRICS = (Metric("success", 5), Metric("ndcg", 10), Metric("recall", 10), Metric("mrr", 10))
DOCSTRINGS, PER_FILE, SEED = 400, 3, 7

Files = Mapping[str, str]
Query = tuple[str, Mapping[str, int]]


@dataclass(frozen=True)
class Collection:
    """Documents by path, and queries with the grade of each relevant path."""

    name: str
    files: Files
    queries: Sequence[Query]


def main() -> None:
    """Index and search every collection, and print a table of each."""
    arguments = _arguments()
    with tempfile.TemporaryDirectory() as scratch:
        work = arguments.work or Path(scratch)
        asyncio.run(_measure_all(list(_collections(arguments)), work))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cosqa", type=Path, help="folder of the CoSQA retrieval set")
    parser.add_argument("--cranfield", type=Path, help="folder of the Cranfield set")
    parser.add_argument("--only", action="append", help="names of collections; all by default")
    parser.add_argument("--work", type=Path, help="folder that keeps the indexes between runs")
    return parser.parse_args()


def _collections(arguments: argparse.Namespace) -> Iterator[Collection]:
    makers = {
        "libraries": lambda: _asked("libraries", LIBRARIES),
        "sqlalchemy": lambda: _asked("sqlalchemy", ("sqlalchemy",)),
        "libraries-docstrings": lambda: _docstrings("libraries-docstrings", LIBRARIES),
        "sqlalchemy-docstrings": lambda: _docstrings("sqlalchemy-docstrings", ("sqlalchemy",)),
    }
    if arguments.cosqa:
        makers["cosqa"] = lambda: _cosqa(arguments.cosqa)
    if arguments.cranfield:
        makers["cranfield"] = lambda: _cranfield(arguments.cranfield)
    for name in arguments.only or makers:
        yield makers[name]()


def _sources(packages: Sequence[str]) -> dict[str, str]:
    files: dict[str, str] = {}
    for package in packages:
        spec = find_spec(package)
        assert spec is not None, package
        assert spec.origin is not None, package
        root = Path(spec.origin).parent
        for path in sorted(root.rglob("*.py")):
            name = path.relative_to(root.parent).as_posix()
            if not LEFT_OUT.search(name):
                files[name] = path.read_text("utf-8")
    return files


def _asked(name: str, packages: Sequence[str]) -> Collection:
    lines = (HERE / "questions" / f"{name}.jsonl").read_text("utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    return Collection(
        name, _sources(packages), [(row["question"], {row["expected"]: 1}) for row in rows]
    )


def _docstrings(name: str, packages: Sequence[str]) -> Collection:
    """Take docstrings out of files and ask for them by their first sentence."""
    files = _sources(packages)
    found = [
        (path, sentence, first, last)
        for path, text in files.items()
        for sentence, first, last in _first_sentences(text)
    ]
    taken: dict[str, tuple[str, int, int]] = {}
    of_file: Counter[str] = Counter()
    order: list[int] = np.random.default_rng(SEED).permutation(len(found)).tolist()
    for index in order:
        path, sentence, first, last = found[index]
        if sentence not in taken and of_file[path] < PER_FILE and len(taken) < DOCSTRINGS:
            taken[sentence] = (path, first, last)
            of_file[path] += 1
    lines = {path: text.splitlines(keepends=True) for path, text in files.items()}
    for path, first, last in sorted(taken.values(), reverse=True):
        del lines[path][first - 1 : last]
    return Collection(
        name,
        {path: "".join(kept) for path, kept in lines.items()},
        [(sentence, {path: 1}) for sentence, (path, *_) in taken.items()],
    )


def _first_sentences(text: str) -> Iterator[tuple[str, int, int]]:
    """Return the first sentence of each docstring that is prose, with its lines."""
    definitions = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, definitions) or not (doc := ast.get_docstring(node)):
            continue
        paragraph = " ".join(doc.strip().split("\n\n")[0].split())
        sentence = re.split(r"(?<=[.!?])\s", paragraph)[0].rstrip(".")
        if 5 <= len(sentence.split()) <= 30 and ":" not in sentence:
            yield sentence, node.body[0].lineno, node.body[0].end_lineno or node.body[0].lineno


def _cosqa(folder: Path) -> Collection:
    codes: dict[str, int] = json.loads((folder / "code_idx_map.txt").read_text("utf-8"))
    rows = json.loads((folder / "cosqa-retrieval-dev-500.json").read_text("utf-8"))
    return Collection(
        "cosqa",
        {f"{number}.py": code for code, number in codes.items()},
        [(row["doc"], {f"{row['retrieval_idx']}.py": 1}) for row in rows],
    )


def _cranfield(folder: Path) -> Collection:
    files: dict[str, str] = {}
    for part in re.split(
        r"^\.I ", (folder / "cran.all.1400").read_text("utf-8"), flags=re.MULTILINE
    )[1:]:
        title = part.split(".T\n", 1)[1].split(".A\n", 1)[0].strip()
        text = part.split(".W\n", 1)[1].strip().removeprefix(title).strip()
        files[f"{part.split(maxsplit=1)[0]}.txt"] = f"{title}\n\n{text}"
    grades: dict[int, dict[str, int]] = {}
    for line in (folder / "cranqrel").read_text("utf-8").splitlines():
        query, _, document, code = line.split()
        if 1 <= int(code) <= 4:
            grades.setdefault(int(query), {})[f"{document}.txt"] = 5 - int(code)
    parts = re.split(r"^\.I ", (folder / "cran.qry").read_text("utf-8"), flags=re.MULTILINE)[1:]
    asked = (" ".join(part.split(".W", 1)[1].split()) for part in parts)
    return Collection(
        "cranfield",
        files,
        [(query, grades[number]) for number, query in enumerate(asked, 1) if number in grades],
    )


async def _measure_all(collections: Sequence[Collection], work: Path) -> None:
    with EmbeddedRunner(pulled=["ai/all-minilm"]) as runner:
        async with ModelRunner(runner.url) as client:
            for collection in collections:
                await _measure(collection, work / collection.name, client)


async def _measure(collection: Collection, folder: Path, client: ModelRunner) -> None:
    rag = _write(collection, folder)
    definition = rag.indexes[0].embedding
    assert definition is not None, "the shipped config embeds"
    served = await client.model(definition.model.model)
    assert served is not None, "the runner has it"
    embedder = Embedder(client, definition.model, served, dimensions=None)

    async def embedder_for(_: EmbeddingDefinition) -> Embedder:
        return embedder

    report = await index_once_async(rag.indexes[0], embedder)
    queries = read_queries(folder / "queries.jsonl")
    print(
        f"\n{collection.name}: {len(collection.files):,} files, {report.chunks:,} chunks, ", end=""
    )
    print(f"{len(queries.queries)} queries")
    heads = [str(metric) for metric in METRICS]
    print(f"{'':40}{''.join(f'{head:>12}' for head in heads)}")
    for name, variant in _variants(rag).items():
        with Retriever.open(
            variant, runner=client, embedder_for=embedder_for, resident=True
        ) as retriever:
            found = await evaluate(retriever, queries, METRICS)
        values = "".join(f"{figure.value:>12.3f}" for figure in found.figures)
        print(f"{name:40}{values}", flush=True)


def _write(collection: Collection, folder: Path) -> RagDefinition:
    """Put a collection where the shipped config, extended, indexes it."""
    shutil.rmtree(folder / "files", ignore_errors=True)
    for name, text in collection.files.items():
        path = folder / "files" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    rows = (
        {"query": text, "expected": [{"path": f"files/{p}", "grade": g} for p, g in grades.items()]}
        for text, grades in collection.queries
    )
    (folder / "queries.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
    config = {
        "extends": str(HERE.parent / "configs" / "codebase.yaml"),
        "rag": {"codebase": {"docs": ["./files"]}},
    }
    (folder / "codebase.yaml").write_text(json.dumps(config), "utf-8")
    models = {"ai/embeddinggemma": "ai/all-minilm"}
    return resolve_rag(load_config(folder / "codebase.yaml", model_map=models), "codebase")


def _with_results(rag: RagDefinition, **changes: Any) -> RagDefinition:
    return replace(rag, results=rag.results.model_copy(update=changes))


def _variants(rag: RagDefinition) -> dict[str, RagDefinition]:
    dense, words = (replace(one, limit=100) for one in rag.strategies)
    plain = _with_results(rag, per_file=None)
    equal = FusionSpec(strategy="rrf")
    leaning = FusionSpec(k=10, weights={"chunked-embeddings": 2, "bm25": 1})
    short = tuple(replace(one, limit=30) for one in rag.strategies)
    fused = replace(_with_results(rag, fusion=equal), strategies=short)
    return {
        "dense": replace(plain, strategies=(dense,)),
        "dense, per_file 1": replace(rag, strategies=(dense,)),
        "bm25": replace(plain, strategies=(words,)),
        "bm25, per_file 1": replace(rag, strategies=(words,)),
        "hybrid, rrf 60, limits 30": _with_results(fused, per_file=None),
        "hybrid, rrf 60, limits 30, per_file 1": replace(
            _with_results(rag, fusion=equal), strategies=short
        ),
        "hybrid, rrf 10, dense 2, per_file 1": replace(
            _with_results(rag, fusion=leaning), strategies=(dense, words)
        ),
        "hybrid, shipped without per_file": plain,
        "hybrid, shipped": rag,
    }


if __name__ == "__main__":
    main()
