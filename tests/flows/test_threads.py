"""An index flow keeps to its limit of threads, in its tasks too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import duckdb
import pytest

from merganser.config.flow_definition import IndexFlow, resolve_flow
from merganser.config.load import load_config
from merganser.flows.compile import compile_flow
from merganser.flows.index import shard_workers

if TYPE_CHECKING:
    from pathlib import Path

    from merganser.config.load import Config

CONFIG = """
rag:
  birds:
    docs: [./docs]
    strategies: [{type: bm25, chunking: {size: 600, overlap: 0}}]
flows:
  usual: {type: index}
  limited: {type: index, threads: 3}
  many: {type: index, threads: 3, concurrency: 9}
  few: {type: index, threads: 3, concurrency: 2}
"""


@pytest.fixture
def config(tmp_path: Path) -> Config:
    (tmp_path / "docs").mkdir()
    for number in range(20):
        (tmp_path / "docs" / f"{number}.md").write_text(f"# Bird {number}\n\nIt eats fish.\n")
    path = tmp_path / "birds.yaml"
    path.write_text(CONFIG)
    return load_config(path)


@pytest.mark.parametrize(
    ("variable", "workers"),
    [("", (4, 3, 3, 2)), ("2", (2, 3, 3, 2)), ("1", (1, 3, 3, 2))],
)
def test_no_more_tasks_run_at_a_time(
    config: Config, monkeypatch: pytest.MonkeyPatch, variable: str, workers: tuple[int, ...]
):
    monkeypatch.setenv("MERGANSER_THREADS", variable)
    found: list[int] = []
    pools: list[int] = []

    for name in ("usual", "limited", "many", "few"):
        flow = resolve_flow(config, name)
        assert isinstance(flow, IndexFlow)
        found.append(shard_workers(flow.spec))
        runner: Any = compile_flow(config, flow).task_runner
        pools.append(runner._max_workers)

    assert (tuple(found), tuple(pools)) == (workers, workers)


@pytest.mark.usefixtures("prefect_server")
def test_every_connection_of_a_run_is_limited(config: Config, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MERGANSER_THREADS", "7")
    connect, threads = duckdb.connect, list[int]()

    def watched(*args: Any, **options: Any) -> duckdb.DuckDBPyConnection:
        connection = connect(*args, **options)
        [(found,)] = connection.execute("SELECT current_setting('threads')").fetchall()
        threads.append(found)
        return connection

    monkeypatch.setattr(duckdb, "connect", watched)
    limited: Any = compile_flow(config, resolve_flow(config, "limited"))
    usual: Any = compile_flow(config, resolve_flow(config, "usual"))

    limited()
    by_the_flow = set(threads)
    threads.clear()
    usual(full=True)

    assert (by_the_flow, set(threads)) == ({3}, {7})
