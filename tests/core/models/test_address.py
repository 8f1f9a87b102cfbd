from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from merganser.errors import RunnerUnreachableError
from merganser.humanize import without_credentials
from merganser.models.address import (
    candidate_addresses,
    first_answering,
    parse_address,
    probe_all,
    resolve_address,
)
from merganser.models.client import ModelRunner

if TYPE_CHECKING:
    from tests.doubles.model_server import Double

NOTHING_THERE = "http://127.0.0.1:1"


@pytest.mark.parametrize(
    ("url", "root", "prefix"),
    [
        ("http://h:12434", "http://h:12434", "/engines/v1"),
        ("http://h:12434/", "http://h:12434", "/engines/v1"),
        ("http://h:12434/engines/v1/", "http://h:12434", "/engines/v1"),
        ("http://h/engines/llama.cpp/v1", "http://h", "/engines/llama.cpp/v1"),
        ("https://h/api/v1", "https://h/api", "/v1"),
        ("h:12434", "http://h:12434", "/engines/v1"),
    ],
)
def test_the_api_path_is_split_from_the_root(url: str, root: str, prefix: str):
    address = parse_address(url)

    assert (root, prefix) == (address.root, address.openai_prefix)


def test_a_docker_socket_gets_the_desktop_prefix():
    address = parse_address("unix:///var/run/docker.sock")

    assert (address.uds, address.root) == ("/var/run/docker.sock", "http://localhost/exp/vDD4.40")
    assert address.shown == "unix:///var/run/docker.sock/exp/vDD4.40"


def test_an_explicit_setting_is_the_only_candidate():
    env = {"MODEL_RUNNER_HOST": "elsewhere:1"}

    assert [a.source for a in candidate_addresses(base_url="http://h", env=env)] == ["base_url"]
    assert [a.source for a in candidate_addresses(env=env)] == ["MODEL_RUNNER_HOST"]


@pytest.mark.parametrize(
    ("env", "root"),
    [
        ({"MODEL_RUNNER_HOST": "box:12434"}, "http://box:12434"),
        ({"MODEL_RUNNER_HOST": "box:12444", "MODEL_RUNNER_TLS": "true"}, "https://box:12444"),
        ({"MODEL_RUNNER_HOST": "http://box", "MODEL_RUNNER_TLS": "true"}, "http://box"),
    ],
)
def test_the_host_variable_may_leave_out_its_scheme(env: dict[str, str], root: str):
    assert [root] == [a.root for a in candidate_addresses(env=env)]


def test_skipping_the_certificate_check_is_an_explicit_choice():
    env = {"MODEL_RUNNER_HOST": "https://box"}

    (checked,) = candidate_addresses(env=env)
    (unchecked,) = candidate_addresses(env=env | {"MODEL_RUNNER_TLS_SKIP_VERIFY": "true"})

    assert (checked.verify, unchecked.verify) == (True, False)


def test_without_a_setting_sockets_containers_and_this_host_are_asked_in_order():
    env = {"HOME": "/home/x", "DOCKER_HOST": "unix:///run/user/1/docker.sock"}

    outside = [a.shown for a in candidate_addresses(env=env, in_container=False)]
    inside = [a.shown for a in candidate_addresses(env=env, in_container=True)]

    assert outside == [
        "unix:///run/user/1/docker.sock/exp/vDD4.40",
        "unix:///var/run/docker.sock/exp/vDD4.40",
        "unix:///home/x/.docker/run/docker.sock/exp/vDD4.40",
        "http://127.0.0.1:12434",
    ]
    assert inside[3:] == [
        "http://model-runner.docker.internal",
        "http://model-runner.docker.internal:12434",
        "http://host.docker.internal:12434",
        "http://172.17.0.1:12434",
        "http://127.0.0.1:12434",
    ]


async def test_the_first_candidate_that_answers_is_taken(double: Double):
    candidates = [
        parse_address(NOTHING_THERE, source="first"),
        parse_address(double.url, source="second"),
        parse_address(double.url, source="third"),
    ]

    address = await first_answering(candidates)

    assert address.source == "second"
    assert [probe.ok for probe in address.probes] == [False, True]


async def test_an_explicit_address_that_is_dead_does_not_fall_through(double: Double):
    env = {"MODEL_RUNNER_HOST": double.url}

    with pytest.raises(RunnerUnreachableError) as caught:
        await resolve_address(base_url=NOTHING_THERE, env=env)

    text = str(caught.value)
    assert f"base_url: {NOTHING_THERE}/engines/v1/models" in text
    assert "docker model status" in text
    assert "merganser runner" in text
    assert not double.seen


async def test_every_dead_address_is_named_with_its_answer(double: Double):
    double.fail("/engines/v1/models", 503, "disabled")
    candidates = [parse_address(NOTHING_THERE, source="one"), parse_address(double.url, source="2")]

    with pytest.raises(RunnerUnreachableError, match=r"503.*not running") as caught:
        await first_answering(candidates)

    assert str(caught.value).index("one:") < str(caught.value).index("2:")


async def test_a_guess_that_gives_no_model_list_is_not_taken(double: Double):
    # Another web server on the port, or Docker's socket without a model runner.
    double.fail("/engines/v1/models", 404, "page not found\n")
    double.fail("/engines/v1/models", 200, "<html>hello</html>")
    candidates = [parse_address(double.url), parse_address(double.url)]

    found, probes = await probe_all(candidates)

    assert found is None
    assert [probe.ok for probe in probes] == [False, False]


async def test_another_servers_api_path_is_found(double: Double):
    double.managed = False

    address = await resolve_address(base_url=double.url, env={})

    assert f"{double.url}/v1" == address.openai_base


async def test_the_socket_is_asked_below_the_desktop_prefix(socket_double: Double):
    address = await first_answering([parse_address(socket_double.url), parse_address("h:1")])
    async with ModelRunner(address) as runner:
        version = await runner.version()

    assert version == "v1.2.6"
    assert [one.path for one in socket_double.seen] == [
        "/exp/vDD4.40/engines/v1/models",
        "/exp/vDD4.40/version",
    ]


async def test_proxies_are_ignored_and_no_origin_is_sent(
    double: Double, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HTTP_PROXY", NOTHING_THERE)
    monkeypatch.setenv("ALL_PROXY", NOTHING_THERE)

    async with ModelRunner(double.url) as runner:
        await runner.version()

    (seen,) = double.seen
    assert "origin" not in seen.headers
    assert "docker-model-cli" not in seen.headers["user-agent"]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://user:hunter2@host:1/v1", "http://host:1/v1"),
        ("user:hunter2@host:1/v1", "host:1/v1"),
        ("host:1/a@b", "host:1/a@b"),
        ("unix:///run/a.sock", "unix:///run/a.sock"),
    ],
)
def test_credentials_are_dropped_from_an_address(url: str, shown: str):
    assert without_credentials(url) == shown


def test_credentials_stand_beside_the_base_of_an_openai_client():
    address = parse_address("http://a%40b:hunter2@host:1/v1")

    assert (address.openai_base, address.login) == ("http://host:1/v1", ("a@b", "hunter2"))
    assert parse_address("host:1").login is None


async def test_credentials_never_stand_in_a_message():
    with pytest.raises(RunnerUnreachableError) as caught:
        await resolve_address(base_url="http://user:hunter2@127.0.0.1:1", env={})

    assert "hunter2" not in str(caught.value)
