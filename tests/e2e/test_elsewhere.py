"""Shards on a Dask cluster: processes of their own, one publisher, the same index."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

from merganser.config.load import load_config
from merganser.config.rag_definition import resolve_rag
from merganser.config.spec_flows import RunnerSpec
from merganser.embedding.embedder import Embedder
from merganser.errors import PlanError
from merganser.indexing.run import index_once_async
from merganser.models.address import resolve_address
from merganser.models.client import ModelRunner

from .test_kills import rows_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from merganser.config.index_definition import IndexDefinition
    from tests.doubles import FaultyRunner

    from .conftest import History, Ran

pytestmark = pytest.mark.timeout(300)

CONFIG = """\
rag:
  logs:
    docs: [./src]
    strategies:
      - type: chunked-embeddings
        embedding_model: dmr/ai/all-minilm
        chunking: {size: 40, overlap: 0}
flows:
  there: {type: index, runner: dask, concurrency: 2, shards: ./shards}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "elsewhere.yaml").write_text(CONFIG)
    (tmp_path / "src").mkdir()
    for number in range(2):
        # Its size is estimated at 300 chunks, so that each file is a shard; half of them are equal.
        text = "".join(f"{line % 175 or number} ducks dive deeper.\n" for line in range(320))
        (tmp_path / "src" / f"log{number}.txt").write_text(text)
    return tmp_path


@pytest.mark.skipif(find_spec("prefect_dask") is None, reason="merganser[dask] is not installed")
def test_dask_gives_the_same_index_row_for_row(
    merganser: Callable[..., Ran], folder: Path, history: History, runner: FaultyRunner
) -> None:
    index = resolve_rag(load_config(folder / "elsewhere.yaml"), "logs").indexes[0]
    here = replace(index, folder=folder / "here")
    asyncio.run(index_here(here, runner.url))

    there = merganser("index", "elsewhere.yaml", "there", cwd=folder)

    assert there.code == 0, there.err
    expected_rows, expected_vectors = rows_of(here.folder)
    rows, vectors = rows_of(index.folder)
    assert rows == expected_rows
    assert (vectors == expected_vectors).all()
    (run,) = history.runs("elsewhere.there")
    shards = {name for name in history.tasks(run, last="build logs") if name[:6] == "embed "}
    assert len(shards) >= 2
    edges = history.edges(run)
    for shard in shards:
        assert {("survey logs", shard), (shard, "confirm ai/all-minilm")} <= edges
    assert ("confirm ai/all-minilm", "build logs") in edges
    assert list((folder / "shards" / "logs").glob("*/*-0.*")), "journals are left for others"
    assert list((folder / "shards" / "logs" / "runs").glob("*")) == []


async def index_here(index: IndexDefinition, url: str) -> None:
    """Index without Prefect and in one process."""
    assert index.embedding is not None
    async with ModelRunner(await resolve_address(base_url=url)) as client:
        served = await client.model(index.embedding.model.model)
        assert served is not None
        embedder = Embedder(client, index.embedding.model, served, dimensions=None)
        await index_once_async(index, embedder)


@pytest.mark.skipif(find_spec("prefect_ray") is not None, reason="merganser[ray] is installed")
def test_a_runner_that_is_not_installed_is_told_before_anything_runs() -> None:
    from merganser.flows.remote import require_runner

    with pytest.raises(PlanError, match=r"'runner: ray' needs .* pip install '\.\[ray\]'"):
        require_runner(RunnerSpec(type="ray"))


def test_where_ci_runs_dask_is_there() -> None:
    assert find_spec("prefect_dask") or "CI" not in os.environ
