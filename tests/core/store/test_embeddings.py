from __future__ import annotations

import resource
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pytest

from merganser.store.catalogue import DriftSample
from merganser.store.database import connect
from merganser.store.embedding_store import EmbeddingStore
from merganser.store.folder import IndexFolder

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
