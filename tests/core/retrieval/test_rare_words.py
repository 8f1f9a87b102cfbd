"""A word that stands in one chunk alone is found by it with what the examples set."""

from __future__ import annotations

import asyncio
import runpy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from merganser.config.load import load_config
from merganser.config.rag_definition import resolve_rag

if TYPE_CHECKING:
    from tests.doubles import FaultyRunner

ROOT = Path(__file__).parents[3]
LEAST, FIRST = 0.97, 10


@pytest.fixture(scope="module")
def bench() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "benchmarks" / "bench_rare_words.py"))


@pytest.mark.parametrize("name", ["shipped", "README"])
def test_a_word_of_one_chunk_is_found_by_real_embeddings_and_words(
    name: str, bench: dict[str, Any], runner: FaultyRunner, tmp_path: Path
):
    source = ROOT / "src" / "merganser" / "chunking"
    config: Path = bench["write_config"](bench["configs"]()[name], source, tmp_path)

    chunks, found = asyncio.run(bench["measure"](config, runner.url, words=150))

    only_forms = [one for one in found if one.only_form]
    assert chunks > FIRST
    assert len(only_forms) > 50
    assert sum(one.among_first for one in only_forms) / len(only_forms) >= LEAST


def test_a_reranker_orders_what_words_have_found_and_loses_none():
    rag = resolve_rag(load_config(ROOT / "configs" / "docs-rerank.yaml"), "docs")

    assert rag.rerank is not None
    found = sum(strategy.limit for strategy in rag.strategies)
    assert found <= rag.rerank.top_k
    assert found <= rag.results.limit <= FIRST
    assert rag.rerank.threshold is None
