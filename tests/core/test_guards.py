"""Orders of commits, boundaries and reasons that no other test holds.

``make mutants`` undoes the line of code behind each of these tests and sees the test fail.
"""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest

from merganser.batch.journal import AnswerJournal, earlier_rows
from merganser.batch.questions import Question
from merganser.batch.selection import select_questions
from merganser.config.flow_definition import DataTable
from merganser.config.spec_evaluation import Metric, ThresholdSpec
from merganser.embedding.embedder import Embedder
from merganser.embedding.service import EmbedService
from merganser.errors import InputTooLongError, RunnerUnavailableError, StoreError
from merganser.evaluation.assess import Baseline, check_thresholds
from merganser.evaluation.rag_evaluation import Evaluation, Figure
from merganser.indexing.changes import find_changes
from merganser.indexing.drift import DRIFT_TEXTS, LEAST_CLOSENESS, recognise_model
from merganser.indexing.shard_plan import chunks_path, load_result
from merganser.indexing.workspace import begin_run
from merganser.models.ref import ModelRef
from merganser.models.retry import RetryPolicy, with_retries
from merganser.models.wire import ServedModel
from merganser.remote.sharing import receive_shard, share_run
from merganser.remote.worker import embed_remote_shard
from merganser.retrieval.bm25 import TermList, TermLists, Weighing, score_chunks

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from tests.core.conftest import Corpus, HashEmbedder


# -- what an index is made with -------------------------------------------------------------------


@pytest.mark.parametrize("changed", ["query", "document"])
def test_another_prefix_is_another_embedder(changed: str):
    runner: Any = SimpleNamespace(address=SimpleNamespace(shown="here"))
    model = ModelRef(name="embed", provider="dmr", model="ai/embed")
    served = ServedModel("ai/embed", "ai/embed", "sha256:1")
    embedder = Embedder(runner, model, served, dimensions=None)
    before = embedder.fingerprint

    embedder.prompts = replace(embedder.prompts, **{changed: "passage: "})

    assert embedder.fingerprint != before


def test_a_file_replaced_by_one_of_its_size_and_time_is_read(small: Corpus):
    file = small.root / "src/mod_04.py"
    status = file.stat()
    other = small.root / "other"
    other.write_bytes(file.read_bytes().replace(b"return", b"yields"))
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(file)
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (status.st_size, status.st_mtime_ns)

    assert small.index().changed == 1


def test_another_tokeniser_indexes_everything_again(small: Corpus, monkeypatch: pytest.MonkeyPatch):
    for module in list(sys.modules.values()):
        if module.__name__.startswith("merganser.") and hasattr(module, "TOKENISER_VERSION"):
            monkeypatch.setattr(module, "TOKENISER_VERSION", 1_000)

    report = small.index()

    assert report.reasons == ("the tokeniser changed",)
    assert report.changed == report.files == 12
    assert small.embedded() == []


class AlmostSame:
    """An embedder whose model changed for the last drift text alone, by a few degrees."""

    def __init__(self, embedder: HashEmbedder) -> None:
        self.fingerprint = embedder.fingerprint
        self.embedder = embedder
        # The mean of all drift texts stays above the limit, the least falls below it.
        self.cosine = 1 - (1 - LEAST_CLOSENESS) * len(DRIFT_TEXTS) / 2

    async def embed_documents(
        self, texts: Sequence[str], *, on_vectors: object = None
    ) -> NDArray[np.float32]:
        del on_vectors  # all come at the end
        vectors = await self.embedder.embed_documents(texts)
        for row, text in enumerate(texts):
            if text == DRIFT_TEXTS[-1]:
                vector = vectors[row]
                across = np.roll(vector, 1)
                across -= (across @ vector) * vector
                across /= np.linalg.norm(across)
                vectors[row] = self.cosine * vector + np.sqrt(1 - self.cosine**2) * across
        return vectors


def test_a_model_that_changed_for_one_kind_of_text_is_another_model(small: Corpus):
    before = asyncio.run(recognise_model(small.embedder, small.definition))

    after = asyncio.run(recognise_model(AlmostSame(small.embedder), small.definition))

    assert before.fingerprint == small.embedder.fingerprint
    assert after.fingerprint.startswith(f"{before.fingerprint}+")


def test_every_file_with_a_text_that_cannot_be_embedded_fails(small: Corpus):
    def refuse(texts: Sequence[str]) -> None:
        if any("poison" in text for text in texts):
            raise InputTooLongError("too long")

    small.embedder.before = refuse
    for path in ("a.txt", "b.txt"):
        small.write(path, "a text of poison\n")
    small.write("good.txt", "a good text\n")

    report = small.index()

    assert [(one.path, one.reason) for one in report.failed] == [
        ("a.txt", "embedding"),
        ("b.txt", "embedding"),
    ]
    with small.open() as snapshot:
        paths = {file.path for file in snapshot.files()}
    assert {"a.txt", "b.txt", "good.txt"} & paths == {"good.txt"}


# -- what is written last -------------------------------------------------------------------------


def service_of(corpus: Corpus) -> Callable[[], EmbedService]:
    @asynccontextmanager
    async def opened() -> AsyncGenerator[Embedder]:
        async def embed_documents(
            texts: Sequence[str], *, on_vectors: Callable[[Sequence[int], Any], None]
        ) -> NDArray[np.float32]:
            vectors = await corpus.embedder.embed_documents(texts)
            on_vectors(range(len(texts)), vectors)
            return vectors

        yield cast("Embedder", SimpleNamespace(embed_documents=embed_documents))

    return lambda: EmbedService(opened)


def test_a_received_shard_is_done_only_when_its_chunks_are_there(corpus: Corpus):
    corpus.write("a.txt", "some text\n")
    corpus.change(shards=str(corpus.root / ".merganser" / "shared"))
    model = asyncio.run(recognise_model(corpus.embedder, corpus.definition))
    found = find_changes(corpus.definition, fingerprint=model.fingerprint)
    with begin_run(found, model=model) as workspace:
        run = share_run(workspace)
        shard = workspace.shards[0]
        receipt, _ = asyncio.run(embed_remote_shard(run, shard, service_of(corpus)))
        chunks = chunks_path(workspace, shard.number)
        chunks.mkdir()  # no file can take its place, as on a disk that fails

        with pytest.raises(OSError, match=chunks.name):
            receive_shard(workspace, receipt)

        assert load_result(workspace, shard.number) is None


def test_answers_stay_in_the_partial_file_until_the_table_is_written(tmp_path: Path):
    output = tmp_path / "answers.jsonl"
    batch = select_questions(
        (Question("1", "Why?", 1),), [], config="c", snapshot="s", selection=None, shard_questions=1
    )
    row = {"id": "1", "key": batch.keys["1"], "outcome": "answered", "answer": "kept"}

    def answer_on_a_disk_that_fails() -> None:
        with AnswerJournal(DataTable(output), batch) as journal:
            journal.add(row)
            output.mkdir()  # no file can take its place

    with pytest.raises(StoreError, match=output.name):
        answer_on_a_disk_that_fails()
    output.rmdir()

    assert [one["answer"] for one in earlier_rows(DataTable(output))] == ["kept"]


# -- boundaries -----------------------------------------------------------------------------------


@pytest.mark.parametrize("k1", [0.5, 1.5, 3.0])
def test_a_chunk_full_of_a_frequent_word_outweighs_a_rare_one(k1: float):
    # One chunk holds the rare word once, another the frequent word 200 times: what the frequent
    # word can add at most, idf · (k1 + 1), decides whether that chunk is looked at.
    chunks = 1000
    weighing = Weighing(chunks, chunks * 200, k1=k1, b=0.0)
    rare = TermList(np.array([0], np.int32), np.array([1], np.uint8), 1)
    rarest = float(weighing.idf([rare])[0])
    frequency = round(chunks / np.exp(rarest / (k1 + 0.5)))
    frequent = TermList(
        np.arange(1, frequency + 1, dtype=np.int32),
        np.array([200] + [1] * (frequency - 1), np.uint8),
        frequency,
    )
    lengths = np.full(frequency + 1, 200, np.int32)
    found = TermLists(np.arange(frequency + 1, dtype=np.int64), lengths, (rare, frequent))

    assert score_chunks(found, weighing, limit=1).keys.tolist() == [1]


@pytest.mark.parametrize(
    ("before", "now", "max_drop", "passes"),
    [
        (1.0, 0.5, 0.5, True),
        (0.9, 0.8, 0.1, True),
        (1.0, 0.5, 0.49, False),
        # A difference of rounding is no fall.
        (1e-9, 0.0, 0.0, True),
        (1e-8, 0.0, 0.0, False),
    ],
)
def test_a_figure_may_fall_by_exactly_what_is_allowed(
    before: float,
    now: float,
    max_drop: float,
    passes: bool,  # noqa: FBT001 - pytest passes it by name
):
    recall = Metric("recall", 5)
    evaluation = Evaluation(
        rag="code",
        queries=cast("Any", None),
        figures=(Figure(recall, now, now, now),),
        results=(),
        snapshots={},
        runs={},
        started=datetime.now(UTC),
        seconds=0.0,
    )

    found = check_thresholds(
        evaluation,
        [ThresholdSpec(metric=recall, max_drop=max_drop)],
        Baseline("the served snapshot 1", {"recall@5": before}),
    )

    assert found.passed is passes


@pytest.mark.parametrize(("seconds", "attempts"), [(9.0, 3), (11.0, 1)])
async def test_an_attempt_that_took_long_to_fail_is_not_repeated(
    monkeypatch: pytest.MonkeyPatch, seconds: float, attempts: int
):
    clock = count(0.0, seconds)
    monkeypatch.setattr(sys.modules[with_retries.__module__], "monotonic", lambda: next(clock))
    tried = 0

    async def fail() -> None:
        nonlocal tried
        tried += 1
        raise RunnerUnavailableError("loading")

    with pytest.raises(RunnerUnavailableError):
        await with_retries(fail, RetryPolicy(attempts=3, first_seconds=0.001))

    assert tried == attempts
