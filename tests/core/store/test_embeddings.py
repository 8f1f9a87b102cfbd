from __future__ import annotations

import resource
import shutil
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pytest

from merganser.store.catalogue import DriftSample
from merganser.store.database import connect
from merganser.store.embedding_store import EmbeddingStore
from merganser.store.folder import IndexFolder
from merganser.store.journals import read_journal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def short_disk() -> Iterator[None]:
    """Let no file grow beyond 16 kB: the system takes the first part of a write and no more."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16_384, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("short_disk")
def test_a_journal_that_is_cut_short_is_an_error_and_gets_no_name(tmp_path: Path):
    drift_sample = DriftSample(("a",), np.ones((1, 4), dtype=np.float32))
    store = EmbeddingStore(
        IndexFolder(tmp_path),
        "f" * 64,
        (),
        connect=partial(connect, tmp_path),
        drift_sample=drift_sample,
    )
    hashes = np.arange(200, dtype=np.uint64).reshape(-1, 2)

    with pytest.raises(OSError, match="too large"):
        store.commit("run-0", hashes, np.ones((100, 384), dtype=np.float32))

    assert list(store.journal_folder.glob("*.npz")) == []
    assert not store.has(hashes).any()


def _store(folder: Path, fingerprint: str) -> EmbeddingStore:
    return EmbeddingStore(
        IndexFolder(folder),
        fingerprint,
        (),
        connect=partial(connect, folder),
        drift_sample=DriftSample(("a",), np.ones((1, 4), dtype=np.float32)),
    )


def test_a_journal_of_another_model_is_never_read(tmp_path: Path):
    hashes = np.arange(8, dtype=np.uint64).reshape(-1, 2)
    one, other = _store(tmp_path, "a" * 64), _store(tmp_path, "b" * 64)
    foreign = one.commit("run-0", hashes, np.ones((4, 4), dtype=np.float32))
    other.commit("run-0", hashes[:1], np.ones((1, 4), dtype=np.float32))
    shutil.copy(foreign, other.journal_folder / "run-1.npz")

    again = _store(tmp_path, "b" * 64)

    assert again.has(hashes).tolist() == [True, False, False, False]


def test_a_journal_with_any_byte_flipped_is_none(tmp_path: Path):
    hashes = np.arange(8, dtype=np.uint64).reshape(-1, 2)
    path = _store(tmp_path, "a" * 64).commit("run-0", hashes, np.ones((4, 4), dtype=np.float32))
    whole = path.read_bytes()
    expected = read_journal(path)
    assert expected is not None

    for at in range(0, len(whole), 7):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
        found = read_journal(path)
        assert found is None or (
            np.array_equal(found.vectors, expected.vectors)
            and np.array_equal(found.hashes, expected.hashes)
        )


@pytest.mark.parametrize("cut", [0, 1, 30])
def test_vectors_that_were_written_down_and_not_committed_are_taken_in(tmp_path: Path, cut: int):
    hashes = np.arange(12, dtype=np.uint64).reshape(-1, 2)
    vectors = np.arange(24, dtype=np.float32).reshape(-1, 4)
    dead = _store(tmp_path, "a" * 64)
    for begin in (0, 2, 4):
        dead.keep("run-0", hashes[begin : begin + 2], vectors[begin : begin + 2])
    (path,) = dead.journal_folder.glob("*.partial")
    path.write_bytes(path.read_bytes()[: path.stat().st_size - cut])

    store = _store(tmp_path, "a" * 64)
    store.recover()

    whole = 6 if not cut else 4
    assert store.has(hashes).tolist() == [True] * whole + [False] * (6 - whole)
    np.testing.assert_array_equal(store.fetch(hashes[:whole]), vectors[:whole])
    assert [one.suffix for one in store.journal_folder.glob("run*")] == [".npz"]


def test_what_another_model_wrote_down_is_not_taken_in(tmp_path: Path):
    hashes = np.arange(4, dtype=np.uint64).reshape(-1, 2)
    one, other = _store(tmp_path, "a" * 64), _store(tmp_path, "b" * 64)
    for store in (one, other):
        store.keep("run-0", hashes, np.ones((2, 4), dtype=np.float32))
    (foreign,) = one.journal_folder.glob("*.partial")
    shutil.copy(foreign, other.journal_folder / foreign.name)

    again = _store(tmp_path, "b" * 64)
    again.recover()

    assert not again.has(hashes).any()


def test_what_is_taken_in_never_replaces_the_whole_journal_of_that_name(tmp_path: Path):
    """A late answer, or a power cut, leaves a partial journal beside the one that was committed."""
    hashes = np.arange(12, dtype=np.uint64).reshape(-1, 2)
    vectors = np.arange(24, dtype=np.float32).reshape(-1, 4)
    dead = _store(tmp_path, "a" * 64)
    dead.commit("run-0", hashes[:5], vectors[:5])
    dead.keep("run-0", hashes[4:], vectors[4:])

    store = _store(tmp_path, "a" * 64)
    store.recover()

    for again in (store, _store(tmp_path, "a" * 64)):
        np.testing.assert_array_equal(again.fetch(hashes), vectors)
