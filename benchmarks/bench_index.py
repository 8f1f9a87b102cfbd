"""Measure indexing on a tree: cold, no-op, 1 % edit, move, delete; against a free embedder.

    python benchmarks/bench_index.py [TREE] [--glob '*.py'] [--rounds 5] [--real] [--engine]
        [--peer PYTHON]

Each phase is the whole command ``merganser index`` in a fresh process, with its history on a
running Prefect server and embeddings from a server in another process (``free_runner.py``, or with
``--real`` the embedded runner with real weights). In the same round, on the same files, the engine
alone does the same into an index of its own (``index_once`` with the same hash as embedder), so
that what orchestration and HTTP add is seen. CPU is user and system time by wait4, the median of
the rounds; "engine" is what ``index_once`` took without imports and embedder.

With ``--peer`` cocoindex does the same to the same files in the same round, in the environment of
that Python (``peers/cocoindex_app.py`` says how to make it), so that figures of a noisy machine can
be compared.

Stale rows are counted after every phase: chunks of the served snapshot whose file is gone or does
not hold that text at that place. "raw" is the bytes of distinct vectors and texts, which the size
of a snapshot is held against.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import sys
import tempfile
import time
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from free_runner import DIMENSIONS, counted, free_runner, hash_vectors
from measuring import default_tree, medians, print_table, run_measured, service_cpu

from merganser.services.prefect_server import ensure_server

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from measuring import Measured

    from merganser.store.catalogue import FileRow
    from merganser.store.reader import Snapshot
    from merganser.store.rows import StoredChunk

ALONE = Path(".merganser", "alone")  # the index of the engine alone, in a round's folder
SIZES = ("raw", "snapshot", "share", "graph", "journals", "kept")
SIZES_TITLE = "MB on disk (kept: all of it, with at most 3 kept snapshots and their graphs)"

PHASES = ("cold", "no-op", "edit", "no-op 2", "move", "delete")

CONFIG = """\
rag:
  code:
    docs: [./tree]
    strategies:
      - type: chunked-embeddings
        embedding_model: dmr/ai/all-minilm
        chunking: {code_aware: true, size: SIZE, overlap: 0}
      - {type: bm25, chunking: {code_aware: true, size: SIZE, overlap: 0}}
"""

PEERS = (
    ("cocoindex 1.0, sqlite-vec", "20.5", "1.2", "1.4 (306)", "1.1"),
    ("cocoindex 1.0, lancedb, memo", "43.2", "3.6", "5.6 (24)", "9.0"),
    ("LangChain, Chroma", "54.6", "11.9", "12.4 (22)", "12.2"),
    ("Haystack 3.4, in memory", "30.0", "37.1", "38.4 (33,999)", "38.4"),
    ("txtai 9.14, hybrid", "18.8", "34.3", "50.5 (26,158)", "73.3"),
    ("LlamaIndex 0.14, simple", "62.5", "146.4", "stopped", "stopped"),
)
"""Measured on PrefectHQ/prefect at ce79dd3d (1,985 files, 24.5 MB) with a free embedder, one run
each on a busy machine: CPU seconds with imports, in brackets the texts embedded after the edit."""


def main() -> None:
    """Run the rounds and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tree", type=Path, nargs="?", default=default_tree())
    parser.add_argument("--glob", action="append", help="files to take; default *.py and *.md")
    parser.add_argument("--size", type=int, default=1000, help="characters in a chunk")
    parser.add_argument("--rounds", type=int, default=5, help="the median is printed")
    parser.add_argument("--real", action="store_true", help="embed for real: minutes a round")
    parser.add_argument("--engine", action="store_true", help="the engine alone, no command")
    parser.add_argument(
        "--peer",
        type=Path,
        default=os.environ.get("MERGANSER_BENCH_PEER"),
        help="a Python that has cocoindex, to run beside; default MERGANSER_BENCH_PEER",
    )
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        root, size, what = arguments.child
        match what:
            case "rows":
                _count_rows(Path(root))
            case "sizes":
                print(json.dumps(measure_sizes(Path(root) / ALONE)))
            case _:
                index_alone(Path(root), int(size))
        return
    peer = arguments.peer and arguments.peer.absolute()
    globs = arguments.glob or ["*.py", "*.md"]
    with ExitStack() as stack:
        url = None if arguments.engine else _serve(stack, real=arguments.real)
        rounds = [
            _run_round(arguments.tree, globs, arguments.size, url, peer)
            for _ in range(arguments.rounds)
        ]
    _print_rounds(rounds, engine_only=arguments.engine, has_peer=peer is not None)


def _serve(stack: ExitStack, *, real: bool) -> str:
    """Return the address of the model server; "" when it is a real one, which counts nothing."""
    if real:
        from merganser.services.runner import ensure_runner  # noqa: PLC0415 - needs the extra

        os.environ["MODEL_RUNNER_HOST"] = ensure_runner().url
        return ""
    url, _ = stack.enter_context(free_runner())
    os.environ["MODEL_RUNNER_HOST"] = url
    return url


def _run_round(
    tree: Path, globs: Sequence[str], size: int, url: str | None, peer: Path | None
) -> list[dict[str, Any]]:
    """Run all phases once; without an address of a model server the engine alone."""
    server = 0 if url is None else ensure_server().pid
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "code.yaml").write_text(CONFIG.replace("SIZE", str(size)))
        files = _copy_tree(tree, root / "tree", globs)
        rows: list[dict[str, Any]] = []
        for phase in PHASES:
            prepare(phase, files)
            row: dict[str, Any] = {"phase": phase, **_measure_engine(root, size)}
            if url is not None:
                row |= _measure_command(root, server, url)
            if peer is not None:
                row |= _measure_peer(peer, root)
                row["of peer"] = row.get("cpu", row["engine process"]) / row["peer"]
            row |= json.loads(run_child(root, size, "rows").output)
            rows.append(row)
            print(f"{phase}: {row}", file=sys.stderr)
        return rows


def _copy_tree(tree: Path, target: Path, globs: Sequence[str]) -> list[Path]:
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
    match phase:
        case "edit":
            for path in files[::100]:
                lines = path.read_bytes().splitlines(keepends=True)
                lines.insert(len(lines) // 2, b"# an inserted line\n")
                path.write_bytes(b"".join(lines))
        case "move":
            for path in files[1::100]:
                path.rename(path.with_name(f"moved_{path.name}"))
        case "delete":
            for path in files[2::100]:
                path.unlink()
        case _:
            pass


def _measure_command(root: Path, server: int, url: str) -> dict[str, Any]:
    """Run ``merganser index`` as a user does, beside the server's cost."""
    before = service_cpu(server)
    words = [sys.executable, "-P", "-m", "merganser", "index", "code.yaml", "--json"]
    measured = run_measured(words, folder=root)
    time.sleep(2)  # the server records events a little later
    report = json.loads(measured.output)["indexes"][0]
    told = {"texts": report["texts_embedded"], "requests": math.nan}
    sent = counted(url) if url else told
    return {
        "cpu": measured.cpu,
        "wall": measured.wall,
        "rss": measured.rss,
        "written": measured.written,
        "server": service_cpu(server) - before,
        "embedded": sent["texts"],
        "requests": sent["requests"],
        "published": report["bytes_written"] / 1e6,
        "embed seconds": json.loads(measured.output)["embed_seconds"],
    }


def _measure_engine(root: Path, size: int) -> dict[str, Any]:
    measured = run_child(root, size, "engine")
    return {
        "engine process": measured.cpu,
        "engine rss": measured.rss,
        "engine written": measured.written,
        **json.loads(measured.output),
    }


def _measure_peer(python: Path, root: Path) -> dict[str, Any]:
    app = str(Path(__file__).parent / "peers" / "cocoindex_app.py")
    measured = run_measured([str(python), app, "tree", "peer"], folder=root)
    embedded: int = json.loads(measured.output)["embedded"]
    return {
        "peer": measured.cpu,
        "peer wall": measured.wall,
        "peer rss": measured.rss,
        "peer embedded": embedded,
    }


def run_child(root: Path, size: int, what: str) -> Measured:
    """Run ``index_alone``, ``_count_rows`` or ``measure_sizes`` in a fresh process."""
    words = [sys.executable, __file__, "--child", str(root), str(size), what]
    return run_measured(words, folder=root)


def index_alone(root: Path, size: int) -> None:
    """Index once without an orchestrator and print what it took."""
    from merganser.chunking import ChunkingOptions  # noqa: PLC0415 - the parent needs none of it
    from merganser.config.index_definition import IndexDefinition  # noqa: PLC0415 - the parent needs none of it
    from merganser.indexing.run import index_once  # noqa: PLC0415 - the parent needs none of it

    class FreeEmbedder:
        fingerprint = "f" * 64
        seconds = 0.0

        async def embed_documents(self, texts: Sequence[str], *, on_vectors: object = None) -> Any:
            del on_vectors  # all come at the end
            began = time.thread_time()
            vectors = hash_vectors(texts)
            self.seconds += time.thread_time() - began
            return vectors

    definition = IndexDefinition(
        name="bench",
        folder=root / ALONE,
        base=root,
        docs=("./tree",),
        docs_positions=(None,),
        respect_vcs=True,
        chunking=ChunkingOptions(size=size, overlap=0, code_aware=True),
        embedding=None,
    )
    embedder = FreeEmbedder()
    began = time.process_time()
    report = index_once(definition, embedder)
    facts = {
        "engine": time.process_time() - began - embedder.seconds,
        "engine embedded": report.texts_embedded,
        "engine published": report.bytes_written / 1e6,
        "chunks": report.chunks,
        "segments": report.segments,
    }
    print(json.dumps(facts))


def _count_rows(root: Path) -> None:
    """Print the stale rows of every index of the round, and the sizes of one."""
    from merganser.store.reader import open_snapshot  # noqa: PLC0415 - the parent needs none of it

    stale = 0
    facts: dict[str, float] = {}
    for folder in sorted(path.parent for path in (root / ".merganser").rglob("CURRENT")):
        with open_snapshot(folder) as snapshot:
            for file, chunks in _chunks_by_file(snapshot):
                path = root / file.path
                now = path.read_bytes().decode("utf-8-sig") if path.exists() else ""
                stale += sum(now[c.start_char : c.end_char] != c.text for c in chunks)
                stale += "".join(chunk.text for chunk in chunks) != now
        facts = measure_sizes(folder)
    print(json.dumps({"stale": stale, **facts}))


def measure_sizes(folder: Path) -> dict[str, float]:
    """Return what an index takes on disk, in MB but for the share.

    Returns:
        ``raw``, the bytes of the served snapshot's distinct vectors and texts; ``snapshot``, its
        files; their ``share``; ``graph``, its approximate indexes; ``journals``, vectors that are
        in no snapshot; ``kept``, all there is.
    """
    from merganser.store.filters import live_rows  # noqa: PLC0415 - the parent needs none of it
    from merganser.store.reader import open_snapshot  # noqa: PLC0415 - the parent needs none of it

    def megabytes(paths: Iterable[Path]) -> float:
        return sum(path.stat().st_size for path in paths if path.is_file()) / 1e6

    with open_snapshot(folder) as snapshot:
        cursor = snapshot.cursor()
        texts = " UNION ALL ".join(
            f"SELECT hash_high, hash_low, strlen(text) AS size FROM s{number}.chunks {condition}"  # noqa: S608 - our own names
            for number, condition in live_rows(cursor, snapshot.segments, None)
        )
        query = f"SELECT count(*), sum(size) FROM (SELECT DISTINCT * FROM ({texts}))"  # noqa: S608 - our own names
        [(count, size)] = cursor.execute(query).fetchall()
        segments = [folder / segment.file for segment in snapshot.segments]
        catalogue = folder / f"g{snapshot.generation:06d}.duckdb"
    raw = (int(size) + 4 * DIMENSIONS * int(count)) / 1e6
    total = megabytes([catalogue, *segments])
    return {
        "raw": raw,
        "snapshot": total,
        "share": total / raw,
        "graph": megabytes(segment.with_suffix(".usearch") for segment in segments),
        "journals": megabytes(folder.rglob("*.npz")),
        "kept": megabytes(folder.rglob("*")),
    }


def _chunks_by_file(snapshot: Snapshot) -> Iterator[tuple[FileRow, list[StoredChunk]]]:
    """Return every file with its chunks; some hundred a query, as each query scans a segment."""
    every = snapshot.files()
    for files in (every[at : at + 400] for at in range(0, len(every), 400)):
        keys = [
            file.segment << 32 | file.first_row + i for file in files for i in range(file.row_count)
        ]
        chunks = iter(snapshot.chunks(keys))
        for file in files:
            yield file, list(islice(chunks, file.row_count))


def _print_rounds(
    rounds: Sequence[Sequence[dict[str, Any]]], *, engine_only: bool, has_peer: bool
) -> None:
    phases = [(rows[0]["phase"], rows) for rows in zip(*rounds, strict=True)]
    print(f"\nmedian of {len(rounds)}; CPU in seconds, memory and disk in MB\n")
    if not engine_only:
        print("The command, with a running Prefect server (its CPU beside it):\n")
        names = ("cpu", "server", "wall", "rss", "embedded", "requests", "stale", "published",
                 "written")  # fmt: skip
        _print_phases(phases, names)
    print("\nThe engine alone on the same files (process: with imports and embedder):\n")
    _print_phases(phases, ("engine", "engine process", "engine rss", "engine embedded",
                           "engine published", "engine written", "chunks", "segments"))  # fmt: skip
    print(f"\n{SIZES_TITLE}\n")
    _print_phases(phases, SIZES)
    if has_peer:
        print("\ncocoindex on the same files in the same rounds (of peer: our CPU by its):\n")
        _print_phases(phases, ("peer", "peer wall", "peer rss", "peer embedded", "of peer"))
    print("\nPeers on the reference corpus, measured elsewhere: CPU s (texts after the edit)\n")
    print_table(("peer", "cold", "no-op", "edit", "delete"), PEERS)


def _print_phases(
    phases: Sequence[tuple[str, Sequence[dict[str, Any]]]], names: Sequence[str]
) -> None:
    rows = [(phase, *medians(rows, names).values()) for phase, rows in phases]
    print_table(("phase", *names), rows)


if __name__ == "__main__":
    main()
