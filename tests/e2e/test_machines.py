"""Several machines: own folders, own homes, and nothing in common but Postgres and a shard folder.

Each is a process with a ``MERGANSER_HOME`` (and so a ``PREFECT_HOME``) and a working folder of its
own, the documents copied into it; the Prefect server is another one, on Postgres.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from merganser.config.load import load_config
from merganser.config.rag_definition import resolve_rag
from merganser.services.supervisor import free_port, process_alive

from .test_elsewhere import index_here
from .test_kills import rows_of
from .test_schedules import Api, running, wait_until, with_group

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.doubles import FaultyRunner

    from .conftest import Ran

pytestmark = pytest.mark.timeout(300)

SHARDS = 4
LOGIN = "fleet:of-all-machines"

CONFIG = """\
rag:
  logs:
    docs: [./src]
    strategies:
      - type: chunked-embeddings
        embedding_model: dmr/ai/all-minilm
        chunking: {{size: 40, overlap: 0}}
  words: {{docs: [./src], strategies: [{{type: bm25}}]}}
flows:
  embed: {{type: index, rag: logs, concurrency: 1, shards: {shards}}}
  count: {{type: index, rag: words}}
"""


@dataclass(frozen=True)
class Machine:
    """One of the machines.

    Attributes:
        home: Its ``MERGANSER_HOME``.
        folder: Where its copy of config and documents is.
        shards: The folder that all of them have.
        environment: What its processes see.
    """

    home: Path
    folder: Path
    shards: Path
    environment: dict[str, str]

    @property
    def index(self) -> Path:
        return self.folder / ".merganser" / "logs"


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """Run a Postgres of Debian's packages; where CI runs, a missing one is a failure."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not programs:
        assert "CI" not in os.environ, "CI installs postgresql in .ci/run"
        pytest.skip("postgresql is not installed")
    folder = Path(tempfile.mkdtemp(prefix="merganser-pg-"))
    user = "postgres" if os.geteuid() == 0 else None  # it refuses to be root
    if user:
        shutil.chown(folder, user)

    def program(name: str, *words: str) -> None:
        command = [str(programs[-1].with_name(name)), "-D", str(folder / "data"), *words]
        subprocess.run(command, check=True, capture_output=True, user=user, cwd=folder)

    port = free_port()
    options = f"-h 127.0.0.1 -p {port} -k {folder} -c fsync=off"
    program("initdb", "-A", "trust", "-U", "prefect", "--no-sync")
    program("pg_ctl", "-w", "-l", str(folder / "log"), "-o", options, "start")
    yield f"postgresql://prefect@127.0.0.1:{port}/postgres"
    program("pg_ctl", "-m", "immediate", "stop")
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def api(
    postgres: str, tmp_path_factory: pytest.TempPathFactory, command_environment: dict[str, str]
) -> Iterator[Api]:
    """The Prefect server of all machines."""
    home = tmp_path_factory.mktemp("server")
    environment = {
        **command_environment,
        "MERGANSER_HOME": str(home),
        "MERGANSER_DATABASE_URL": postgres,
        "PREFECT_SERVER_API_AUTH_STRING": LOGIN,
    }

    command = [sys.executable, "-P", "-m", "merganser", "server", "--background", "--json"]
    started = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert started.returncode == 0, started.stderr
    told = json.loads(started.stdout)
    yield Api(told["url"], {"Authorization": told["authorization"]})
    # Not by --stop, which asks the server first: it may be too busy to answer at once.
    pid: int = json.loads((home / "prefect.json").read_text())["pid"]
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not process_alive(pid), 30)


@pytest.fixture(scope="module")
def machine(
    api: Api, tmp_path_factory: pytest.TempPathFactory, command_environment: dict[str, str]
) -> Callable[[str], Machine]:
    """Return a function that sets a machine up."""
    shards = tmp_path_factory.mktemp("shards")

    def set_up(name: str) -> Machine:
        home, folder = (tmp_path_factory.mktemp(f"{name}-{what}") for what in ("home", "work"))
        (folder / "fleet.yaml").write_text(CONFIG.format(shards=shards))
        (folder / "src").mkdir()
        for number in range(SHARDS):
            # Its size is estimated at 400 chunks: each file is a shard.
            text = "".join(f"{number} of {line} ducks dive.\n" for line in range(390))
            (folder / "src" / f"log{number}.txt").write_text(text)
        environment = {
            **command_environment,
            "MERGANSER_HOME": str(home),
            "MERGANSER_CONFIG_PATH": str(folder),
            "PREFECT_API_URL": f"{api.url}/api",
            "PREFECT_API_AUTH_STRING": LOGIN,
        }
        return Machine(home, folder, shards, environment)

    return set_up


def test_four_flow_processes_at_once_all_complete(
    merganser: Callable[..., Ran], machine: Callable[[str], Machine], api: Api
) -> None:
    machines = [machine(f"one-of-four-{number}") for number in range(4)]

    def run(one: Machine) -> Ran:
        return merganser("index", "fleet.yaml", "count", cwd=one.folder, **one.environment)

    with ThreadPoolExecutor(4) as pool:
        ended = list(pool.map(run, machines))

    assert [ran.code for ran in ended] == [0] * 4, ended
    assert [run["state_type"] for run in api.runs("fleet.count")] == ["COMPLETED"] * 4


def test_a_run_that_dies_on_one_machine_is_finished_by_another(
    merganser: Callable[..., Ran],
    machine: Callable[[str], Machine],
    api: Api,
    runner: FaultyRunner,
) -> None:
    one, other, deployer = machine("one"), machine("other"), machine("deployer")
    here = resolve_rag(load_config(other.folder / "fleet.yaml"), "logs").indexes[0]
    undisturbed = replace(here, folder=deployer.folder / "undisturbed")
    before = runner.counters.texts_embedded
    asyncio.run(index_here(undisturbed, runner.url))
    needed = runner.counters.texts_embedded - before
    deployed = merganser(
        "deploy", "fleet.yaml", "--apply", cwd=deployer.folder, **deployer.environment
    )
    assert deployed.code == 0, deployed.err
    (deployer.folder / "fleet.yaml").unlink()  # another machine's folder is not there
    before = runner.counters.texts_embedded

    with running(one.environment, one.folder, "worker") as worker:
        first = api.start("fleet.embed/fleet")
        assert wait_until(lambda: any(one.shards.rglob("*-0.*")), 60, pause=0.02)
        (mark,) = (one.home / "runs").glob("*.json")
        os.kill(json.loads(mark.read_text())["pid"], signal.SIGKILL)
        assert wait_until(lambda: api.state_of(first)["type"] == "CRASHED", 60, pause=0.2)
        with_group(worker.pid, signal.SIGKILL)
        worker.wait()
    paid = runner.counters.texts_embedded - before
    assert 0 < paid < needed, "it was killed in the middle"
    with running(other.environment, other.folder, "worker"):
        assert wait_until(lambda: api.runs("fleet.embed", "COMPLETED"), 120)

    assert not (one.index / "CURRENT").exists()
    expected_rows, expected_vectors = rows_of(undisturbed.folder)
    rows, vectors = rows_of(other.index)
    assert rows == expected_rows
    assert (vectors == expected_vectors).all()
    # Drift texts of two runs, the shard in work, and requests of its end that were under way.
    assert runner.counters.texts_embedded - before <= needed + needed // SHARDS * 2
    states = [run["state_type"] for run in api.runs("fleet.embed") if run["start_time"]]
    assert states == ["CRASHED", "COMPLETED"]
    (finished,) = api.runs("fleet.embed", "COMPLETED")
    assert "restart:1" in finished["tags"]
