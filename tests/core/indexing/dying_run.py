# ruff: noqa: T201 - it is spoken to by standard input and output
"""Index runs that kill themselves at a chosen point: the program under ``test_kill.py``.

Started once, it imports the engine and then forks a child for every line of JSON on its standard
input, so that a run costs no start of an interpreter. A child indexes the folder of its order and
counts *points* by phase: every file that is opened, renamed, removed or flushed, every folder that
is listed or made, every statement that DuckDB runs, and steps of growth of the files that DuckDB
writes while it commits and checkpoints. At the point of its order it sends itself SIGKILL. The
parent answers each order with a line of JSON: how the child ended, and what it counted.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import threading
from collections import Counter
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from merganser.chunking import ChunkingOptions
from merganser.config.index_definition import EmbeddingDefinition, IndexDefinition
from merganser.indexing import publishing, shards
from merganser.indexing import run as once
from merganser.indexing.drift import DRIFT_TEXTS
from merganser.indexing.run import index_once
from merganser.indexing.workspace import begin_run
from merganser.models.ref import ModelRef
from merganser.store import database as schema
from merganser.store import embedding_store as embeddings
from merganser.store import folder as layout

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

CHUNKS_PER_SHARD = 6
_AUDITED = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.scandir", "os.listdir"}
_GROWTH_STEPS = 6  # points within one commit or checkpoint
_BLOCK = 262_144  # DuckDB writes blocks of this size


class Points:
    """Counts points by phase and dies at the chosen one."""

    def __init__(self, root: Path, phase: str, number: int) -> None:
        self.counts = Counter[str]()
        self._root = root
        self._target = (phase, number)
        self._phase = "start"

    def die(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def reach(self, phase: str | None = None) -> bool:
        """Count a point; True when it is the chosen one."""
        name = phase or self._phase
        chosen = (name, self.counts[name]) == self._target
        self.counts[name] += 1
        return chosen

    def point(self) -> None:
        if self.reach():
            self.die()

    @contextmanager
    def phase(self, name: str) -> Generator[None]:
        outer, self._phase = self._phase, name
        try:
            yield
            self.point()
        finally:
            self._phase = outer

    @contextmanager
    def growing(self) -> Generator[None]:
        """Be in the phase ``checkpoint``, with points while the files of the run grow."""
        with self.phase("checkpoint"):
            self.point()
            chosen = [step for step in range(_GROWTH_STEPS) if self.reach()]
            if chosen:
                limit = self._size() + chosen[0] * _BLOCK
                threading.Thread(target=self._watch, args=(limit,), daemon=True).start()
            yield
            if chosen:
                self.die()  # it was written faster than the thread looked

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in _AUDITED and self._is_ours(arguments):
            self.point()

    def _is_ours(self, arguments: tuple[Any, ...]) -> bool:
        path = arguments[0] if arguments else None
        return isinstance(path, str | Path) and str(path).startswith(str(self._root))

    def _watch(self, limit: int) -> None:
        while self._size() <= limit:
            pass
        self.die()

    def _size(self) -> int:
        files = (self._root / ".merganser").glob("code/build/*/*.duckdb*")
        return sum(file.stat().st_size for file in files)


class Connection:
    """A DuckDB connection or cursor with a point before every statement."""

    def __init__(self, real: Any, points: Points) -> None:
        self._real = real
        self._points = points

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def cursor(self) -> Connection:
        return Connection(self._real.cursor(), self._points)

    def execute(self, query: str, *arguments: Any) -> Any:
        if query.startswith(("COMMIT", "CHECKPOINT")):
            with self._points.growing():
                return self._real.execute(query, *arguments)
        self._points.point()
        return self._real.execute(query, *arguments)


class HashEmbedder:
    """Gives each text a fixed vector and writes down what it was asked, drift texts left out."""

    fingerprint = "a" * 64

    def __init__(self, log: Path) -> None:
        self._log = log

    async def embed_documents(self, texts: Sequence[str], *, on_vectors: object = None) -> Any:
        del on_vectors  # all come at the end
        asked = [text for text in texts if text not in DRIFT_TEXTS]
        lines = "".join(f"{hashlib.sha256(text.encode()).hexdigest()}\n" for text in asked)
        descriptor = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(descriptor, lines.encode())
        os.close(descriptor)
        rows = [
            np.frombuffer(hashlib.shake_256(text.encode()).digest(8), np.uint8) for text in texts
        ]
        vectors = np.array(rows, dtype=np.float32) - 127.5
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _within(points: Points, owner: Any, name: str, phase: str) -> None:
    """Make a function a phase of its own."""
    real: Callable[..., Any] = getattr(owner, name)

    def wrapper(*arguments: Any, **options: Any) -> Any:
        with points.phase(phase):
            return real(*arguments, **options)

    setattr(owner, name, wrapper)


def _before(points: Points, owner: Any, name: str) -> None:
    """Put a point before every call of a function."""
    real: Callable[..., Any] = getattr(owner, name)

    def wrapper(*arguments: Any, **options: Any) -> Any:
        points.point()
        return real(*arguments, **options)

    setattr(owner, name, wrapper)


def _after_opening(points: Points) -> None:
    """Put a point where a file is open for writing and nothing is in it yet."""
    real: Callable[..., Any] = Path.open

    def wrapper(self: Path, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        file = real(self, mode, *arguments, **options)
        if "w" in mode:
            points.point()
        return file

    Path.open = wrapper


def _arm(points: Points) -> None:
    _within(points, once, "find_changes", "scan")
    _within(points, once, "build_snapshot", "build")
    _within(points, once, "publish", "publish")
    _within(points, shards, "_read_files", "read")
    _within(points, embeddings.EmbeddingStore, "commit", "embed commit")
    _within(points, publishing, "_move_in", "rename")
    _within(points, layout.IndexFolder, "write_current", "switch")
    for name in ("_clean_up", "save_scan_cache", "_record"):
        _within(points, publishing, name, "collect")
    _after_opening(points)
    _before(points, os, "fsync")
    _before(points, np, "savez")
    real_open = schema.connect_open
    setattr(schema, "connect_open", lambda: Connection(real_open(), points))  # noqa: B010 - the type checker refuses the plain assignment
    sys.addaudithook(points.audit)


def run(order: dict[str, Any]) -> dict[str, Any]:
    """Index the folder of an order, or die on the way."""
    root = Path(order["root"])
    points = Points(root, order["phase"], order["number"])
    if order["phase"]:
        _arm(points)
    once.begin_run = partial(begin_run, chunks_per_shard=CHUNKS_PER_SHARD)
    if order.get("hold"):
        publishing.move_file = _hold
    definition = IndexDefinition(
        name="code",
        folder=root / ".merganser" / "code",
        base=root,
        docs=("src",),
        docs_positions=(None,),
        respect_vcs=True,
        chunking=ChunkingOptions(size=200, overlap=0),
        embedding=EmbeddingDefinition(
            model=ModelRef(name="ai/embed", provider="dmr", model="ai/embed"), dimensions=None
        ),
    )
    report = index_once(definition, HashEmbedder(root / "embedded.log"))
    return {"status": report.status, "points": dict(points.counts)}


def _hold(*_: object) -> None:
    """Stand still before the first rename until someone ends the process."""
    print("holding", flush=True)
    threading.Event().wait()


def main() -> None:
    """Fork a child for every order."""
    for line in sys.stdin:
        read_end, write_end = os.pipe()
        child = os.fork()
        if child == 0:
            answer = run(json.loads(line))
            os.write(write_end, json.dumps(answer).encode())
            os._exit(0)
        os.close(write_end)
        with os.fdopen(read_end) as pipe:
            said = pipe.read()
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        print(json.dumps({"code": code, **json.loads(said or "{}")}), flush=True)


if __name__ == "__main__":
    main()
