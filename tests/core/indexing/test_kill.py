"""``kill -9`` at two hundred points of an index run, drawn over its phases: nothing is ever lost.

The points are drawn by a seed that is printed with a failure; ``MERGANSER_KILL_SEED`` sets it. What
a point is, says ``dying_run.py``.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from merganser.errors import StoreBusyError
from merganser.store.folder import IndexFolder

if TYPE_CHECKING:
    from collections.abc import Generator

    from tests.core.conftest import Corpus

_SEED = int(os.environ.get("MERGANSER_KILL_SEED", "20261125"))
_POINTS = 200
_BATCHES = 8
_PHASES = ("scan", "embed commit", "build", "checkpoint", "rename", "switch")
_EACH = 18
_TEXTS_OF_A_SHARD = 24  # 6 chunks are planned for it, but files are not divided


class Runs:
    """The program that forks a run for each order."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def order(self, root: Path, phase: str = "", number: int = -1) -> dict[str, Any]:
        """Index a folder; with a phase, count points and die at one of them."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        words = {"root": str(root), "phase": phase, "number": number}
        self._process.stdin.write(json.dumps(words) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


@contextmanager
def _program() -> Generator[Runs]:
    with subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("dying_run.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    ) as process:
        try:
            yield Runs(process)
        finally:
            process.kill()


@pytest.fixture(scope="module")
def runs() -> Generator[Runs]:
    with _program() as program:
        yield program


def _edit(corpus: Corpus) -> None:
    """Change, remove, move and add files, so many that the old segment is rewritten too."""
    for i in range(3):
        body = "\n".join(f"def other_{i}_{n}(x):\n    return x * {n}\n" for n in range(9))
        corpus.write(f"src/mod_{i:02d}.py", body, seconds_ago=5)
    corpus.remove("src/mod_03.py")
    corpus.move("src/mod_04.py", "src/deep/moved.py")
    for i in range(6):
        body = "\n".join(f"def new_{i}_{n}(x):\n    return {n} - x\n" for n in range(12))
        corpus.write(f"src/new_{i:02d}.py", body, seconds_ago=5)


def _draw(counts: dict[str, int]) -> list[tuple[str, int]]:
    """Draw distinct points in any order: some of each phase that must be there, others anywhere."""
    draw = random.Random(_SEED)  # noqa: S311 - reproducible, no secret
    points = [
        (phase, number)
        for phase in _PHASES
        for number in draw.sample(range(counts[phase]), min(_EACH, counts[phase]))
    ]
    rest = [(phase, n) for phase, count in sorted(counts.items()) for n in range(count)]
    rest = [point for point in rest if point not in set(points)]
    points += draw.sample(rest, _POINTS - len(points))
    draw.shuffle(points)
    return points


def _published(folder: Path) -> dict[str, str]:
    """Return a digest of every published file."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.glob("[gs]*.duckdb")
    }


def _log(root: Path) -> list[str]:
    log = root / "embedded.log"
    return log.read_text().split() if log.exists() else []


@pytest.mark.slow
@pytest.mark.proof(sample=2)
@pytest.mark.timeout(900)  # half a minute of CPU; the machine may be shared
@pytest.mark.parametrize("batch", range(_BATCHES))
def test_killed_at_any_point_harms_nothing_and_the_next_run_finishes(
    small: Corpus, runs: Runs, batch: int
):
    small.change(docs=("src",))
    old_files = _published(small.folder)
    _edit(small)
    undisturbed = small.root.with_name(f"undisturbed-{batch}")
    shutil.copytree(small.root, undisturbed)
    counts: dict[str, int] = runs.order(undisturbed, "count")["points"]
    new_rows = small.rows(undisturbed / ".merganser" / "code")
    needed = set(_log(undisturbed))
    points = _draw(counts)

    assert all(counts[phase] >= 5 for phase in _PHASES), counts
    assert len(set(points)) == _POINTS
    for phase, number in points[batch::_BATCHES]:
        where = f"seed {_SEED}, killed in {phase} at point {number} of {counts[phase]}"
        root = small.root.with_name(f"killed-{batch}")
        shutil.copytree(small.root, root)
        folder = root / ".merganser" / "code"

        killed = runs.order(root, phase, number)

        assert killed == {"code": -signal.SIGKILL}, where
        left = _published(folder)
        assert {name: left[name] for name in old_files} == old_files, where
        served = IndexFolder(folder).read_current()
        assert served is not None
        assert served.generation in {1, 2}, where  # the files of 1 are as they were
        if served.generation == 2:
            assert small.rows(folder) == new_rows, where
        finished = runs.order(root)
        assert (finished["code"], finished["status"]) in {(0, "published"), (0, "unchanged")}, where
        assert small.rows(folder) == new_rows, where
        log = _log(root)
        assert set(log) == needed, where
        assert len(log) - len(needed) <= _TEXTS_OF_A_SHARD, where
        assert list((folder / "build").iterdir()) == [], where
        assert [*folder.rglob("*.npz"), *folder.rglob("*.tmp"), *folder.rglob("*.wal")] == [], where
        current = IndexFolder(folder).read_current()
        assert current is not None
        assert IndexFolder(folder).catalogues_on_disk() == tuple(sorted(current.kept)), where
        shutil.rmtree(root)


def test_second_writer_is_told_who_the_first_is_and_the_lock_goes_with_it(small: Corpus):
    small.change(docs=("src",))
    small.write("src/mod_00.py", "x = 1\n", seconds_ago=5)
    code = "import json, sys, dying_run; dying_run.run(json.loads(sys.argv[1]))"
    order = {"root": str(small.root), "phase": "", "number": -1, "hold": True}
    with subprocess.Popen(
        [sys.executable, "-c", code, json.dumps(order)],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parent,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"holding\n"

        with pytest.raises(StoreBusyError, match=rf"process {holder.pid} on .*, started 20"):
            small.index()
        assert small.open().generation == 1
        holder.kill()
    assert small.index().generation == 2
