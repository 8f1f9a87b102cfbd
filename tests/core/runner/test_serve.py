from __future__ import annotations

import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import httpx
import pytest

from merganser.runner.embedded_runner import EmbeddedRunner, RunnerStartError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.doubles import FaultyRunner


def test_serves_until_interrupted_and_leaves_no_traceback() -> None:
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "merganser", "runner", "--port", "0"],
        stderr=subprocess.PIPE,
        text=True,
    ) as program:
        assert program.stderr is not None
        url = program.stderr.readline().rpartition(" at ")[2].strip()
        models = httpx.get(f"{url}/models", trust_env=False).json()
        program.send_signal(signal.SIGINT)
        _, errors = program.communicate(timeout=30)

    tags = sorted(tag for model in models for tag in model["tags"])
    assert tags == ["docker.io/ai/all-minilm:latest", "docker.io/ai/smollm2:latest"]
    assert url.startswith("http://127.0.0.1:")
    assert "Traceback" not in errors
    assert program.returncode == 130


def test_a_taken_port_is_a_plain_error(runner: FaultyRunner) -> None:
    port = httpx.URL(runner.url).port
    assert port is not None

    with pytest.raises(RunnerStartError, match=f"cannot listen on 127.0.0.1:{port}"):
        EmbeddedRunner(port=port)


def test_a_model_that_cannot_be_had_stops_the_start() -> None:
    with (
        pytest.raises(RunnerStartError, match="no-such-model"),
        EmbeddedRunner(pulled=["ai/no-such-model"], offline=True),
    ):
        pass


def test_own_aliases_come_before_the_built_in_ones(
    make_runner: Callable[..., FaultyRunner],
) -> None:
    runner = make_runner(aliases={"acme/secret": "ai/all-minilm"}, default_aliases=False)

    with httpx.Client(base_url=runner.url, trust_env=False, timeout=60) as client:
        known = client.post("/models/create", json={"from": "acme/secret"})
        unknown = client.post("/models/create", json={"from": "ai/embeddinggemma"})
        model = client.get("/models/acme/secret").json()

    assert "Model pulled successfully" in known.text
    assert "stands in for" in known.text
    assert unknown.status_code == 404
    assert model["merganser"] == {"alias_of": "ai/all-minilm"}


def test_idle_engines_are_freed(make_runner: Callable[..., FaultyRunner]) -> None:
    runner = make_runner(pulled=["ai/all-minilm"], idle_seconds=0.0)

    with httpx.Client(base_url=runner.url, trust_env=False, timeout=60) as client:
        client.post("/v1/embeddings", json={"model": "ai/all-minilm", "input": "x"})
        deadline = time.monotonic() + 10
        while (engines := client.get("/engines/ps").json()) and time.monotonic() < deadline:
            time.sleep(0.01)

    assert engines == []


def test_with_every_slot_taken_idle_engines_make_room(
    make_runner: Callable[..., FaultyRunner],
) -> None:
    runner = make_runner(pulled=["ai/all-minilm", "ai/smollm2"], slots=1)

    with httpx.Client(base_url=runner.url, trust_env=False, timeout=60) as client:
        client.post("/v1/embeddings", json={"model": "ai/all-minilm", "input": "x"})
        before = [engine["mode"] for engine in client.get("/engines/ps").json()]
        preload = {"X-Preload-Only": "true"}
        answer = client.post("/v1/chat/completions", json={"model": "ai/smollm2"}, headers=preload)
        after = [engine["mode"] for engine in client.get("/engines/ps").json()]

    assert (before, after) == (["embedding"], ["completion"])
    assert (answer.status_code, answer.content) == (200, b"")
