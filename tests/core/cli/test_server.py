"""``merganser server``: what it tells of the server, and what it refuses."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING

import httpx
import pytest

from merganser.cli import EXIT_FAILED, main

if TYPE_CHECKING:
    from pathlib import Path


def run(*words: str) -> object:
    with pytest.raises(SystemExit) as ended:
        main(["server", *words])
    return ended.value.code


def test_the_status_has_what_lets_a_program_in(
    history_url: str, capsys: pytest.CaptureFixture[str]
):
    assert run("--status", "--json") == 0
    told = json.loads(capsys.readouterr().out)

    headers = {"Authorization": told["authorization"]}
    answer = httpx.get(f"{told['url']}/api/admin/version", headers=headers, trust_env=False)
    assert told["url"] == history_url
    assert answer.is_success


def test_the_status_without_json_shows_no_password(
    history_url: str, capsys: pytest.CaptureFixture[str]
):
    assert run("--status") == 0

    assert capsys.readouterr().out == f"running at {history_url}\n"


def test_the_ui_is_opened_signed_in_by_a_file_that_only_the_user_reads(
    history_url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    opened = list[str]()
    monkeypatch.setattr("webbrowser.open", opened.append)

    assert run("--background", "--ui") == 0

    (address,) = opened
    assert address.startswith("file://")
    assert f"Prefect UI: {history_url} (sign in once: merganser server --ui)" in (
        capsys.readouterr().out
    )


def test_a_port_that_is_taken_is_an_error_with_its_fix(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MERGANSER_HOME", str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        assert run("--background", "--port", str(port)) == EXIT_FAILED

    assert f"port {port} of 127.0.0.1 is taken" in capsys.readouterr().err


def test_a_password_of_the_user_is_written_nowhere_and_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MERGANSER_HOME", str(tmp_path))
    monkeypatch.setenv("PREFECT_SERVER_API_AUTH_STRING", "me:chosen-5e1f")

    assert run("--background", "--port", "0", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    headers = {"Authorization": told["authorization"]}
    answer = httpx.get(f"{told['url']}/api/admin/version", headers=headers, trust_env=False)
    assert run("--stop") == 0

    assert answer.is_success
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path for path in files if b"chosen-5e1f" in path.read_bytes()] == []
