"""How the costs of indexing grow: ``python benchmarks/bench_scale.py [TREE] [--chunks 10000 ...]``.

For each size the files of the tree are copied as often as it takes, every copy with another mark at
the end of every eighth line, so that no two copies share a text. Then the engine alone indexes them
in fresh processes: cold, again with nothing to do, and after one line was inserted in 1 % of the
files. The embedder is a hash of the text, 384 numbers. "published" is what the run added to the
index, and "part" its part of the snapshot, which is what an edit writes of it. "written" is all
that went to the disk, journals of embedded texts included. "raw" is the bytes of distinct vectors
and texts, and "share" how many times that the snapshot takes. A million chunks take some ten
minutes and 7 GB of disk, without their approximate index, which takes half an hour more.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

from bench_index import SIZES, SIZES_TITLE, prepare, run_child
from measuring import BYTES_PER_CHUNK, default_tree, grow, print_table

PHASES = ("cold", "no-op", "edit")
_COLUMNS = ("chunks", "engine", "rss", "written", "published", "part", "segments")


def main() -> None:
    """Measure each size and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tree", type=Path, nargs="?", default=default_tree())
    parser.add_argument("--chunks", type=int, nargs="*", default=[10_000, 100_000])
    parser.add_argument("--work", type=Path, help="folder for the copies; default temporary")
    arguments = parser.parse_args()
    sources = sorted(p for glob in ("*.py", "*.md") for p in arguments.tree.rglob(glob))
    measured: dict[tuple[int, str], dict[str, Any]] = {}
    for chunks in arguments.chunks:
        with tempfile.TemporaryDirectory(dir=arguments.work) as folder:
            root = Path(folder)
            files = grow(sources, arguments.tree, root / "tree", chunks * BYTES_PER_CHUNK)
            for phase in PHASES:
                prepare(phase, files)
                measured[chunks, phase] = row = _measure(root)
                print(f"{chunks:,} {phase}: {row}", file=sys.stderr, flush=True)
    _print(arguments.chunks, measured)


def _measure(root: Path) -> dict[str, Any]:
    measured = run_child(root, 1000, "engine")
    facts = json.loads(measured.output)
    sizes = json.loads(run_child(root, 1000, "sizes").output)
    return {
        **sizes,
        "chunks": facts["chunks"],
        "engine": facts["engine"],
        "rss": measured.rss,
        "written": measured.written,
        "published": facts["engine published"],
        "part": facts["engine published"] / sizes["snapshot"],
        "segments": facts["segments"],
        "wall": measured.wall,
    }


def _print(sizes: list[int], measured: dict[tuple[int, str], dict[str, Any]]) -> None:
    print("CPU in seconds without imports and embedder, memory and disk in MB\n")
    rows = [(f"{size:,} {phase}", *(measured[size, phase][column] for column in _COLUMNS))
            for size in sizes for phase in PHASES]  # fmt: skip
    print_table(("chunks phase", *_COLUMNS), rows)
    print(f"\n{SIZES_TITLE}\n")
    rows = [(f"{size:,} {phase}", *(measured[size, phase][column] for column in SIZES))
            for size in sizes for phase in PHASES]  # fmt: skip
    print_table(("chunks phase", *SIZES), rows)
    print("\nGrowth of the CPU from one size to the next (linear is the ratio of the chunks)\n")
    print_table(
        ("from - to", "chunks", *PHASES),
        [
            (
                f"{small:,} - {large:,}",
                measured[large, "cold"]["chunks"] / measured[small, "cold"]["chunks"],
                *(measured[large, p]["engine"] / measured[small, p]["engine"] for p in PHASES),
            )
            for small, large in pairwise(sizes)
        ],
    )


if __name__ == "__main__":
    main()
