"""Section 1.2: the pull stream of ``POST /models/create``."""

from __future__ import annotations

import html
import json
import re
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Thread
from typing import TYPE_CHECKING, cast

import httpx

from dmr_contract.target import (
    Json,
    PullFault,
    Target,
    assert_keys,
    assert_runner_error,
    assert_text_error,
    assert_whole,
    case,
    describe,
    wait_until,
)

if TYPE_CHECKING:
    from collections.abc import Generator

JSON_ONLY = {"Accept": "application/json"}

MESSAGE_KEYS = {"type", "message", "total", "layer"}


@case("1.2", "faults", "store")
def pull_brings_the_model(target: Target) -> None:
    with absent_model(target) as reference:
        assert_runner_error(target.get(f"/models/{reference}"), 404, "model not found")

        response = target.post("/models/create", {"from": reference}, headers=JSON_ONLY)

        assert response.status_code == 200, describe(response)
        assert target.model(reference)["id"].startswith("sha256:")


@case("1.2", "faults", "store")
def pull_for_json_is_lines_of_json(target: Target) -> None:
    with absent_model(target) as reference:
        response = target.post("/models/create", {"from": reference}, headers=JSON_ONLY)

        assert response.headers["content-type"] == "application/json", describe(response)
        assert response.text.endswith("\n"), "the last line ends too"
        for line in response.text.splitlines():
            check_message(parse(line))


@case("1.2", "faults", "store")
def pull_for_anything_else_is_escaped_text(target: Target) -> None:
    for accept in ("*/*", "application/json, */*", "text/plain"):
        with absent_model(target) as reference:
            response = target.post(
                "/models/create", {"from": reference}, headers={"Accept": accept}
            )

            kind = response.headers["content-type"].partition(";")[0]
            assert kind == "text/plain", f"Accept {accept}: {describe(response)}"
            for line in response.text.splitlines():
                assert line.startswith("{&#34;type&#34;:"), f"Accept {accept}: {line!r}"
                assert not set(line) & set("\"<>'"), f"Accept {accept}: {line!r}"
                check_message(parse(html.unescape(line)))


@case("1.2", "faults", "store")
def pull_stream_is_not_cached_and_chunked(target: Target) -> None:
    with absent_model(target) as reference:
        response = target.post("/models/create", {"from": reference}, headers=JSON_ONLY)

        assert response.headers.get("cache-control") == "no-cache", dict(response.headers)
        assert response.headers.get("transfer-encoding") == "chunked", dict(response.headers)


@case("1.2", "faults", "store")
def pull_ends_with_its_success_line(target: Target) -> None:
    with absent_model(target) as reference:
        last = pull(target, reference)[-1]

        assert last["type"] == "success", last
        assert last["message"] == "Model pulled successfully", last
        assert last["total"] == 0, last
        assert last["layer"] == {"size": 0, "current": 0}, last
        assert last.get("mode", "pull") == "pull", last


@case("1.2", "faults", "store")
def pull_reports_interleaved_layers_up_to_their_size(target: Target) -> None:
    with absent_model(target) as reference:
        progress = [line for line in pull(target, reference) if line["layer"].get("id")]

        sizes: dict[str, int] = {}
        current: dict[str, int] = {}
        for line in progress:
            layer = line["layer"]
            assert line["type"] == "progress", line
            assert re.fullmatch(r"Downloaded: \d+\.\d\d [kKMG]?B", line["message"]), line
            assert re.fullmatch(r"sha256:[0-9a-f]{64}", layer["id"]), line
            assert current.get(layer["id"], 0) <= layer["current"] <= layer["size"], line
            sizes[layer["id"]] = layer["size"]
            current[layer["id"]] = layer["current"]
        # A layer that is already there says nothing; the scripted model's two are not.
        assert len(sizes) >= (2 if target.embedded else 1), sizes
        assert sizes == current, "each layer ends with a line at its full size"
        assert {line["total"] for line in progress} == {sum(sizes.values())}, progress[-1]


@case("1.2", "faults", "store")
def cached_model_is_one_success_line(target: Target) -> None:
    with absent_model(target) as reference:
        pull(target, reference)

        again = pull(target, reference)

        assert len(again) == 1, again
        assert again[0]["type"] == "success", again
        assert re.fullmatch(r"Using cached model: \S.*B", again[0]["message"]), again


@case("1.2", "faults", "store")
def pull_refused_before_the_stream_is_a_text_error(target: Target) -> None:
    with absent_model(target) as reference:
        target.controls.fail_next_pull("unauthorized-before")
        response = target.post("/models/create", {"from": reference})
        assert_text_error(response, 401, "Unauthorized.*")

        target.controls.fail_next_pull("not-found-before")
        response = target.post("/models/create", {"from": reference})
        assert_text_error(response, 404, "Model not found.*")

        target.controls.fail_next_pull("unsupported-before")
        response = target.post("/models/create", {"from": reference})
        assert_text_error(response, 422)


@case("1.2", "faults", "store")
def pull_that_fails_midway_keeps_status_200_and_says_so(target: Target) -> None:
    with absent_model(target) as reference:
        target.controls.fail_next_pull("error-line")
        response = target.post("/models/create", {"from": reference}, headers=JSON_ONLY)

        assert response.status_code == 200, describe(response)
        *lines, last = response.text.splitlines()
        messages = [parse(line) for line in lines]
        assert messages[-1]["type"] == "error", messages[-1]
        assert messages[-1]["message"].startswith("Error: "), messages[-1]
        assert last.startswith("error while pulling model: "), last
        assert response.text.endswith("\n"), "Go's http.Error ends its line"
        assert all(message["type"] != "success" for message in messages), messages
        assert_runner_error(target.get(f"/models/{reference}"), 404, "model not found")


@case("1.2", "faults", "store")
def hub_pull_that_is_refused_ends_with_plain_text(target: Target) -> None:
    endings: dict[PullFault, str] = {
        "hub-unauthorized": "Unauthorized",
        "hub-not-found": "Model not found",
    }
    for fault, text in endings.items():
        with absent_model(target) as reference:
            target.controls.fail_next_pull(fault)
            response = target.post("/models/create", {"from": reference}, headers=JSON_ONLY)

            assert response.status_code == 200, describe(response)
            *lines, last = response.text.splitlines()
            assert last == text, describe(response)
            assert lines, "a progress line came first, or the status would not be 200"
            assert {parse(line)["type"] for line in lines} == {"progress"}, lines
            assert_runner_error(target.get(f"/models/{reference}"), 404, "model not found")


@case("1.2", "faults", "store")
def cut_off_pull_brings_no_model(target: Target) -> None:
    with absent_model(target) as reference:
        target.controls.fail_next_pull("abrupt-close")
        received = PullCall(target, reference)
        received.join()

        assert "success" not in received.types(), received.lines
        assert_runner_error(target.get(f"/models/{reference}"), 404, "model not found")
        assert pull(target, reference)[-1]["type"] == "success"


@case("1.2", "faults", "store")
def third_concurrent_pull_waits_without_headers(target: Target) -> None:
    with absent_model(target) as reference:
        target.controls.slow_pull(2.0)
        first, second = PullCall(target, reference), PullCall(target, reference)
        wait_until(lambda: first.has_headers and second.has_headers, "two pulls run at once")
        third = PullCall(target, reference)
        time.sleep(0.4)

        waited = not third.has_headers
        assert not (first.ended and second.ended), "the scripted pulls were too short to tell"
        for call in (first, second, third):
            call.join()
        assert waited, "the third pull got headers while two were running"
        assert third.types()[-1:] == ["success"], third.lines


@case("1.2", "faults", "store")
def disconnecting_cancels_the_pull(target: Target) -> None:
    with absent_model(target) as reference:
        target.controls.slow_pull(2.0)
        url = f"{target.url}/models/create"
        with target.http.stream("POST", url, json={"from": reference}) as response:
            assert next(response.iter_lines(), ""), "the stream began"
        time.sleep(2.5)

        assert_runner_error(target.get(f"/models/{reference}"), 404, "model not found")
        target.controls.slow_pull(0)
        assert pull(target, reference)[-1]["type"] == "success"


def check_message(message: Json) -> None:
    """Expect an ``oci.ProgressMessage``."""
    assert_keys(message, MESSAGE_KEYS, {"mode", "pulled"}, "progress line")
    assert message["type"] in {"progress", "success", "warning", "error"}, message
    assert isinstance(message["message"], str), message
    assert_whole(message["total"], "total")
    assert_keys(message["layer"], {"size", "current"}, {"id"}, "layer")
    assert_whole(message["layer"]["size"], "layer.size")
    assert_whole(message["layer"]["current"], "layer.current")
    assert message.get("mode", "pull") == "pull", message


def parse(line: str) -> Json:
    """Decode one line."""
    try:
        value = json.loads(line)
    except ValueError as error:
        raise AssertionError(f"not a line of JSON: {line!r}") from error
    assert isinstance(value, dict), line
    return cast("Json", value)


def pull(target: Target, reference: str) -> list[Json]:
    """Pull a model and give the decoded lines."""
    response = target.post("/models/create", {"from": reference}, headers=JSON_ONLY)
    assert response.status_code == 200, describe(response)
    return [parse(line) for line in response.text.splitlines()]


@contextmanager
def absent_model(target: Target) -> Generator[str]:
    """Return a model that can be pulled and is not local, and remove it again."""
    reference = target.controls.pullable_model()
    remove(target, reference)
    try:
        yield reference
    finally:
        target.controls.reset()
        remove(target, reference)


def remove(target: Target, reference: str) -> None:
    """Delete a model that may be absent."""
    response = target.send("DELETE", f"/models/{reference}", params={"force": "true"})
    assert response.status_code in {200, 404}, describe(response)


@dataclass(slots=True)
class PullCall:
    """A pull in a thread of its own that keeps what arrived, and when."""

    target: Target
    reference: str
    has_headers: bool = False
    ended: bool = False
    lines: list[str] = field(default_factory=list[str])
    thread: Thread = field(init=False)

    def __post_init__(self) -> None:
        self.thread = Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        url = f"{self.target.url}/models/create"
        body = {"from": self.reference}
        try:
            with self.target.http.stream("POST", url, json=body, headers=JSON_ONLY) as response:
                self.has_headers = True
                self.lines.extend(response.iter_lines())
        except httpx.HTTPError as error:
            self.lines.append(f"the connection broke: {error!r}")
        finally:
            self.ended = True

    def join(self) -> None:
        """Wait for its end."""
        self.thread.join(60)
        assert self.ended, "the pull did not end"

    def types(self) -> list[str]:
        """Return the types of the lines that are JSON."""
        return [str(parse(line)["type"]) for line in self.lines if line.startswith("{")]
