from __future__ import annotations

import base64
import json
import time
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest

from tests.doubles import Fault, FaultyRunner, ScriptedAnswer, ScriptedCall

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_CHAT = {"model": "ai/smollm2", "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture
def client(runner: FaultyRunner) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=runner.url, trust_env=False, timeout=60) as opened:
        yield opened


def _embed(client: httpx.Client, **options: Any) -> httpx.Response:
    body = {"model": "ai/all-minilm", "input": ["a", "b"], **options}
    return client.post("/v1/embeddings", json=body)


def test_a_status_strikes_as_often_as_asked(client: httpx.Client, runner: FaultyRunner) -> None:
    runner.faults.inject("status", route="embeddings", status=503, times=2, retry_after=0.5)

    answers = [_embed(client) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [503, 503, 200]
    assert answers[0].headers["retry-after"] == "0.5"
    assert answers[0].text == "service unavailable\n"


def test_faults_of_a_route_leave_others_alone(client: httpx.Client, runner: FaultyRunner) -> None:
    runner.faults.inject("status", route="embeddings", status=500, times=None)

    assert client.get("/models").status_code == 200
    assert _embed(client).status_code == 500


def test_skipped_requests_pass_first(client: httpx.Client, runner: FaultyRunner) -> None:
    runner.faults.inject("status", route="embeddings", status=429, skip=1)

    assert [_embed(client).status_code for _ in range(3)] == [200, 429, 200]


def test_wrong_dimension(client: httpx.Client, runner: FaultyRunner) -> None:
    runner.faults.inject("wrong-dimension", dimensions=5)

    assert [len(entry["embedding"]) for entry in _embed(client).json()["data"]] == [5, 5]


def test_nan_in_the_first_vector_only(client: httpx.Client, runner: FaultyRunner) -> None:
    runner.faults.inject("nan")

    data = _embed(client, encoding_format="base64").json()["data"]
    rows = [np.frombuffer(base64.b64decode(entry["embedding"]), "<f4") for entry in data]

    assert [int(np.isnan(row).sum()) for row in rows] == [1, 0]


def test_garbage_is_no_json(client: httpx.Client, runner: FaultyRunner) -> None:
    runner.faults.inject("garbage", route="embeddings")

    with pytest.raises(json.JSONDecodeError):
        _embed(client).json()


def test_a_hanging_request_ends_with_the_clients_patience(
    client: httpx.Client, runner: FaultyRunner
) -> None:
    runner.faults.inject("hang", route="embeddings")

    with pytest.raises(httpx.ReadTimeout):
        client.post("/v1/embeddings", json={"model": "ai/all-minilm", "input": "x"}, timeout=0.3)
    assert _embed(client).status_code == 200


def test_a_cut_answer_breaks_the_connection(client: httpx.Client, runner: FaultyRunner) -> None:
    runner.faults.inject("cut", route="embeddings", after_bytes=50)

    with pytest.raises(httpx.RemoteProtocolError):
        _embed(client)


def test_engine_death_is_a_500_and_the_next_request_loads_again(
    client: httpx.Client, runner: FaultyRunner
) -> None:
    runner.faults.inject("engine-death", route="embeddings")

    dead, alive = _embed(client), _embed(client)

    assert dead.status_code == 500
    assert dead.headers["content-type"].startswith("text/plain")
    assert "terminated unexpectedly" in dead.text
    assert alive.status_code == 200


def test_scripted_answers_come_in_order(client: httpx.Client, runner: FaultyRunner) -> None:
    call = ScriptedCall("rag", {"query": "engine"})
    runner.faults.script_chat([ScriptedAnswer(tool_calls=(call,)), "It is in engine.py."])

    first = client.post("/v1/chat/completions", json=_CHAT).json()["choices"][0]
    second = client.post("/v1/chat/completions", json=_CHAT).json()["choices"][0]

    function = first["message"]["tool_calls"][0]["function"]
    assert first["finish_reason"] == "tool_calls"
    assert (function["name"], json.loads(function["arguments"])) == ("rag", {"query": "engine"})
    assert second["message"]["content"] == "It is in engine.py."
    assert [dict(request) for request in runner.faults.scripted_requests] == [_CHAT, _CHAT]


def test_scripted_streams_have_the_form_of_real_ones(
    client: httpx.Client, runner: FaultyRunner
) -> None:
    def shapes() -> list[Any]:
        body = {**_CHAT, "stream": True, "stream_options": {"include_usage": True}}
        text = client.post("/v1/chat/completions", json={**body, "max_tokens": 3}).text
        lines = [line.removeprefix("data: ") for line in text.splitlines() if line]
        events = [json.loads(line) for line in lines[:-1]]
        deltas = [sorted(choice["delta"]) for event in events for choice in event["choices"]]
        return [lines[-1], deltas[0], deltas[-1], events[-1]["choices"], "usage" in events[-1]]

    real = shapes()
    runner.faults.script_chat(["one two three"])

    assert shapes() == real


def test_a_slow_load_blocks_and_is_shared(
    make_runner: Callable[..., FaultyRunner],
) -> None:
    runner = make_runner(pulled=["ai/all-minilm"])
    runner.faults.inject("load-slow", seconds=0.4)

    with httpx.Client(base_url=runner.url, trust_env=False) as client:
        started = time.monotonic()
        first = _embed(client)
        loaded = time.monotonic() - started
        second = _embed(client)

    assert (first.status_code, second.status_code) == (200, 200)
    assert loaded >= 0.4
    assert not runner.faults.pending


def test_a_failing_load_is_told_in_the_engines_words(
    make_runner: Callable[..., FaultyRunner],
) -> None:
    runner = make_runner(pulled=["ai/all-minilm"])
    runner.faults.inject("load-fail", message="out of memory")

    with httpx.Client(base_url=runner.url, trust_env=False) as client:
        failed, retried = _embed(client), _embed(client)

    assert failed.status_code == 500
    assert failed.text.startswith("unable to load runner: error waiting for runner to be ready: ")
    assert "out of memory" in failed.text
    assert retried.status_code == 200


@pytest.mark.parametrize(
    ("kind", "status", "last"),
    [
        ("pull-not-found", 404, "Model not found"),
        ("pull-unauthorized", 401, "Unauthorized"),
        ("pull-unsupported", 422, "error while pulling model: unsupported config media type"),
        ("pull-failed", 500, "error while pulling model: registry unreachable"),
        ("pull-stream-unauthorized", 200, "Unauthorized"),
        ("pull-stream-not-found", 200, "Model not found"),
        ("pull-error-line", 200, 'error while pulling model: failed to pull "ai/qwen3"'),
    ],
)
def test_failed_pulls_bring_nothing(
    make_runner: Callable[..., FaultyRunner], kind: Any, status: int, last: str
) -> None:
    runner = make_runner()
    runner.faults.inject(kind)

    with httpx.Client(base_url=runner.url, trust_env=False) as client:
        answer = client.post("/models/create", json={"from": "ai/qwen3"})
        listed = client.get("/models").json()

    assert (answer.status_code, answer.text.splitlines()[-1]) == (status, last)
    assert listed == []


def test_doubled_bytes_still_end_in_success(make_runner: Callable[..., FaultyRunner]) -> None:
    runner = make_runner()
    runner.faults.inject("pull-doubled")
    headers = {"Accept": "application/json"}

    with httpx.Client(base_url=runner.url, trust_env=False, timeout=60) as client:
        answer = client.post("/models/create", json={"from": "all-minilm"}, headers=headers)
        found = client.get("/models/ai/all-minilm").status_code

    lines = [json.loads(line) for line in answer.text.splitlines()]
    sizes = {line["layer"]["id"]: line["layer"]["size"] for line in lines if "id" in line["layer"]}
    total = max(line["total"] for line in lines)
    assert lines[-1]["type"] == "success"
    assert sum(sizes.values()) == 2 * total
    assert found == 200


def test_a_cut_pull_breaks_the_connection(make_runner: Callable[..., FaultyRunner]) -> None:
    runner = make_runner()
    runner.faults.inject("pull-cut")

    with (
        httpx.Client(base_url=runner.url, trust_env=False) as client,
        pytest.raises(httpx.RemoteProtocolError),
    ):
        client.post("/models/create", json={"from": "ai/all-minilm"})


def test_unknown_kinds_are_refused(runner: FaultyRunner) -> None:
    with pytest.raises(ValueError, match="unknown fault"):
        runner.faults.inject(Fault("explode"))  # pyright: ignore[reportArgumentType] - what is tested


def test_the_runner_itself_has_no_admin_routes(client: httpx.Client) -> None:
    assert client.post("/faults", json={"kind": "status"}).status_code == 404
