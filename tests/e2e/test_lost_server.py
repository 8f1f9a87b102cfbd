"""A command whose Prefect server is lost in mid-run ends its work, and its record comes later."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from merganser.services.prefect_server import server_login
from tests.doubles.relay import Relay, relay_to
from tests.doubles.wrong_servers import wrong_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.doubles.relay import Loss

    from .conftest import History, Ran

pytestmark = pytest.mark.timeout(600)

STAGES = {f"{what} words" for what in ("survey", "build", "publish", "report")} | {"embed 0"}


@pytest.fixture
def relay(history_url: str) -> Iterator[Relay]:
    with relay_to(history_url) as started:
        yield started


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "words.txt").write_text("herons stand in the water\n" * 50)
    (tmp_path / "lost.yaml").write_text(
        "rag: {words: {docs: [./words.txt], strategies: [{type: bm25}]}}\n"
    )
    return tmp_path


@pytest.mark.parametrize("loss", ["refuse", "500"])
@pytest.mark.parametrize("lost_at", ["/flows", "/artifacts", "/set_state", "/events"])
def test_an_index_run_ends_its_work_and_its_record_is_sent_later(
    loss: Loss,
    lost_at: str,
    *,
    relay: Relay,
    project: Path,
    merganser: Callable[..., Ran],
    history: History,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    home = tmp_path_factory.mktemp("lost")
    there = {
        "PREFECT_API_URL": relay.url,
        "PREFECT_API_AUTH_STRING": server_login(),
        "MERGANSER_HOME": str(home),
    }
    (project / "lost.yaml").rename(project / f"{project.name}.yaml")
    file, flow = f"{project.name}.yaml", f"{project.name}.index-words"
    relay.loss, relay.lost_at = loss, lost_at

    done = merganser("index", file, cwd=project, **there)
    found = merganser("search", file, "herons", "--json", cwd=project, **there)
    kept = list((home / "records").glob("*.jsonl"))
    relay.mend()
    again = merganser("index", file, cwd=project, **there)

    assert done.code == 0, done
    assert "Traceback" not in done.err
    assert "the record of this run is kept" in done.err
    assert len(kept) == 1
    assert found.json["rags"]["words"]["hits"]
    assert again.code == 0, again
    assert not list((home / "records").glob("*.jsonl"))
    _, run = history.runs(flow)
    assert run["state_type"] == "COMPLETED"
    tasks = history.tasks(run)
    assert set(tasks) == STAGES
    assert {task["state_type"] for task in tasks.values()} == {"COMPLETED"}
    assert set(history.artifacts(run)) == {"index-words", "plan-words"}


@pytest.mark.parametrize("words", [["index"], ["deploy", "--apply"], ["serve"], ["doctor"]])
@pytest.mark.parametrize("kind", ["hanging", "html", "broken", "locked"])
def test_a_wrong_server_is_one_message(
    words: list[str], kind: str, project: Path, merganser: Callable[..., Ran]
) -> None:
    with wrong_server(kind) as url:
        done = merganser(words[0], "lost.yaml", *words[1:], cwd=project, PREFECT_API_URL=url)

    said = done.out + done.err
    assert done.code == 1
    assert "Traceback" not in said
    assert "PREFECT_API_" in said
    assert len(done.err.splitlines()) <= 2


def test_without_history_no_server_is_started_and_none_is_asked(
    project: Path, merganser: Callable[..., Ran], tmp_path_factory: pytest.TempPathFactory
) -> None:
    home = tmp_path_factory.mktemp("none")

    with wrong_server("hanging") as url:
        there = {"PREFECT_API_URL": url, "MERGANSER_HOME": str(home)}
        done = merganser("index", "lost.yaml", "--no-history", cwd=project, **there)
        again = merganser("index", "lost.yaml", "--ephemeral", "--json", cwd=project, **there)

    assert done.code == 0, done
    assert again.json["indexes"][0]["status"] == "unchanged"
    assert not {"prefect.json", "prefect.log", "records", "runs"} & {f.name for f in home.iterdir()}
