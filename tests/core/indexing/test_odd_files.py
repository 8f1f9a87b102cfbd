"""Files with faults, times from other ages and hidden rewrites: each costs itself alone."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, cast

import duckdb
import pytest

from merganser.chunking import Chunk, chunk_document
from merganser.documents.extracted import Extracted
from merganser.documents.reading import FORMATS, DocumentFormat
from tests.core.conftest import settle

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from tests.core.conftest import Corpus


@pytest.mark.parametrize("stage", ["reader", "chunker", "encoder"])
@pytest.mark.parametrize("fault", [AssertionError("unforeseen"), RecursionError(), MemoryError()])
def test_any_fault_in_one_file_fails_that_file_alone(
    small: Corpus, monkeypatch: pytest.MonkeyPatch, stage: str, fault: Exception
):
    old = small.rows()
    small.write("src/mod_06.py", "poisoned = True\n", seconds_ago=5)
    small.write("src/mod_07.py", "healthy = True\n", seconds_ago=5)

    def poisoned(texts: Iterable[str]) -> None:
        if any("poisoned" in text for text in texts):
            raise fault

    if stage == "reader":

        def read(data: bytes) -> Extracted:
            poisoned([data.decode()])
            return Extracted(data.decode())

        monkeypatch.setitem(cast("dict[str, Any]", FORMATS), "python", DocumentFormat(read))
    elif stage == "chunker":

        def split(text: str, **options: Any) -> list[Chunk]:
            poisoned([text])
            return chunk_document(text, **options)

        monkeypatch.setattr("merganser.indexing.shards.chunk_document", split)
    else:
        embed = small.embedder.embed_documents

        async def encode(texts: Sequence[str], **options: Any) -> Any:
            poisoned(texts)
            return await embed(texts, **options)

        monkeypatch.setattr(small.embedder, "embed_documents", encode)

    report = small.index()

    assert report.status == "degraded"
    assert [f.path for f in report.failed] == ["src/mod_06.py"]
    assert type(fault).__name__ in report.failed[0].detail
    kept = [row for row in small.rows() if "src/mod_06.py" in row]
    assert kept == [row for row in old if "src/mod_06.py" in row]
    with small.open() as snapshot:
        assert len(snapshot.file_chunks("src/mod_07.py")) == 1


@pytest.mark.parametrize("year", [1601, 2300, 2440])
def test_a_file_from_another_age_is_indexed_and_found_again(corpus: Corpus, year: int):
    file = corpus.write("a.txt", "some text\n")
    then = (year - 1970) * 31_556_952
    os.utime(file, (then, then))
    settle()

    first, second = corpus.index(), corpus.index()

    assert (first.files, second.status, second.unchanged) == (1, "unchanged", 1)
    file.write_text("text anew\n")
    os.utime(file, (then, then))
    assert corpus.index().changed == 1


def test_a_rewrite_that_keeps_size_time_and_inode_is_seen_by_the_change_time(small: Corpus):
    file = small.root / "src/mod_04.py"
    before = file.stat()
    file.write_text(file.read_text().replace("return", "yields"))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = file.stat()
    assert (after.st_size, after.st_mtime_ns, after.st_ino) == (
        before.st_size,
        before.st_mtime_ns,
        before.st_ino,
    )

    assert small.index().changed == 1


def _refuse_to_read(path: Path) -> str:
    pytest.fail(f"{path} was read")


def test_an_index_without_change_times_learns_them_and_reads_nothing(
    small: Corpus, monkeypatch: pytest.MonkeyPatch
):
    with duckdb.connect(small.folder / "g000001.duckdb") as connection:
        connection.execute("ALTER TABLE files DROP COLUMN ctime_ns")
    with monkeypatch.context() as patch:
        patch.setattr("merganser.indexing.changes.hash_file", _refuse_to_read)
        assert [small.index().status for _ in range(2)] == ["unchanged"] * 2

    file = small.root / "src/mod_04.py"
    before = file.stat()
    file.write_text(file.read_text().replace("return", "yields"))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))

    assert small.index().changed == 1
    with small.open() as snapshot:
        assert all(row.ctime_ns for row in snapshot.files())
