"""Foreign files, two writers, dead runs, full disks: the served snapshot stays what it was."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from merganser.chunking import ChunkingOptions
from merganser.errors import (
    DamagedIndexError,
    NoSnapshotError,
    ProtocolError,
    RequestRejectedError,
    RunnerUnavailableError,
    StoreError,
    StoreFormatError,
)
from merganser.indexing.changes import find_changes
from merganser.indexing.workspace import begin_run, require_space
from merganser.store.folder import IndexFolder
from merganser.store.history import list_runs
from merganser.store.reader import open_snapshot
from merganser.store.snapshots import list_snapshots, rollback

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.core.conftest import Corpus


def test_readers_in_other_processes_never_fail_or_see_a_mix(small: Corpus):
    reader = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from merganser.store.reader import open_snapshot\n"
        "seen, stop = set(), time.monotonic() + float(sys.argv[2])\n"
        "print('ready', flush=True)\n"
        "while time.monotonic() < stop:\n"
        "    with open_snapshot(Path(sys.argv[1])) as s:\n"
        "        texts = {c.text for p in ('one.txt', 'two.txt') for c in s.file_chunks(p)}\n"
        "        assert len(texts) == 1, texts\n"
        "        seen.add(s.generation)\n"
        "print(len(seen))\n"
    )
    for name in ("one.txt", "two.txt"):
        small.write(name, "version 0\n")
    small.index()
    with subprocess.Popen(
        [sys.executable, "-c", reader, str(small.folder), "6"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        process.stdout.readline()
        for version in range(1, 7):
            for name in ("one.txt", "two.txt"):
                small.write(name, f"version {version}\n", seconds_ago=100 - version)
            small.index(keep_snapshots=1)
        out, errors = process.communicate(timeout=60)

    assert process.returncode == 0, errors
    assert int(out) >= 2


def test_open_snapshot_outlives_its_files(small: Corpus):
    old = small.rows()
    with open_snapshot(small.folder) as snapshot:
        for version in range(3):
            small.write("src/mod_00.py", f"x = {version}\n", seconds_ago=10 - version)
            small.index(full=True, keep_snapshots=1)

        assert not (small.folder / "s000001.duckdb").exists()
        assert len(snapshot.file_chunks("src/mod_00.py")) > 1
    assert small.rows() != old


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"SQLite format 3\x00" + b"\x00" * 100, "an SQLite database"),
        (b"hello", "a file of another kind"),
    ],
)
def test_foreign_file_is_refused_and_left_alone(corpus: Corpus, content: bytes, what: str):
    corpus.write("a.txt", "text\n")
    path = corpus.root / "code.db"
    path.write_bytes(content)
    corpus.change(folder=path)

    with pytest.raises(StoreFormatError, match=what):
        corpus.index()
    assert path.read_bytes() == content


def test_foreign_folder_is_refused(corpus: Corpus):
    corpus.write("a.txt", "text\n")
    corpus.write("other/notes.md", "mine\n")
    corpus.change(folder=corpus.root / "other", docs=("a.txt",))

    with pytest.raises(StoreFormatError, match=r"not of an index \('notes\.md'\)"):
        corpus.index()


def test_newer_format_is_refused(small: Corpus):
    path = small.folder / "CURRENT"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 99}))

    with pytest.raises(StoreFormatError, match=r"format 99.*upgrade merganser"):
        small.index()
    with pytest.raises(StoreFormatError, match="format 99"):
        small.open()


@pytest.mark.parametrize("text", ["", "g000001", '{"format": 1}', "\x00\x00"])
def test_damaged_current_says_what_to_do_and_rollback_repairs_it(small: Corpus, text: str):
    old = small.rows()
    (small.folder / "CURRENT").write_text(text)

    with pytest.raises(StoreError, match=r"is damaged.*snapshots on disk: 1.*rollback"):
        small.index()
    assert rollback(small.folder, 1) == 1
    assert small.rows() == old


def test_damaged_catalogue_says_what_to_do_and_full_repairs_it(small: Corpus):
    old = small.rows()
    path = small.folder / "g000001.duckdb"
    path.write_bytes(b"garbage" * 1000)

    with pytest.raises(DamagedIndexError, match=r"g000001.*merganser repair FILE"):
        small.index()
    small.index(full=True)
    assert small.rows() == old


def test_missing_segment_is_named(small: Corpus):
    (small.folder / "s000001.duckdb").unlink()

    with pytest.raises(StoreError, match=r"s000001\.duckdb.* is missing from the index"):
        small.open()


def test_nothing_indexed_yet(corpus: Corpus):
    with pytest.raises(NoSnapshotError, match="run `merganser index`"):
        corpus.open()
    assert list_snapshots(corpus.folder) == ()


def test_server_that_dies_costs_nothing_that_was_paid_for(corpus: Corpus):
    for i in range(600):
        corpus.write(f"f{i}.txt", f"text number {i} " * 10)

    def die(texts: Sequence[str]) -> None:
        if len(corpus.embedder.texts) > 200:
            raise RunnerUnavailableError("503")

    corpus.embedder.before = die
    with pytest.raises(RunnerUnavailableError):
        corpus.index()
    first = set(corpus.embedded())
    assert IndexFolder(corpus.folder).read_current() is None
    assert list_runs(IndexFolder(corpus.folder))[0].error == "503"

    corpus.embedder.before = None
    corpus.index()

    second = set(corpus.embedded())
    assert not first & second
    assert len(first | second) == 600


def test_text_that_the_server_refuses_fails_its_file_alone(small: Corpus):
    small.write("bad.txt", "poison\n")
    small.write("good.txt", "medicine\n")

    def refuse(texts: Sequence[str]) -> None:
        if "poison\n" in texts:
            raise RequestRejectedError("cannot embed this", status=400)

    small.embedder.before = refuse
    report = small.index()

    assert report.status == "degraded"
    assert [(f.path, f.detail) for f in report.failed] == [("bad.txt", "cannot embed this")]
    with small.open() as snapshot:
        assert snapshot.file_chunks("good.txt")


def test_a_file_that_fails_under_another_chunking_is_tried_again(small: Corpus):
    small.write("hard.txt", "one two three. " * 40)
    small.index()

    def refuse(texts: Sequence[str]) -> None:
        if any("three" in text for text in texts):
            raise RequestRejectedError("cannot embed this", status=400)

    small.change(chunking=ChunkingOptions(size=150, overlap=0))
    small.embedder.before = refuse
    degraded = small.index()
    with small.open() as snapshot:
        kept = snapshot.file_chunks("hard.txt")
    small.embedder.before = None
    mended = small.index()

    assert [file.path for file in degraded.failed] == ["hard.txt"]
    assert kept, "the old version stays"
    assert (mended.status, mended.changed) == ("published", 1)
    with small.open() as snapshot:
        assert all(len(chunk.text) <= 150 for chunk in snapshot.file_chunks("hard.txt"))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_unusable_vectors_never_get_in(small: Corpus, bad: float, monkeypatch: pytest.MonkeyPatch):
    small.write("new.txt", "new\n")

    async def embed(texts: Sequence[str]) -> Any:
        return np.full((len(texts), 8), bad, dtype=np.float32)

    monkeypatch.setattr(small.embedder, "embed_documents", embed)

    with pytest.raises(ProtocolError, match="NaN or infinity"):
        small.index()
    assert small.open().generation == 1


def test_full_disk_leaves_the_served_snapshot(small: Corpus):
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    disk = small.root / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=80m", "tmpfs", str(disk)], check=False
    )
    if mounted.returncode:
        pytest.skip("this system allows no mount")
    try:
        small.change(folder=disk / "index")
        small.index()
        for i in range(100):
            noise = random.Random(i)  # noqa: S311 - incompressible text, no secret
            words = ("".join(noise.choices("abcdefghij", k=40)) for _ in range(1200))
            small.write(f"big_{i}.txt", " ".join(words))
        with pytest.raises(StoreError, match="MB are needed on the disk"):
            small.index()
        with small.open() as snapshot:
            assert len(snapshot.files()) == 12
    finally:
        subprocess.run(["umount", str(disk)], check=False)


def test_the_space_that_is_missing_is_told_with_the_reserve(
    small: Corpus, monkeypatch: pytest.MonkeyPatch
):
    usage = shutil.disk_usage(small.root)._replace(free=63_000_000)

    def disk_usage(_path: object) -> object:
        return usage

    monkeypatch.setattr("merganser.indexing.workspace.shutil.disk_usage", disk_usage)

    with pytest.raises(StoreError) as caught:
        require_space(IndexFolder(small.root), 100_000)

    assert "67.2 MB are needed" in str(caught.value)
    assert "about 0.1 MB for the index and a reserve of 67.1 MB" in str(caught.value)
    assert "63.0 MB are free" in str(caught.value)


@pytest.mark.parametrize("room", [0, 200_000, 800_000])
def test_disk_that_fills_while_texts_are_embedded(small: Corpus, room: int):
    """With less and less room the journal, the chunks of a shard and the build meet the end."""
    if os.geteuid() != 0:
        pytest.skip("a disk of its own needs root")
    disk = small.root / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=96m", "tmpfs", str(disk)]
    if subprocess.run(command, check=False).returncode:
        pytest.skip("this system allows no mount")
    filler = disk / "filler"

    def fill(_: Sequence[str]) -> None:
        if not filler.exists():
            with filler.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(disk).free - room)

    try:
        small.change(folder=disk / "index", docs=("src",))
        small.index()
        old = small.rows()
        for i in range(40):
            lines = (f"def new_{i}_{n}(y):\n    return y * {n}\n" for n in range(60))
            small.write(f"src/new_{i}.py", "\n".join(lines))
        small.embedder.before = fill

        with pytest.raises(StoreError, match=r"No space left on device|disk"):
            small.index()

        assert filler.exists()
        assert small.rows() == old
        small.embedder.before = None
        filler.unlink()
        assert (small.index().added, len(list_snapshots(small.folder))) == (40, 2)
    finally:
        subprocess.run(["umount", str(disk)], check=False)


def test_disk_that_fills_during_the_build_publishes_nothing(
    small: Corpus, monkeypatch: pytest.MonkeyPatch
):
    old = small.rows()
    small.write("new.txt", "new\n")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("merganser.indexing.build.write_catalogue", full)

    with pytest.raises(StoreError, match="No space left on device"):
        small.index()
    monkeypatch.undo()
    assert small.rows() == old
    assert small.index().added == 1


def test_folder_that_cannot_be_written_is_named(corpus: Corpus):
    if os.geteuid() != 0:
        pytest.skip("a read-only mount needs root")
    corpus.write("a.txt", "text\n")
    disk = corpus.root / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m,ro", "tmpfs", str(disk)]
    if subprocess.run(command, check=False).returncode:
        pytest.skip("this system allows no mount")
    try:
        corpus.change(folder=disk / "index", docs=("a.txt",))
        with pytest.raises(StoreError, match="cannot write to the index folder"):
            corpus.index()
    finally:
        subprocess.run(["umount", str(disk)], check=False)


def test_run_that_was_overtaken_looks_again(small: Corpus):
    small.write("new.txt", "new\n")
    found = find_changes(small.definition, fingerprint=small.embedder.fingerprint)
    small.index()

    import asyncio

    from merganser.indexing.drift import recognise_model

    model = asyncio.run(recognise_model(small.embedder, small.definition))
    with begin_run(found, model=model) as workspace:
        assert workspace.changes.base_generation == 2
        assert not workspace.changes.has_work
