"""What a model has answered is kept, whenever the run ends: only what was under way is paid again.

The seed is printed with a failure; ``MERGANSER_KILL_SEED`` sets it.
"""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from merganser.embedding.embedder import Embedder
from merganser.errors import ProtocolError
from merganser.indexing.drift import DRIFT_TEXTS
from merganser.indexing.run import index_once_async
from merganser.models.client import ModelRunner
from tests.core.indexing.paid_run import MODEL, REQUESTS, TEXTS, definition
from tests.doubles.model_server import Double, Host

if TYPE_CHECKING:
    from collections.abc import Iterator

_SEED = int(os.environ.get("MERGANSER_KILL_SEED", "20261130"))
_KILLS = 6
_EMBEDDINGS = "/engines/v1/embeddings"
_ROOT = Path(__file__).parents[3]


@pytest.fixture
def double() -> Iterator[Double]:
    host = Host()
    host.double = Double(url=host.url, delay=0.02)
    host.double.add_model(MODEL.model)
    yield host.double
    host.stop()


@pytest.fixture
def base(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    for number in range(12):
        words = (f"file {number} paragraph {part} " + "word " * 25 for part in range(40))
        (folder / f"{number}.txt").write_text("\n\n".join(words))
    return folder


def asked(double: Double) -> list[str]:
    """Return the texts that the server was given, but for those of the drift checks."""
    texts = (text for one in double.asked(_EMBEDDINGS) for text in one.body["input"])
    return [text for text in texts if not text.endswith(tuple(DRIFT_TEXTS))]


def paid_again(double: Double) -> int:
    return sum(count - 1 for count in Counter(asked(double)).values())


@pytest.mark.slow
def test_a_run_that_is_killed_pays_again_for_the_requests_under_way_alone(
    double: Double, base: Path
):
    draw = random.Random(_SEED)  # noqa: S311 - moments to die at
    command = [sys.executable, "-m", "tests.core.indexing.paid_run", double.url, str(base)]
    for _ in range(_KILLS):
        until = len(double.seen) + 10 + draw.randrange(30)
        with subprocess.Popen(command, cwd=_ROOT) as run:
            while len(double.seen) < until and run.poll() is None:
                time.sleep(0.001)
            run.kill()

    subprocess.run(command, cwd=_ROOT, check=True)

    texts = set(asked(double))
    assert len(texts) > 300
    assert paid_again(double) <= _KILLS * REQUESTS * TEXTS, f"seed {_SEED}"


async def index(double: Double, base: Path) -> None:
    async with ModelRunner(double.url, env={}) as client:
        served = await client.model(MODEL.model)
        assert served is not None
        embedder = Embedder(
            client, MODEL, served, dimensions=None, batch_size=TEXTS, concurrency=REQUESTS
        )
        await index_once_async(definition(base), embedder)


def test_a_run_that_fails_keeps_what_was_answered_before(double: Double, base: Path):
    wrong: dict[str, Any] = {"data": []}
    before = 8 + 30  # requests of the drift texts, and of the documents
    double.delay = 0.0

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(lambda: asyncio.run(index(double, base)))
        while len(double.asked(_EMBEDDINGS)) < before:
            time.sleep(0.001)
        double.fail(_EMBEDDINGS, 200, wrong)
        with pytest.raises(ProtocolError):
            running.result()
    asyncio.run(index(double, base))

    assert len(asked(double)) > 300
    assert paid_again(double) <= REQUESTS * TEXTS
