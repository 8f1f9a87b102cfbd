"""One signal ends a command that waits for a server which never answers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.doubles.silent_models import MODEL, silent_server

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .conftest import History, Ran

pytestmark = pytest.mark.timeout(300)

INDEX, RUN, BATCH = ["index"], ["run", "Who is there?"], ["batch", "--input", "asked.jsonl"]


@pytest.mark.parametrize(
    ("words", "number"),
    [
        (INDEX, signal.SIGTERM),
        (INDEX, signal.SIGINT),
        (INDEX, signal.SIGHUP),
        ([*INDEX, "--ephemeral"], signal.SIGTERM),
        (RUN, signal.SIGTERM),
        (BATCH, signal.SIGTERM),
        (BATCH, signal.SIGINT),
    ],
)
def test_one_signal_ends_a_command_that_waits_for_its_model(
    words: list[str],
    number: signal.Signals,
    *,
    tmp_path: Path,
    command_environment: dict[str, str],
    merganser: Callable[..., Ran],
    history: History,
) -> None:
    name = f"{tmp_path.name}-{words[0]}"
    (tmp_path / "words.txt").write_text("herons stand in the water\n" * 50)
    (tmp_path / "asked.jsonl").write_text('{"id": "1", "question": "Who is there?"}\n')
    with silent_server() as server:
        (tmp_path / f"{name}.yaml").write_text(
            f"providers: {{mock: {{base_url: '{server.url}'}}}}\n"
            "rag: {words: {docs: [./words.txt], strategies:"
            f" [{{type: chunked-embeddings, embedding_model: mock/{MODEL}}}]}}}}\n"
            f"agents: {{root: {{model: mock/{MODEL}, instruction: Answer.}}}}\n"
        )
        command = [sys.executable, "-P", "-m", "merganser", words[0], f"{name}.yaml", *words[1:]]
        started = subprocess.Popen(
            command,
            cwd=tmp_path,
            env=command_environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert server.asked.wait(120), started.kill() or started.communicate()
        os.kill(started.pid, number)
        try:
            out, err = started.communicate(timeout=60)
        finally:
            started.kill()

    assert started.returncode == 128 + number
    assert "Traceback" not in out + err
    assert "kept" in err
    if "--ephemeral" not in words:
        # The next command settles the tasks that were cut off.
        merganser("index", f"{name}.yaml", "--base-url", "http://127.0.0.1:1", cwd=tmp_path)
        found = history.ask(
            "flow_runs/filter", {"flow_runs": {"name": {"like_": name}}, "sort": "START_TIME_DESC"}
        )
        states = {run["state_name"] for run in found}
        assert "Cancelled" in states
        assert "Running" not in states
