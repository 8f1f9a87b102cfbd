"""Ctrl-C in the middle of embedding: a clean end, and the next run does only what is missing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from merganser.indexing.shard_plan import CHUNKS_PER_SHARD
from merganser.store.folder import IndexFolder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.doubles import FaultyRunner
    from tests.e2e.conftest import Ran

CONFIG = """\
rag:
  notes:
    docs: [./notes]
    strategies:
      - type: chunked-embeddings
        embedding_model: dmr/ai/all-minilm
        database: ./index
        chunking: {size: 200, overlap: 0}
flows:
  notes: {type: index, rag: notes, concurrency: 1}
"""
FILES = 3 * 2 * CHUNKS_PER_SHARD  # three full shards: the plan takes such a note for half a chunk


def test_an_interrupted_run_ends_cleanly_and_is_resumed(
    merganser: Callable[..., Ran],
    command_environment: dict[str, str],
    runner: FaultyRunner,
    tmp_path: Path,
) -> None:
    (tmp_path / "notes.yaml").write_text(CONFIG)
    (tmp_path / "notes").mkdir()
    for i in range(FILES):
        (tmp_path / "notes" / f"{i:04d}.txt").write_text(f"note {i} on the number {i * i}\n")
    before = runner.counters.texts_embedded
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "merganser", "index", "notes.yaml"],
        cwd=tmp_path,
        env={**os.environ, **command_environment},
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
    ) as process:
        while process.poll() is None and not list(tmp_path.glob("index/**/*.npz")):
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)

    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert "interrupted" in err
    assert IndexFolder(tmp_path / "index").read_current() is None
    assert list(tmp_path.glob("index/build/*")) == []

    done = merganser("index", "notes.yaml", "--json", cwd=tmp_path)

    assert done.code == 0, done.err
    report = done.json["indexes"][0]
    assert (report["status"], report["files"]) == ("published", FILES)
    # Whichever shard was first to be done, it was a full one.
    assert report["texts_reused"] >= 2 * CHUNKS_PER_SHARD
    # One shard was under way; the drift texts were asked twice.
    asked = runner.counters.texts_embedded - before
    assert asked <= FILES + 2 * CHUNKS_PER_SHARD + 100
