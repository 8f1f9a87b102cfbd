"""A model server that fails in the middle of a run: real engine, real weights, injected faults."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from merganser.embedding.embedder import Embedder
from merganser.errors import MerganserError
from merganser.indexing.drift import DRIFT_TEXTS
from merganser.indexing.run import index_once_async
from merganser.models.client import ModelRunner
from merganser.models.retry import NO_RETRY
from merganser.models.wire import Timeouts
from merganser.store.folder import IndexFolder
from merganser.store.history import list_runs
from tests.doubles import Fault

if TYPE_CHECKING:
    from merganser.indexing.run_report import IndexReport
    from tests.core.conftest import Corpus
    from tests.doubles import FaultyRunner

MODEL = "ai/all-minilm"
FAULTS: dict[str, dict[str, Any]] = {
    "429": {"kind": "status", "status": 429},
    # A lone 500 is taken for one text's fault, and its shard is done file by file.
    "500": {"kind": "status", "status": 500, "times": None},
    "503": {"kind": "status", "status": 503},
    "dies": {"kind": "engine-death"},
    "hangs": {"kind": "hang"},
    "garbage": {"kind": "garbage"},
    "cut off": {"kind": "cut", "after_bytes": 100},
    "wrong dimensions": {"kind": "wrong-dimension", "dimensions": 8},
    "NaN": {"kind": "nan"},
}


def index(corpus: Corpus, runner: FaultyRunner, *, patience: float = 60) -> IndexReport:
    async def run() -> IndexReport:
        timeouts = Timeouts(load=patience, inference=patience)
        async with ModelRunner(runner.url, retry=NO_RETRY, timeouts=timeouts, env={}) as client:
            served = await client.model(MODEL)
            assert served is not None
            assert corpus.definition.embedding is not None
            model = corpus.definition.embedding.model
            embedder = Embedder(client, model, served, dimensions=None)
            return await index_once_async(corpus.definition, embedder)

    return asyncio.run(run())


@pytest.fixture
def served(corpus: Corpus, runner: FaultyRunner) -> Corpus:
    """A corpus with a published snapshot, and twenty more files since then."""
    from dataclasses import replace

    embedding = corpus.definition.embedding
    assert embedding is not None
    model = replace(embedding.model, name=MODEL, model=MODEL)
    corpus.change(embedding=replace(embedding, model=model))
    corpus.write("old.txt", "an old text about ducks\n")
    index(corpus, runner)
    for i in range(20):
        corpus.write(f"new_{i}.txt", f"file {i} tells of retries, queues and the number {i}\n" * 12)
    return corpus


@pytest.mark.parametrize("name", FAULTS)
def test_a_run_fails_truly_and_the_next_one_finishes_it(
    served: Corpus, runner: FaultyRunner, name: str
):
    old = served.rows()
    # The drift texts are answered before; how texts fall into requests depends on the pace.
    fault = Fault(route="embeddings", skip=len(DRIFT_TEXTS), **FAULTS[name])
    runner.faults.inject(fault)

    with pytest.raises(MerganserError):
        index(served, runner, patience=2 if name == "hangs" else 60)

    folder = IndexFolder(served.folder)
    runner.faults.clear()
    assert served.rows() == old
    assert list_runs(folder)[0].status == "failed"
    assert index(served, runner).status == "published"
    finished = served.rows()
    served.change(folder=served.root / ".merganser" / "fresh")
    index(served, runner)
    assert served.rows() == finished
