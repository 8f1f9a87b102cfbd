from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from merganser.errors import PullError, RequestRejectedError, TransientError
from merganser.models.client import ModelRunner
from merganser.models.pull import PullInterruptedError, PullProgress, PullTracker, decode_line

if TYPE_CHECKING:
    from tests.doubles.model_server import Double

SUCCESS = json.dumps({"type": "success", "message": "Model pulled successfully", "mode": "pull"})


def layer(layer_id: str, current: int, size: int, total: int) -> str:
    return json.dumps(
        {
            "type": "progress",
            "message": f"Downloaded: {current}",
            "total": total,
            "layer": {"id": layer_id, "size": size, "current": current},
            "mode": "pull",
        }
    )


def words(message: str, **more: Any) -> str:
    return json.dumps({"type": "progress", "message": message, **more})


async def pulled(client: ModelRunner, ref: str = "ai/qwen3") -> list[PullProgress]:
    progress: list[PullProgress] = []
    await client.pull(ref, on_progress=progress.append)
    return progress


async def test_layers_that_interleave_are_added_up(client: ModelRunner, double: Double):
    double.pull_lines = [
        layer("a", 10, 60, 100),
        layer("b", 20, 40, 100),
        layer("a", 60, 60, 100),
        layer("b", 40, 40, 100),
        SUCCESS,
    ]

    progress = await pulled(client)

    assert [p.received_bytes for p in progress] == [10, 30, 80, 100, 100]
    assert {p.total_bytes for p in progress} == {100}
    assert progress[-1].phase == "done"
    assert double.asked("/models/create")[0].headers["accept"] == "application/json"


def test_a_hugging_face_pull_counts_its_second_copy_apart():
    tracker = PullTracker()
    lines = [
        words("Fetching file list..."),
        words("Found 2 files (0.1 MB total)", total=100),
        layer("file1", 60, 60, 100),
        layer("file2", 40, 40, 100),
        words("Building model artifact..."),
        layer("layer1", 30, 60, 100),
        layer("layer2", 40, 40, 100),
        layer("layer1", 60, 60, 100),
        SUCCESS,
    ]

    progress = [tracker.add(json.loads(line)) for line in lines]

    phases = [p.phase for p in progress]
    assert phases == ["waiting"] * 2 + ["downloading"] * 2 + ["storing"] * 4 + ["done"]
    assert [p.received_bytes for p in progress] == [0, 0, 60, 100, 0, 30, 70, 100, 100]


def test_new_layers_after_a_complete_set_are_the_second_copy_too():
    tracker = PullTracker()
    lines = [layer("f", 100, 100, 100), layer("l", 50, 100, 100)]

    progress = [tracker.add(json.loads(line)) for line in lines]

    assert [(p.phase, p.received_bytes) for p in progress] == [
        ("downloading", 100),
        ("storing", 50),
    ]


def test_escaped_lines_are_read():
    escaped = "{&#34;type&#34;:&#34;success&#34;,&#34;message&#34;:&#34;ok&#34;}"

    assert decode_line(escaped) == {"type": "success", "message": "ok"}
    assert decode_line("Unauthorized") is None


async def test_a_cached_model_is_a_success(client: ModelRunner, double: Double):
    double.pull_lines = [json.dumps({"type": "success", "message": "Using cached model: 2GiB"})]

    progress = await pulled(client)

    assert [p.phase for p in progress] == ["done"]


async def test_an_error_line_with_raw_text_after_it_fails_once(client: ModelRunner, double: Double):
    double.pull_lines = [
        layer("a", 1, 2, 2),
        json.dumps({"type": "error", "message": "Error: manifest gone"}),
        "error while pulling model: writing image: manifest gone",
    ]

    with pytest.raises(PullError, match="manifest gone") as caught:
        await pulled(client)

    assert str(caught.value).count("manifest gone") == 1
    assert not isinstance(caught.value, TransientError)
    assert len(double.asked("/models/create")) == 1


async def test_status_200_and_raw_text_is_a_failure(client: ModelRunner, double: Double):
    double.pull_lines = [words("Fetching file list..."), "Unauthorized"]

    with pytest.raises(PullError, match=r"Unauthorized.*HF_TOKEN"):
        await pulled(client, "hf.co/Org/Model")


async def test_an_end_without_success_is_tried_again_and_then_transient(
    client: ModelRunner, double: Double
):
    double.pull_lines = [layer("a", 1, 2, 2)]

    with pytest.raises(PullInterruptedError, match="without a success line"):
        await pulled(client)

    assert len(double.asked("/models/create")) == 3


async def test_a_stalled_pull_is_tried_again(client: ModelRunner, double: Double):
    double.pull_lines = [layer("a", 1, 2, 2), SUCCESS]
    double.pull_pauses = {1: 2.0}

    with pytest.raises(PullInterruptedError, match=r"no progress for 0\.3 s"):
        await pulled(client)


async def test_the_first_line_may_take_longer_than_a_stall(client: ModelRunner, double: Double):
    # The third pull at a server waits for one of the first two without an answer.
    double.pull_lines = [SUCCESS]
    double.pull_pauses = {0: 0.6}

    progress = await pulled(client)

    assert progress[-1].phase == "done"


@pytest.mark.parametrize("status", [502, 503, 504])
async def test_a_gateway_error_is_tried_again(client: ModelRunner, double: Double, status: int):
    double.pull_lines = [SUCCESS]
    double.fail("/models/create", status, "")

    await pulled(client)

    assert len(double.asked("/models/create")) == 2


@pytest.mark.parametrize(
    ("status", "body", "fix"),
    [
        (401, "Unauthorized\n", "--model-map ai/qwen3=NAME"),
        (404, "Model not found\n", "--model-map ai/qwen3=NAME"),
        (422, "unsupported config media type\n", "`docker model pull ai/qwen3`"),
        (500, "error while pulling model: x\n", "`docker model pull ai/qwen3`"),
    ],
)
async def test_an_answer_before_the_stream_is_final(
    client: ModelRunner, double: Double, status: int, body: str, fix: str
):
    double.fail("/models/create", status, body)

    with pytest.raises(PullError, match=body.strip()) as caught:
        await pulled(client)

    assert caught.value.status == status
    assert fix in str(caught.value)
    assert len(double.asked("/models/create")) == 1


async def test_a_server_without_network_is_left_to_the_orchestrator(
    client: ModelRunner, double: Double
):
    body = "error while pulling model: dial tcp: lookup index.docker.io: no such host\n"
    double.fail("/models/create", 500, body)

    with pytest.raises(PullInterruptedError, match="no such host"):
        await pulled(client)

    assert len(double.asked("/models/create")) == 1


async def test_the_token_goes_to_hugging_face_only(double: Double):
    double.pull_lines = [SUCCESS]

    async with ModelRunner(double.url, env={"HF_TOKEN": "secret"}) as client:
        await client.pull("hf.co/Org/Model:Q8_0")
        await client.pull("ai/qwen3")

    assert [one.body for one in double.asked("/models/create")] == [
        {"from": "huggingface.co/org/model:Q8_0", "bearer-token": "secret"},
        {"from": "ai/qwen3:latest"},
    ]


async def test_a_server_that_manages_nothing_is_not_asked_to_pull(
    client: ModelRunner, double: Double
):
    double.managed = False

    with pytest.raises(RequestRejectedError, match="cannot pull models"):
        await client.pull("ai/qwen3")
