"""An index run whose model server restarts and forgets, and one whose time is over."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import duckdb
import pytest

from merganser.indexing.drift import DRIFT_TEXTS
from tests.doubles.model_server import EMBEDDER, Double, Host

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.e2e.conftest import Ran

EMBEDDINGS = "/engines/v1/embeddings"
REQUESTS, TEXTS = 3, 4  # under way at a time, and in each of them
CONFIG = f"""\
rag:
  notes:
    docs: [./notes]
    strategies:
      - type: chunked-embeddings
        embedding_model: dmr/{EMBEDDER}
        embedding_batch_size: {TEXTS}
        max_embedding_concurrency: {REQUESTS}
        database: ./index
        chunking: {{size: 200, overlap: 0}}
"""


@pytest.fixture
def double() -> Iterator[Double]:
    host = Host()
    host.double = Double(url=host.url, heeds_configuration=True, delay=0.01)
    host.double.add_model(EMBEDDER)
    yield host.double
    host.stop()


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    (tmp_path / "notes.yaml").write_text(CONFIG)
    (tmp_path / "notes").mkdir()
    for number in range(400):
        (tmp_path / "notes" / f"{number:04d}.txt").write_text(f"note {number}: {number * number}\n")
    return tmp_path


def vectors_of(folder: Path) -> list[Any]:
    (segment,) = (folder / "index").glob("s*.duckdb")
    with duckdb.connect(str(segment), read_only=True) as connection:
        found = "SELECT hash_high, hash_low, v FROM chunks JOIN vectors USING (row) ORDER BY ALL"
        return connection.execute(found).fetchall()


def paid_again(double: Double) -> int:
    texts = (text for one in double.asked(EMBEDDINGS) for text in one.body["input"])
    counts = Counter(text for text in texts if not text.endswith(tuple(DRIFT_TEXTS)))
    return sum(count - 1 for count in counts.values())


@pytest.mark.slow
def test_three_restarts_of_a_server_that_forgets_leave_the_vectors_of_an_undisturbed_run(
    merganser: Callable[..., Ran], double: Double, notes: Path
):
    def index(*options: str) -> Ran:
        return merganser("index", "notes.yaml", "--base-url", double.url, *options, cwd=notes)

    undisturbed = index("--json")
    assert undisturbed.code == 0, undisturbed.err
    expected = vectors_of(notes)
    (notes / "index").rename(notes / "before")
    double.seen.clear()
    double.configs.clear()
    double.restarts_at.update(double.inferences + at for at in (20, 50, 80))

    disturbed = index("--json")

    assert disturbed.code == 0, disturbed.err
    assert disturbed.json["indexes"][0]["texts_embedded"] == 400
    assert vectors_of(notes) == expected
    assert 0 < paid_again(double) <= 3 * REQUESTS * TEXTS


@pytest.mark.slow
def test_a_run_whose_time_is_over_publishes_nothing_and_the_next_one_goes_on(
    merganser: Callable[..., Ran], double: Double, notes: Path
):
    double.delay = 0.5

    stopped = merganser(
        "index", "notes.yaml", "--base-url", double.url, "--max-time", "6s", "--json", cwd=notes
    )
    double.delay = 0.0
    done = merganser("index", "notes.yaml", "--base-url", double.url, "--json", cwd=notes)

    assert stopped.code == 3, stopped.err
    assert stopped.json["indexes"] == []
    assert "stopped by its time limit" in stopped.json["stopped"][0]
    assert done.code == 0, done.err
    report = done.json["indexes"][0]
    assert report["texts_embedded"] + report["texts_reused"] == 400
    assert paid_again(double) <= REQUESTS * TEXTS
