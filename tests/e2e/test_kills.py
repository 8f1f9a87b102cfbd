"""Index runs that are killed: nothing is embedded twice, readers see nothing, Prefect learns it."""

from __future__ import annotations

import itertools
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pytest

from merganser.indexing.shard_plan import CHUNKS_PER_SHARD
from merganser.services.supervisor import merganser_home
from merganser.store.reader import open_snapshot
from merganser.store.resident import ResidentTables

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from tests.doubles import FaultyRunner

    from .conftest import History, Ran

pytestmark = [pytest.mark.timeout(600), pytest.mark.slow]

WORKERS = 2
SHARDS = 8
SIZE = 40
LEAST_PERCENT = 30
FILES_PER_SHARD = 8
CONFIG = f"""\
rag:
  logs:
    docs: [./src]
    strategies:
      - type: chunked-embeddings
        embedding_model: dmr/ai/all-minilm
        chunking: {{size: {SIZE}, overlap: 0}}
flows:
  NAME: {{type: index, rag: logs, concurrency: {WORKERS}}}
"""
WORDS = ["red", "blue", "green", "black", "white", "gold", "dark", "light", "warm", "cold", "far"]

READER = """
import sys, time
from pathlib import Path
from merganser.store.reader import open_snapshot
from merganser.store.resident import ResidentTables

folder, stop = map(Path, sys.argv[1:])
reads = 0
while not stop.exists() or not reads:
    with open_snapshot(folder) as snapshot:
        tables = ResidentTables(snapshot)
        chunks = snapshot.chunks(tables.keys.tolist())
        _, vectors = tables.matrix()
        assert len(chunks) == snapshot.chunk_count == len(vectors), "a mixed snapshot"
        assert all(snapshot.file_chunks(file.path) for file in snapshot.files()), "lost chunks"
        print(snapshot.generation, len(chunks), flush=True)
    reads += 1
    time.sleep(0.1)
"""


def write_sources(folder: Path, files: int) -> None:
    """Write files of equal size whose lines are all different; a few tokens each."""
    folder.mkdir(exist_ok=True)
    size = CHUNKS_PER_SHARD * SIZE * 6 // 10 // FILES_PER_SHARD
    words = itertools.cycle(itertools.product(WORDS, repeat=3))
    for number in range(files):
        lines = (f"{number} {' '.join(next(words))}." for _ in itertools.count())
        text = ""
        while len(text) + 30 < size:
            text += f"{next(lines)}\n"
        (folder / f"log{number:03d}.txt").write_text(text.ljust(size - 1, ".") + "\n")


@pytest.fixture(scope="module")
def served(merganser: Callable[..., Ran], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a published index of its first file, and many more files to come."""
    # A folder of its own: the copies stand beside it, and other tests may use their names.
    folder = tmp_path_factory.mktemp("kills") / "served"
    folder.mkdir()
    (folder / "logs.yaml").write_text(CONFIG.replace("NAME", "served"))
    write_sources(folder / "src", 1)
    assert merganser("index", "logs.yaml", cwd=folder).code == 0
    write_sources(folder / "src", SHARDS * FILES_PER_SHARD)
    return folder


def copy_of(served: Path, name: str) -> Path:
    folder = served.parent / name
    shutil.copytree(served, folder)
    (folder / "logs.yaml").write_text(CONFIG.replace("NAME", name))
    return folder


@dataclass(frozen=True)
class Undisturbed:
    """The same work without a kill.

    Attributes:
        index: What came out.
        corpus: Texts that had to be embedded.
        largest_shard: Most texts in one shard: its share, and a text more from each file.
        extra: Other texts that the runner was sent: drift texts.
    """

    index: Path
    corpus: int
    largest_shard: int
    extra: int


@pytest.fixture(scope="module")
def undisturbed(served: Path, merganser: Callable[..., Ran], runner: FaultyRunner) -> Undisturbed:
    folder = copy_of(served, "undisturbed")
    before = runner.counters.texts_embedded
    done = merganser("index", "logs.yaml", "--json", cwd=folder)
    assert done.code == 0, done.err
    texts = done.json["indexes"][0]["texts_embedded"]
    index = folder / ".merganser" / "logs"
    share = texts * FILES_PER_SHARD // (SHARDS * FILES_PER_SHARD - 1)  # all files but the first
    assert WORKERS * (share + FILES_PER_SHARD) < texts * LEAST_PERCENT // 100, "nothing to lose"
    largest = share + FILES_PER_SHARD
    return Undisturbed(index, texts, largest, runner.counters.texts_embedded - before - texts)


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Callable[[Path], Callable[[], list[str]]]]:
    """Return a function that starts a reader in another process, and gives one that ends it."""
    processes: list[subprocess.Popen[str]] = []

    def start(index: Path) -> Callable[[], list[str]]:
        stop = tmp_path / "stop"
        words = [sys.executable, "-P", "-c", READER, str(index), str(stop)]
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        processes.append(process)

        def end() -> list[str]:
            stop.touch()
            out, err = process.communicate(timeout=60)
            assert process.returncode == 0, err
            return out.splitlines()

        return end

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def rows_of(index: Path) -> tuple[list[tuple[str, int, int, int, str]], NDArray[np.float32]]:
    """Return everything an index holds, ordered by where it stands."""
    with open_snapshot(index) as snapshot:
        tables = ResidentTables(snapshot)
        chunks = snapshot.chunks(tables.keys.tolist())
        _, vectors = tables.matrix()
    rows = [(c.path, c.ord, c.start_line, c.end_line, c.text) for c in chunks]
    order = sorted(range(len(rows)), key=lambda n: rows[n])
    return [rows[n] for n in order], vectors[order]


@pytest.mark.parametrize("percent", [LEAST_PERCENT, 60, 90])
def test_a_killed_run_is_resumed_by_the_next(
    *,
    percent: int,
    served: Path,
    undisturbed: Undisturbed,
    merganser: Callable[..., Ran],
    command_environment: dict[str, str],
    runner: FaultyRunner,
    history: History,
    reader: Callable[[Path], Callable[[], list[str]]],
) -> None:
    name = f"killed-{percent}"
    folder = copy_of(served, name)
    index = folder / ".merganser" / "logs"
    end_reading = reader(index)
    before = runner.counters.texts_embedded
    words = [sys.executable, "-P", "-m", "merganser", "index", "logs.yaml"]
    process = subprocess.Popen(
        words,
        cwd=folder,
        env=command_environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while runner.counters.texts_embedded - before < undisturbed.corpus * percent // 100:
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.002)
    process.kill()
    process.wait()
    served_lines = end_reading()
    (killed,) = history.runs(f"logs.{name}")
    assert killed["state_type"] == "RUNNING"
    if percent == 60:
        storage = merganser_home() / "prefect" / "storage"
        shutil.rmtree(storage, ignore_errors=True)

    done = merganser("index", "logs.yaml", cwd=folder)

    assert done.code == 0, done.err
    assert "1 earlier runs died and are marked Crashed" in done.err
    embedded = runner.counters.texts_embedded - before - 2 * undisturbed.extra
    assert undisturbed.corpus <= embedded + undisturbed.extra
    assert embedded <= undisturbed.corpus + WORKERS * undisturbed.largest_shard
    assert {"1"} == {line.split()[0] for line in served_lines}, "a reader saw the unfinished run"
    assert_equal_indexes(undisturbed.index, index)
    finished, killed = history.runs(f"logs.{name}")
    assert [finished["state_type"], killed["state_type"]] == ["COMPLETED", "CRASHED"]
    assert "gone" in killed["state"]["message"]
    states = {task["state_type"] for task in history.tasks(killed).values()}
    assert {"COMPLETED", "CRASHED"} == states


def assert_equal_indexes(expected: Path, actual: Path) -> None:
    expected_rows, expected_vectors = rows_of(expected)
    actual_rows, actual_vectors = rows_of(actual)
    assert expected_rows == actual_rows
    # An int8 encoder scales by what else is in the batch: the same text comes out 0.98 to 1 alike.
    assert np.sum(expected_vectors * actual_vectors, axis=1).min() > 0.97
