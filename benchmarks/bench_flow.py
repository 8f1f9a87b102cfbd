"""What orchestration costs: ``python benchmarks/bench_flow.py [TREE] [--files 60] [--rounds 3]``.

``--chunks 50000 --free`` takes as many marked copies of the files as that is, and an embedder that
costs nothing, which leaves the engine's own work to compare with; the share of a real index is then
told from how long its texts take a real embedder.

The same files are indexed by ``merganser index`` (a Prefect flow, history on a running server) and
by the same core calls without Prefect, in turns and in fresh processes, with the real embedder.
Then the command is run again with nothing to do. CPU seconds are user and system time of the
command and its children by wait4; the model server and the Prefect server are other processes.
A bare Prefect flow of seven empty tasks is the floor that no command of ours can go below.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import statistics
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from free_runner import free_runner
from measuring import BYTES_PER_CHUNK, grow, run_measured

from merganser.services.prefect_server import ensure_server
from merganser.services.runner import ensure_runner

CONFIG = """\
rag:
  code:
    docs: ["./tree/**/*.py"]
    strategies:
      - type: chunked-embeddings
        embedding_model: dmr/ai/all-minilm
        chunking: {code_aware: true, size: 1000, overlap: 0}
      - {type: bm25, chunking: {code_aware: true, size: 1000, overlap: 0}}
"""

CORE = """\
import asyncio, sys
from merganser.embedding.embedder import Embedder
from merganser.config.load import load_config
from merganser.config.rag_definition import resolve_rag
from merganser.indexing.run import index_once_async
from merganser.models.address import resolve_address
from merganser.models.client import ModelRunner
index = resolve_rag(load_config("code.yaml"), "code").indexes[0]
async def main():
    async with ModelRunner(await resolve_address()) as runner:
        ref = index.embedding.model
        served = await runner.model(ref.model)
        embedder = Embedder(runner, ref, served, dimensions=None)
        print((await index_once_async(index, embedder)).status)
asyncio.run(main())
"""

FLOOR = """\
from merganser.services.prefect_server import connect_history
connect_history()
from prefect import flow, task
@task
def step(number): return number
@flow
def bare():
    for number in range(7): step.submit(number).result()
bare()
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tree", nargs="?", type=Path)
    parser.add_argument("--files", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--chunks", type=int, help="copies of the files, instead of --files")
    parser.add_argument("--free", action="store_true", help="an embedder that costs nothing")
    options = parser.parse_args()
    spec = importlib.util.find_spec("prefect")
    assert spec is not None
    assert spec.origin is not None
    tree = options.tree or Path(spec.origin).parent
    files = sorted(tree.rglob("*.py"))[: None if options.chunks else options.files]
    ensure_server()
    command = [sys.executable, "-P", "-m", "merganser", "index", "code.yaml"]
    kinds = {
        "core": [sys.executable, "-c", CORE],
        "flow": command,
        "no-op": command,
        "floor": [sys.executable, "-c", FLOOR],
        "check": [sys.executable, "-P", "-m", "merganser", "check", "code.yaml"],
    }
    seen: dict[str, list[tuple[float, float]]] = {kind: [] for kind in kinds}
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        url = stack.enter_context(free_runner())[0] if options.free else ensure_runner().url
        os.environ["MODEL_RUNNER_HOST"] = url
        (folder / "code.yaml").write_text(CONFIG)
        if options.chunks:
            wanted = options.chunks * BYTES_PER_CHUNK
            files = grow(files, tree, folder / "tree", wanted)
        else:
            for file in files:
                target = folder / "tree" / file.relative_to(tree)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(file.read_bytes())
        for _ in range(options.rounds):
            for kind, words in kinds.items():
                if kind in {"core", "flow"}:
                    shutil.rmtree(folder / ".merganser", ignore_errors=True)
                measured = run_measured(words, folder=folder)
                seen[kind].append((measured.wall, measured.cpu))
        size = sum(file.stat().st_size for file in files)
    print(f"{len(files)} files, {size:,} bytes, median of {options.rounds}")
    medians = {
        kind: tuple(statistics.median(column) for column in zip(*rows, strict=True))
        for kind, rows in seen.items()
    }
    for kind, (wall, cpu) in medians.items():
        print(f"{kind:6} wall {wall:7.2f} s   CPU {cpu:6.2f} s")
    (core_wall, core_cpu), (flow_wall, flow_cpu) = medians["core"], medians["flow"]
    print(f"orchestration: wall x{flow_wall / core_wall:.3f}, CPU +{flow_cpu - core_cpu:.2f} s")
    print(f"no-op over the bare flow: CPU x{medians['no-op'][1] / medians['floor'][1]:.2f}")


if __name__ == "__main__":
    main()
