"""Snapshots over their life: merged, collected, rolled back, filtered, read with plain SQL."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING

import duckdb
import numpy as np
import pytest

from merganser.chunking import ChunkingOptions
from merganser.errors import NoSnapshotError, StoreError
from merganser.indexing.build import build_snapshot
from merganser.indexing.changes import find_changes
from merganser.indexing.compaction import FEW_SEGMENTS, MAX_SEGMENTS, SegmentState, choose_merges
from merganser.indexing.drift import recognise_model
from merganser.indexing.publishing import publish
from merganser.indexing.shards import embed_shard
from merganser.indexing.workspace import begin_run
from merganser.store.filters import Filter
from merganser.store.folder import IndexFolder
from merganser.store.history import list_runs
from merganser.store.reader import open_snapshot
from merganser.store.snapshots import list_snapshots, rollback
from tests.core.conftest import settle

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from merganser.indexing.shard_plan import Shard
    from merganser.store.catalogue import SegmentRow
    from merganser.store.scans import Similarity
    from tests.core.conftest import Corpus


def test_segments_stay_few_over_many_edits_and_nothing_is_lost(small: Corpus):
    most = 0
    for n in range(2 * FEW_SEGMENTS + 3):
        small.write(f"edit_{n:02d}.txt", f"edit number {n}\n")
        most = max(most, small.index().segments)

    assert most <= FEW_SEGMENTS
    small.change(folder=small.root / ".merganser" / "fresh")
    served = small.rows(small.root / ".merganser" / "code")
    small.index()
    assert small.rows() == served


def test_mostly_dead_segment_is_rewritten(small: Corpus):
    for i in range(5):
        small.remove(f"src/mod_{i:02d}.py")

    report = small.index()

    assert (report.segments, report.merged) == (1, 1)
    with small.open() as snapshot:
        assert [s.row_count for s in snapshot.segments] == [snapshot.chunk_count]


_NOW_NS = 1_800_000_000_000_000_000


@pytest.mark.parametrize(
    ("sizes", "new_rows", "chosen"),
    [
        ([(1_000_000, 1_000_000)], 10_000, set[int]()),
        ([(1_000_000, 900_000), (10_000, 10_000)], 10_000, set[int]()),
        ([(10_000, 7_100)], 0, set[int]()),
        ([(10_000, 6_900)], 0, {0}),
        ([(4_096, 4_095)], 0, {0}),
        ([(1_000_000, 1_000_000), *[(10_000, 10_000)] * 8], 10_000, {1, 2, 3}),
        ([(100, 100)] * 8, 1, set(range(8))),
    ],
)
def test_merges_are_chosen_by_count_and_budget(
    sizes: list[tuple[int, int]], new_rows: int, chosen: set[int]
):
    states = [SegmentState(i, rows, live, _NOW_NS - 1) for i, (rows, live) in enumerate(sizes)]

    assert choose_merges(states, new_rows=new_rows, now_ns=_NOW_NS) == chosen


@pytest.mark.parametrize(
    ("rows", "days", "due"),
    [(50_000, 0.4, False), (50_000, 0.6, True), (3_000_000, 6.9, False), (3_000_000, 7, True)],
)
def test_what_died_in_a_large_segment_goes_after_a_day_for_each_100_000_chunks(
    rows: int, days: float, *, due: bool
):
    state = SegmentState(0, rows, rows - 1, _NOW_NS - int(days * 86_400e9))

    assert choose_merges([state], new_rows=0, now_ns=_NOW_NS) == ({0} if due else set())


def _texts_in(folder: Path, words: bytes) -> list[str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return [path.name for path in files if words in path.read_bytes()]


@pytest.mark.parametrize("how", ["removed", "edited"])
def test_what_is_deleted_is_on_no_disk_when_its_last_snapshot_goes(corpus: Corpus, how: str):
    for n in range(6):
        corpus.write(f"note-{n}.md", f"# Note {n}\n\nNothing to hide in number {n}.\n")
    corpus.write("secret.md", "# Secret\n\nThe password is kumquatmarmalade.\n")
    settle()
    corpus.index()
    assert _texts_in(corpus.folder, b"kumquatmarmalade")
    if how == "removed":
        corpus.remove("secret.md")
    else:
        corpus.write("secret.md", "# Secret\n\nThe password is gone.\n", seconds_ago=30)
    for n in range(3):
        corpus.write("note-0.md", f"# Note 0\n\nAnother text, {n}.\n", seconds_ago=20 - n)
        corpus.index()

    assert len(list_snapshots(corpus.folder)) == 3
    assert _texts_in(corpus.folder, b"kumquatmarmalade") == []


def test_too_many_segments_are_merged_beyond_the_budget():
    states = [SegmentState(i, 100_000, 100_000) for i in range(MAX_SEGMENTS)]

    merged = choose_merges(states, new_rows=1, now_ns=_NOW_NS)

    assert len(states) - len(merged) + 1 <= MAX_SEGMENTS // 2


def test_old_snapshots_and_their_segments_are_collected(small: Corpus):
    for n in range(5):
        small.write("src/mod_00.py", f"x = {n}\n", seconds_ago=30 - n)
        small.index(keep_snapshots=2)

    index = IndexFolder(small.folder)
    needed = {s.segment for g in (5, 6) for s in _segments(small, g)}
    assert index.catalogues_on_disk() == (5, 6)
    assert set(index.segments_on_disk()) == needed
    assert [info.generation for info in list_snapshots(small.folder)] == [6, 5]


def test_fewer_snapshots_are_kept_at_once_without_a_publication(small: Corpus):
    for n in range(3):
        small.write("src/mod_00.py", f"x = {n}\n", seconds_ago=30 - n)
        small.index()
    assert [info.generation for info in list_snapshots(small.folder)] == [4, 3, 2]

    assert small.index(keep_snapshots=2).status == "unchanged"

    index = IndexFolder(small.folder)
    needed = {s.segment for g in (3, 4) for s in _segments(small, g)}
    assert index.catalogues_on_disk() == (3, 4)
    assert set(index.segments_on_disk()) == needed


def test_a_run_that_has_work_and_publishes_nothing_drops_old_snapshots(small: Corpus):
    small.write("src/mod_00.py", "x = 0\n")
    small.index()
    small.write("new.txt", "").write_bytes(b"text\n" * 3000 + b"\x00")

    report = small.index(keep_snapshots=1)

    assert (report.status, report.generation) == ("unchanged", None)
    assert not report.run_id.endswith("-unchanged")
    assert [info.generation for info in list_snapshots(small.folder)] == [report.served]


def _segments(corpus: Corpus, generation: int) -> tuple[SegmentRow, ...]:
    with open_snapshot(corpus.folder, generation=generation) as snapshot:
        return snapshot.segments


def test_rollback_serves_the_former_snapshot_and_the_next_run_builds_on_it(small: Corpus):
    old = small.rows()
    small.write("src/mod_00.py", "x = 1\n", seconds_ago=5)
    small.index()

    assert rollback(small.folder) == 1
    assert small.rows() == old
    report = small.index()
    assert (report.generation, report.changed) == (3, 1)
    assert small.embedded() == ["x = 1\n"]
    assert [info.generation for info in list_snapshots(small.folder)] == [3, 2, 1]


def test_rollback_to_what_is_not_kept_says_what_is(small: Corpus):
    with pytest.raises(NoSnapshotError, match="snapshot 9 is not kept; there are: 1"):
        rollback(small.folder, 9)
    with pytest.raises(NoSnapshotError, match="no earlier snapshot"):
        rollback(small.folder)


def test_filters_are_exact(small: Corpus):
    small.write("docs/guide.md", "# Install\n\nRun it.\n\n# Use\n\nCall it.\n")
    small.index()

    with small.open() as snapshot:
        everything = snapshot.allowed()
        by_path = snapshot.allowed(Filter(paths=("docs/",)))
        by_language = snapshot.allowed(Filter(languages=("Markdown",)))
        nothing = snapshot.allowed(Filter(paths=("docs/",), languages=("python",)))
        found = snapshot.dense_top_k(
            np.ones(8, dtype=np.float32), 50, where=Filter(paths=("*.md",))
        )
        postings = snapshot.postings(["return"], where=Filter(paths=("src/mod_00.py",)))
        paths = {chunk.path for chunk in snapshot.chunks(postings.key.tolist())}

    assert by_path.tolist() == by_language.tolist() == sorted(key for key, _ in found)
    assert 0 < len(by_path) < len(everything)
    assert len(nothing) == 0
    assert paths == {"src/mod_00.py"}


def test_symbols_are_found_whole_within_and_at_the_end(corpus: Corpus):
    corpus.change(chunking=ChunkingOptions(size=120, overlap=0, code_aware=True))
    body = "        return 'a long enough line so that methods stand alone in chunks'\n"
    corpus.write("a.py", f"class Flow:\n    def run(self):\n{body}\n    def stop(self):\n{body}")
    corpus.write("b.py", f"def other():\n{body}")
    corpus.index()

    with corpus.open() as snapshot:
        flow = snapshot.chunks(snapshot.allowed(Filter(symbols=("Flow",))).tolist())
        run = snapshot.chunks(snapshot.allowed(Filter(symbols=("run",))).tolist())
        none = snapshot.allowed(Filter(symbols=("Fl",)))

    assert {chunk.path for chunk in flow} == {"a.py"}
    assert len(flow) == 2
    assert ["def run" in chunk.text for chunk in run] == [True]
    assert len(none) == 0


@pytest.mark.parametrize("similarity", ["cosine_similarity", "dot_product", "euclidean"])
def test_dense_search_in_sql_equals_the_matrix(small: Corpus, similarity: Similarity):
    query = np.arange(8, dtype=np.float32)
    with small.open() as snapshot:
        keys, vectors = small.matrix(snapshot)
        found = snapshot.dense_top_k(query, 5, similarity=similarity)

    scores = {
        "cosine_similarity": vectors @ query / np.linalg.norm(query),
        "dot_product": vectors @ query,
        "euclidean": 1 / (1 + np.linalg.norm(vectors - query, axis=1)),
    }[similarity]
    order = np.lexsort((keys, -scores))[:5]
    assert keys[order].tolist() == [key for key, _ in found]
    np.testing.assert_allclose([score for _, score in found], scores[order], rtol=1e-5)


def test_query_of_another_length_is_refused(small: Corpus):
    with small.open() as snapshot, pytest.raises(StoreError, match="7 dimensions"):
        snapshot.dense_top_k(np.ones(7, dtype=np.float32), 5)


def test_unknown_key_is_an_error(small: Corpus):
    with small.open() as snapshot, pytest.raises(KeyError):
        snapshot.chunks([99 << 32])


def test_meta_names_the_model_and_keeps_its_drift_sample(small: Corpus):
    with small.open() as snapshot:
        drift_sample = snapshot.drift_sample()
        meta = snapshot.meta

    assert drift_sample is not None
    assert drift_sample.vectors.shape == (8, 8)
    assert (meta["embedding"], meta["model_name"], meta["dimensions"]) == (
        "a" * 64,
        "ai/embed",
        "8",
    )


def test_snapshot_is_readable_with_plain_sql(small: Corpus):
    with small.open() as snapshot:
        expected = sorted((c.path, c.start_line) for c in snapshot.file_chunks("src/mod_00.py"))

    connection = duckdb.connect()
    connection.execute(f"ATTACH '{small.folder}/g000001.duckdb' AS g (READ_ONLY)").fetchall()
    connection.execute(f"ATTACH '{small.folder}/s000001.duckdb' AS s1 (READ_ONLY)").fetchall()
    rows = connection.execute(
        "SELECT f.path, c.start_line FROM g.files f JOIN s1.chunks c "
        "ON f.segment = 1 AND f.file_id = c.file_id WHERE f.path = 'src/mod_00.py' ORDER BY ALL"
    ).fetchall()
    connection.close()

    assert expected == rows


def test_history_has_a_row_a_run(small: Corpus):
    small.index()
    small.write("new.txt", "new\n")
    small.index()

    runs = list_runs(IndexFolder(small.folder))

    assert [run.status for run in runs] == ["published", "unchanged", "published"]
    assert [run.generation for run in runs] == [2, None, 1]
    assert runs[0].started.tzinfo is not None
    assert runs[0].started <= runs[0].finished


def test_shards_in_threads_embed_equal_texts_once(corpus: Corpus):
    for i in range(24):
        corpus.write(f"f{i:02d}.txt", f"shared text\n{'x' * 190}\nown text {i}\n" * 3)
    barrier = threading.Barrier(3)

    def wait(texts: Sequence[str]) -> None:
        if barrier.n_waiting < 2 and not barrier.broken:
            with contextlib.suppress(threading.BrokenBarrierError):
                barrier.wait(timeout=0.5)

    model = asyncio.run(recognise_model(corpus.embedder, corpus.definition))
    found = find_changes(corpus.definition, fingerprint=model.fingerprint)
    corpus.embedded()
    corpus.embedder.before = wait
    with begin_run(found, model=model, chunks_per_shard=20) as workspace:
        assert len(workspace.shards) >= 3

        def work(shard: Shard) -> None:
            asyncio.run(embed_shard(workspace, shard, corpus.embedder))

        threads = [threading.Thread(target=work, args=(shard,)) for shard in workspace.shards]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        built = build_snapshot(workspace)
        with built.open() as snapshot:
            assert snapshot.chunk_count == built.report.chunks
        published = publish(workspace, built)

    texts = corpus.embedded()
    assert len(texts) == len(set(texts)) == published.texts_embedded
    corpus.embedder.before = None
    rows = corpus.rows()
    corpus.change(folder=corpus.root / ".merganser" / "fresh")
    corpus.index()
    assert corpus.rows() == rows
