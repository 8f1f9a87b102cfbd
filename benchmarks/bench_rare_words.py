"""Measure whether a word that stands in one chunk alone is found by it.

    python benchmarks/bench_rare_words.py [--words 150] [--work FOLDER] [PACKAGE_OR_FOLDER ...]

Each tree is indexed and searched as ``configs/codebase.yaml`` says, and as the ten lines of the
README say; by default the sources of pydantic_ai and huggingface_hub. Words are drawn at random
from those that stand in one chunk alone, in whatever case. A word is found when its chunk is among
the first ten hits. Search goes by stems, so the words of which no other form stands elsewhere are
counted for themselves too. Each share comes with its 95 % interval (Wilson). With ``--work`` the
indexes stay. Some 15,000 chunks a tree take five minutes on two cores.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from merganser.config.load import load_config
from merganser.config.rag_definition import RagDefinition, resolve_rag
from merganser.embedding.embedder import Embedder
from merganser.indexing.run import index_once_async
from merganser.models.client import ModelRunner
from merganser.retrieval import Retriever
from merganser.runner.embedded_runner import EmbeddedRunner
from merganser.store.tokens import query_terms

if TYPE_CHECKING:
    from collections.abc import Sequence

    from merganser.config.index_definition import EmbeddingDefinition
    from merganser.store.reader import Snapshot

ROOT = Path(__file__).resolve().parents[1]
WORD = re.compile(r"\w{4,}")
SEED, FIRST = 7, 10
Place = tuple[str, int, int]


@dataclass(frozen=True)
class Found:
    """One word that was asked for.

    Attributes:
        word: In small letters.
        place: Path and lines of the chunk that has it.
        among_first: Whether that chunk was among the first ten hits.
        only_form: Whether no other chunk holds a word with the same stem.
    """

    word: str
    place: Place
    among_first: bool
    only_form: bool


def main() -> None:
    """Measure each tree by each config, and print a table."""
    arguments = _arguments()
    print(f"{'tree':18}{'config':12}{'chunks':>8}  {'hit@10':24}no other form elsewhere")
    with tempfile.TemporaryDirectory() as scratch, EmbeddedRunner(pulled=["ai/all-minilm"]) as on:
        for tree in arguments.trees:
            for name, rag in configs().items():
                folder = (arguments.work or Path(scratch)) / Path(tree).name / name
                config = write_config(rag, source_of(tree), folder)
                chunks, found = asyncio.run(measure(config, on.url, words=arguments.words))
                alone = [one for one in found if one.only_form]
                print(f"{Path(tree).name:18}{name:12}{chunks:>8,}  {share(found):24}{share(alone)}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trees", nargs="*", default=["pydantic_ai", "huggingface_hub"])
    parser.add_argument("--words", type=int, default=150, help="most words of a tree")
    parser.add_argument("--work", type=Path, help="folder that keeps the indexes between runs")
    return parser.parse_args()


def configs() -> dict[str, dict[str, Any]]:
    """Return what is measured: ``rag.codebase`` of the shipped config and of the README."""
    readme = (ROOT / "README.md").read_text("utf-8")
    block = next(text for text in readme.split("```yaml\n")[1:] if text.startswith("# codebase"))
    texts = {
        "shipped": (ROOT / "configs" / "codebase.yaml").read_text("utf-8"),
        "README": block.split("```")[0],
    }
    return {name: yaml.safe_load(text)["rag"]["codebase"] for name, text in texts.items()}


def source_of(tree: str) -> Path:
    """Return the folder of a tree: one that exists, or that of an installed package."""
    if Path(tree).is_dir():
        return Path(tree).resolve()
    spec = find_spec(tree)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(f"{tree} is no folder and no installed package")
    return Path(next(iter(spec.submodule_search_locations)))


def write_config(rag: dict[str, Any], source: Path, folder: Path) -> Path:
    """Write a config that indexes a checkout, or the Python files of a package, as ``rag`` says."""
    folder.mkdir(parents=True, exist_ok=True)
    docs = [str(source)] if (source / ".git").exists() else [f"{source}/**/*.py"]
    config = {"rag": {"codebase": {**rag, "docs": docs, "respect_vcs": False}}}
    (folder / "codebase.yaml").write_text(yaml.safe_dump(config), "utf-8")
    return folder / "codebase.yaml"


async def measure(config: Path, url: str, *, words: int) -> tuple[int, list[Found]]:
    """Index what a config names, and search for words that stand in one chunk alone.

    Args:
        config: A file with a rag ``codebase``.
        url: Of a model server that has ai/all-minilm.
        words: Most words.

    Returns:
        The number of chunks, and what was asked.
    """
    models = {"ai/embeddinggemma": "ai/all-minilm"}
    rag = resolve_rag(load_config(config, model_map=models), "codebase")
    async with ModelRunner(url) as client:
        definition = rag.indexes[0].embedding
        assert definition is not None, "both configs embed"
        served = await client.model(definition.model.model)
        assert served is not None, "the runner has it"
        embedder = Embedder(client, definition.model, served, dimensions=None)
        report = await index_once_async(rag.indexes[0], embedder)
        return report.chunks, await _ask(rag, client, embedder, words)


async def _ask(
    rag: RagDefinition, client: ModelRunner, embedder: Embedder, words: int
) -> list[Found]:
    async def embedder_for(_: EmbeddingDefinition) -> Embedder:
        return embedder

    found: list[Found] = []
    with Retriever.open(rag, runner=client, embedder_for=embedder_for, resident=True) as retriever:
        (snapshot,) = retriever.snapshots.values()
        standing = words_of_one_chunk(snapshot)
        for word in drawn(sorted(standing), words):
            hits = (await retriever.search(word, limit=FIRST)).hits
            places = [(hit.path, hit.start_line, hit.end_line) for hit in hits]
            matches = len(snapshot.postings(query_terms(word)[:1]).key)
            found.append(Found(word, standing[word], standing[word] in places, matches == 1))
    return found


def drawn(words: list[str], most: int) -> list[str]:
    """Draw words, the same each time."""
    order: list[int] = np.random.default_rng(SEED).permutation(len(words)).tolist()
    return [words[index] for index in order[:most]]


def words_of_one_chunk(snapshot: Snapshot) -> dict[str, Place]:
    """Return the words of four and more characters that one chunk alone has, with its place."""
    places: dict[str, list[Place]] = {}
    for file in snapshot.files():
        for chunk in snapshot.file_chunks(file.path):
            for word in {word.lower() for word in WORD.findall(chunk.text)}:
                if not word.isdigit():
                    place = (chunk.path, chunk.start_line, chunk.end_line)
                    places.setdefault(word, []).append(place)
    return {word: found[0] for word, found in places.items() if len(found) == 1}


def share(found: Sequence[Found]) -> str:
    """Say how many were found, with Wilson's interval of 95 %."""
    total, hits, z = len(found), sum(one.among_first for one in found), 1.96
    if not total:
        return "none"
    middle = (hits + z * z / 2) / (total + z * z)
    reach = z / (total + z * z) * (hits * (total - hits) / total + z * z / 4) ** 0.5
    return f"{hits / total:.3f} [{middle - reach:.3f}, {middle + reach:.3f}] ({total})"


if __name__ == "__main__":
    main()
