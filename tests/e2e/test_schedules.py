"""Deploy, serve, worker: runs that begin by themselves, on a real server, in real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from merganser.services.supervisor import merganser_home, process_alive

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from .conftest import Ran

pytestmark = pytest.mark.timeout(600)

CONFIG = """\
rag: {{code: {{docs: [./src], strategies: [{{type: bm25}}]}}}}
flows:
  often: {{type: index, schedule: {{{schedule}}}}}
  then: {{type: index, after: often}}
"""


def write(folder: Path, name: str, schedule: str, *, extra: str = "") -> str:
    (folder / "src").mkdir(exist_ok=True)
    (folder / "src" / "a.md").write_text("# Ducks\n")
    (folder / f"{name}.yaml").write_text(CONFIG.format(schedule=schedule) + extra)
    return f"{name}.yaml"


class Api:
    """The server's history, asked over HTTP."""

    def __init__(self, url: str, login: dict[str, str]) -> None:
        self.url = url
        self.login = login

    def post(self, path: str, body: dict[str, Any]) -> Any:
        address, tries = f"{self.url}/api/{path}", 0
        answer = httpx.post(address, json=body, headers=self.login, timeout=30.0, trust_env=False)
        while answer.status_code == 503 and tries < 10:
            # That is how SQLite's lock surfaces; Prefect's own client tries again too.
            time.sleep(0.5)
            tries += 1
            answer = httpx.post(
                address, json=body, headers=self.login, timeout=30.0, trust_env=False
            )
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def runs(self, flow: str, *states: str) -> list[dict[str, Any]]:
        wanted: dict[str, Any] = {
            "flows": {"name": {"any_": [flow]}},
            "sort": "EXPECTED_START_TIME_ASC",
        }
        if states:
            wanted["flow_runs"] = {"state": {"type": {"any_": list(states)}}}
        return self.post("flow_runs/filter", wanted)

    def deployment(self, full_name: str) -> dict[str, Any]:
        flow, name = full_name.split("/")
        wanted = {"flows": {"name": {"any_": [flow]}}, "deployments": {"name": {"any_": [name]}}}
        (found,) = self.post("deployments/filter", wanted)
        return found

    def start(self, full_name: str) -> str:
        found = self.deployment(full_name)
        return self.post(f"deployments/{found['id']}/create_flow_run", {})["id"]

    def state_of(self, run_id: str) -> dict[str, Any]:
        address = f"{self.url}/api/flow_runs/{run_id}"
        answer = httpx.get(address, headers=self.login, timeout=30.0, trust_env=False)
        return answer.raise_for_status().json()["state"]


@pytest.fixture
def api(history_url: str, login: dict[str, str]) -> Api:
    return Api(history_url, login)


def wait_until(condition: Callable[[], object], seconds: float, *, pause: float = 0.5) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
    return True


@contextmanager
def running(
    environment: dict[str, str], folder: Path, *words: str
) -> Generator[subprocess.Popen[str]]:
    """Run a command of ours in its own process group, and leave nothing of it behind."""
    with (folder / "command.log").open("a") as log:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "merganser", *words],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=60)
            finally:
                with_group(process.pid, signal.SIGKILL)


def with_group(pid: int, number: int) -> None:
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        return


def test_deploying_twice_changes_nothing_and_removed_flows_retire_when_told(
    merganser: Callable[..., Ran], tmp_path: Path, api: Api
) -> None:
    file = write(tmp_path, "twice", 'cron: "0 3 * * *", timezone: Europe/Berlin')

    shown = merganser("deploy", file, "--dry-run", "--json", cwd=tmp_path)
    assert [row["action"] for row in shown.json] == ["create", "create"]
    assert api.runs("twice.often") == []

    first = merganser("deploy", file, "--json", cwd=tmp_path)
    before = api.deployment("twice.often/twice")
    again = merganser("deploy", file, "--apply", "--json", cwd=tmp_path)
    after = api.deployment("twice.often/twice")
    assert (first.code, again.code) == (0, 0)
    assert [row["action"] for row in again.json] == ["unchanged", "unchanged"]
    assert before["updated"] == after["updated"]
    assert before["entrypoint"] == "merganser.flows.pipelines.twice__often"
    assert set(before["parameter_openapi_schema"]["properties"]) == {
        "full",
        "repair",
        "pull",
        "base_url",
    }
    assert before["concurrency_options"]["collision_strategy"] == "CANCEL_NEW"
    assert before["schedules"][0]["schedule"]["timezone"] == "Europe/Berlin"

    assert wait_until(lambda: api.runs("twice.often", "SCHEDULED"), 60)
    write(tmp_path, "twice", 'cron: "0 4 * * *", timezone: Europe/Berlin')
    changed = merganser("deploy", file, "--apply", cwd=tmp_path)
    assert "cron 0 3 * * * (Europe/Berlin) -> cron 0 4 * * *" in changed.out
    assert wait_until(lambda: api.runs("twice.often", "SCHEDULED"), 60)
    due = [run["expected_start_time"] for run in api.runs("twice.often", "SCHEDULED")]
    assert len(due) == len(set(due))
    assert {when[11:13] for when in due} <= {"02", "03"}, "04:00 in Berlin, never the old 03:00"

    (tmp_path / file).write_text(
        (tmp_path / file).read_text().replace("  then: {type: index, after: often}\n", "")
    )
    kept = merganser("deploy", file, cwd=tmp_path)
    assert "- retire" in kept.out
    assert api.deployment("twice.then/twice")
    merganser("deploy", file, "--apply", cwd=tmp_path)
    assert [row["action"] for row in merganser("deploy", file, "--json", cwd=tmp_path).json] == [
        "unchanged"
    ]


def test_schedules_fire_chains_follow_and_a_killed_worker_holds_no_slot(
    command_environment: dict[str, str], tmp_path: Path, api: Api
) -> None:
    file = write(tmp_path, "alive", "interval: 10s")
    with running(command_environment, tmp_path, "serve", file) as serving:
        assert wait_until(lambda: api.runs("alive.often", "COMPLETED"), 150), log(tmp_path)
        assert wait_until(lambda: api.runs("alive.then", "COMPLETED"), 60), log(tmp_path)
        assert "next: " in log(tmp_path)

        # Killed together in the middle of a run, as by a power cut.
        assert wait_until(lambda: begun(api, "alive.often"), 60, pause=0.01), log(tmp_path)
        with_group(serving.pid, signal.SIGKILL)
        serving.wait(timeout=30)
    (dead,) = api.runs("alive.often", "RUNNING")
    assert not process_alive(json.loads(mark_of(dead).read_text())["pid"])

    killed = datetime.now(UTC)
    with running(command_environment, tmp_path, "serve", file):
        # The two scheduled runs that come next, beside the restart of the dead run.
        assert wait_until(lambda: len(fired_since(api, "alive.often", killed)) >= 2, 120), log(
            tmp_path
        )
        assert api.state_of(dead["id"])["type"] == "CRASHED"
        assert wait_until(lambda: unfollowed(api, "alive.often", "alive.then") <= 1, 60)
    # SIGTERM has ended it in peace.
    assert "stopped" in log(tmp_path)
    assert "Traceback" not in log(tmp_path)
    assert_each_followed_at_most_once(api, "alive.often", "alive.then")


def mark_of(run: dict[str, Any]) -> Path:
    """Return the file that a run leaves while it lives."""
    return merganser_home() / "runs" / f"{run['id']}.json"


def begun(api: Api, flow: str) -> bool:
    """Whether a run of the flow is in the middle of its work."""
    marks = (merganser_home() / "runs").glob("*.json")
    return any(marks) and any(mark_of(run).exists() for run in api.runs(flow, "RUNNING"))


def fired_since(api: Api, flow: str, moment: datetime) -> list[dict[str, Any]]:
    """Return the completed runs of a flow that its schedule made, due after a moment."""
    return [
        run
        for run in api.runs(flow, "COMPLETED")
        if run["auto_scheduled"] and datetime.fromisoformat(run["expected_start_time"]) > moment
    ]


def unfollowed(api: Api, upstream: str, downstream: str) -> int:
    """Count the completed runs that have started nothing, so far."""
    return len(api.runs(upstream, "COMPLETED")) - len(api.runs(downstream))


def assert_each_followed_at_most_once(api: Api, upstream: str, downstream: str) -> None:
    deployment = api.deployment(f"{downstream}/{upstream.partition('.')[0]}")["id"]
    followed = [run["idempotency_key"] for run in api.runs(downstream)]
    completed = {f"after-{run['id']}-{deployment}" for run in api.runs(upstream, "COMPLETED")}
    assert len(followed) == len(set(followed))
    assert set(followed) <= completed


def test_a_worker_refuses_another_spec_than_was_deployed_and_cancels_a_second_run(
    command_environment: dict[str, str],
    merganser: Callable[..., Ran],
    tmp_path: Path,
    api: Api,
) -> None:
    file = write(tmp_path, "drift", 'cron: "0 3 1 1 *"')
    merganser("deploy", file, "--apply", "--pool", "drifting", cwd=tmp_path)
    (tmp_path / "elsewhere").mkdir()
    with running(
        command_environment, tmp_path / "elsewhere", "worker", "--pool", "drifting", "--limit", "4"
    ):
        pair = [api.start("drift.often/drift"), api.start("drift.often/drift")]
        final = {"COMPLETED", "CANCELLED", "FAILED", "CRASHED"}
        ended = wait_until(lambda: all(api.state_of(one)["type"] in final for one in pair), 120)
        assert ended, log(tmp_path / "elsewhere")
        assert sorted(api.state_of(one)["type"] for one in pair) == ["CANCELLED", "COMPLETED"]

        write(tmp_path, "drift", 'cron: "0 4 1 1 *"')
        drifted = api.start("drift.often/drift")
        assert wait_until(lambda: api.state_of(drifted)["type"] in final, 120)
        state = api.state_of(drifted)
        assert state["type"] == "FAILED"
        assert "redeploy: merganser deploy" in state["message"]


def test_changed_documents_start_a_run(
    command_environment: dict[str, str], tmp_path: Path, api: Api
) -> None:
    file = write(tmp_path, "seen", "watch: true")
    with running(command_environment, tmp_path, "serve", file):
        assert wait_until(lambda: api.runs("seen.often", "COMPLETED"), 120), log(tmp_path)
        (tmp_path / "src" / "b.md").write_text("# Geese\n")
        assert wait_until(lambda: len(api.runs("seen.often", "COMPLETED")) >= 2, 120), log(tmp_path)
    history = list((tmp_path / ".merganser" / "code").glob("*.duckdb"))
    assert history


def log(folder: Path) -> str:
    return (folder / "command.log").read_text()


def test_wrong_usage_is_told(merganser: Callable[..., Ran], tmp_path: Path) -> None:
    file = write(tmp_path, "usage", "interval: 1h")

    both = merganser("deploy", file, "--apply", "--dry-run", cwd=tmp_path)
    nothing = merganser("serve", cwd=tmp_path)

    assert (both.code, nothing.code) == (2, 2)
    assert "exclude each other" in both.err
    assert json.dumps("Traceback") not in both.err + nothing.err
