"""Measure the indexing engine on a tree: cold, no-op, 1 % edit, move, delete.

The embedder is free (a hash of the text), so that only the engine's own cost counts. Each phase
runs in a fresh process on a copy of the tree; CPU is user and system time of that process with its
imports, by wait4, and beside it the part that the engine took.

    python benchmarks/bench_index.py TREE [--glob '*.py'] [--size 1000] [--repeat 3]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

PHASES = ("cold", "no-op", "edit", "no-op 2", "move", "delete")
DIMENSIONS = 384


def main() -> None:
    """Copy the tree, run the phases in child processes and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tree", type=Path)
    parser.add_argument("--glob", action="append", help="files to take; default *.py and *.md")
    parser.add_argument("--size", type=int, default=1000, help="characters in a chunk")
    parser.add_argument("--repeat", type=int, default=1, help="rounds; the median is printed")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        run_child(Path(arguments.child[0]), int(arguments.child[1]))
        return
    rounds = [
        run_round(arguments.tree, arguments.glob or ["*.py", "*.md"], arguments.size)
        for _ in range(arguments.repeat)
    ]
    print_table(rounds)


def run_round(tree: Path, globs: Sequence[str], size: int) -> list[dict[str, Any]]:
    """Run all phases once."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        files = copy_tree(tree, root / "tree", globs)
        rows: list[dict[str, Any]] = []
        for phase in PHASES:
            prepare(phase, files)
            rows.append({"phase": phase, **measure(root, size)})
        return rows


def copy_tree(tree: Path, target: Path, globs: Sequence[str]) -> list[Path]:
    """Copy the chosen files with their times, and say how many there are."""
    files: list[Path] = []
    for path in sorted({path for glob in globs for path in tree.rglob(glob)}):
        copy = target / path.relative_to(tree)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, copy)
        files.append(copy)
    total = sum(path.stat().st_size for path in files)
    print(f"{len(files)} files, {total / 1e6:.1f} MB", file=sys.stderr)
    return files


def prepare(phase: str, files: list[Path]) -> None:
    """Change the tree as the phase wants; each phase takes other files."""
    share = max(1, len(files) // 100)
    if phase == "edit":
        for path in files[::100][:share]:
            lines = path.read_bytes().splitlines(keepends=True)
            lines.insert(len(lines) // 2, b"# an inserted line\n")
            path.write_bytes(b"".join(lines))
    elif phase == "move":
        for path in files[1::100][:share]:
            path.rename(path.with_name(f"moved_{path.name}"))
    elif phase == "delete":
        for path in files[2::100][:share]:
            path.unlink()


def measure(root: Path, size: int) -> dict[str, Any]:
    """Run one phase in a fresh process."""
    began = time.monotonic()
    command = [sys.executable, __file__, str(root), "--child", str(root), str(size)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(process.returncode)
    return {
        "wall": time.monotonic() - began,
        "cpu": usage.ru_utime + usage.ru_stime,
        "rss": usage.ru_maxrss / 1024,
        "disk": sum(p.stat().st_size for p in (root / "index").rglob("*") if p.is_file()) / 1e6,
        **json.loads(output),
    }


def run_child(root: Path, size: int) -> None:
    """Index once and print what it took."""
    import numpy as np  # noqa: PLC0415 - the parent needs none of this

    from merganser.definitions import IndexDefinition  # noqa: PLC0415
    from merganser.index import index_once  # noqa: PLC0415
    from merganser.split import ChunkingOptions  # noqa: PLC0415

    class FreeEmbedder:
        fingerprint = "f" * 64
        seconds = 0.0

        async def embed_documents(self, texts: Sequence[str]) -> Any:
            began = time.process_time()
            data = b"".join(hashlib.shake_256(t.encode()).digest(DIMENSIONS) for t in texts)
            bytes_ = np.frombuffer(data, dtype=np.uint8).reshape(-1, DIMENSIONS)
            vectors = bytes_.astype(np.float32) - 127.5
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            self.seconds += time.process_time() - began
            return vectors

    definition = IndexDefinition(
        name="bench",
        folder=root / "index",
        base=root / "tree",
        docs=(".",),
        docs_positions=(None,),
        respect_vcs=False,
        chunking=ChunkingOptions(size=size, overlap=0, code_aware=True),
        embedding=None,
    )
    embedder = FreeEmbedder()
    blocks = resource.getrusage(resource.RUSAGE_SELF).ru_oublock
    began = time.process_time()
    report = index_once(definition, embedder)
    facts = {
        "engine": time.process_time() - began - embedder.seconds,
        "embedder": embedder.seconds,
        "written": (resource.getrusage(resource.RUSAGE_SELF).ru_oublock - blocks) * 512 / 1e6,
        "published": report.bytes_written / 1e6,
        "embedded": report.texts_embedded,
        "chunks": report.chunks,
        "segments": report.segments,
        "status": report.status,
    }
    print(json.dumps(facts))


def print_table(rounds: Sequence[Sequence[dict[str, Any]]]) -> None:
    """Print the median of each figure."""
    names = ("wall", "cpu", "engine", "embedder", "rss", "embedded", "chunks", "segments", "disk",
             "published", "written")  # fmt: skip
    units = ("s", "s", "s", "s", "MB", "", "", "", "MB", "MB", "MB")
    heads = [f"{name} {unit}".strip() for name, unit in zip(names, units, strict=True)]
    print(f"| phase | {' | '.join(heads)} |")
    print(f"| --- |{' ---: |' * len(heads)}")
    for rows in zip(*rounds, strict=True):
        values = [statistics.median(row[name] for row in rows) for name in names]
        cells = [f"{value:.2f}" if isinstance(value, float) else str(value) for value in values]
        print(f"| {rows[0]['phase']} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
