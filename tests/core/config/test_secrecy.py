"""What a config names is read; neither its lines nor a login stand in a message."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from merganser.config.load import load_config
from merganser.errors import SpecErrors
from merganser.evaluation.queries import read_queries
from merganser.humanize import mask_credentials, without_credentials

if TYPE_CHECKING:
    from pathlib import Path

_LINES = "root:x:0:0:the-secret:/root:/bin/sh\nmore: {the-secret: 1\n"


def _refused(path: Path) -> str:
    with pytest.raises(SpecErrors) as caught:
        load_config(path)
    return str(caught.value)


@pytest.mark.parametrize("text", [_LINES, "the-secret\n", "a: the-secret\n", "\0the-secret"])
@pytest.mark.parametrize("name", ["passwd", "environ.env", "credentials.json"])
def test_extends_reads_no_file_that_is_not_named_as_yaml(tmp_path: Path, name: str, text: str):
    (tmp_path / name).write_text(text)
    (tmp_path / "link.yaml").symlink_to(name)
    path = tmp_path / "c.yaml"

    for target in (name, str(tmp_path / name), "link.yaml"):
        path.write_text(f"extends: {target}\n")

        shown = _refused(path)
        assert f"{target!r} is not the name of a YAML file" in shown
        assert "the-secret" not in shown


def test_extends_of_the_system_is_refused(tmp_path: Path):
    path = tmp_path / "c.yaml"
    for target in ("/etc/passwd", "/proc/self/environ"):
        path.write_text(f"extends: {target}\n")

        assert "is not the name of a YAML file" in _refused(path)


@pytest.mark.parametrize("text", [_LINES, "the-secret\n", "- the-secret\n", "\0the-secret"])
def test_a_config_that_is_no_yaml_is_not_quoted(tmp_path: Path, text: str):
    secret = tmp_path / "netrc"
    secret.write_text(text)
    link = tmp_path / "c.yaml"
    link.symlink_to(secret)

    for path in (secret, link):
        assert "the-secret" not in _refused(path)


def test_queries_that_are_no_json_lines_are_not_quoted(tmp_path: Path):
    secret = tmp_path / "netrc"
    secret.write_text(_LINES)
    link = tmp_path / "q.jsonl"
    link.symlink_to(secret)

    for path in (secret, link):
        with pytest.raises(SpecErrors) as caught:
            read_queries(path)
        assert "the-secret" not in str(caught.value)


LOGINS = [
    ("ftp://user:hunter2@host/x", "ftp://************@host/x", "ftp://host/x"),
    ("http://user:hunter2@host:99999/", "http://************@host:99999/", "http://host:99999/"),
    ("http://user:hunter2@host:port", "http://************@host:port", "http://host:port"),
    ("http://user:hun/ter2@host:1", "http://*************@host:1", "http://host:1"),
    ("http://user:hun@ter2@host", "http://*************@host", "http://host"),
    ("http://user:h@un/ter2@host", "http://**************@host", "http://host"),
    ("http://hunter2@host", "http://*******@host", "http://host"),
    ("http://:hunter2@host", "http://********@host", "http://host"),
    ("postgresql+asyncpg://u:hunter2@h", "postgresql+asyncpg://*********@h",
     "postgresql+asyncpg://h"),
    ("http://host:80/a@b", "http://host:80/a@b", "http://host:80/a@b"),
    ("http://[::1]:80/a@b", "http://[::1]:80/a@b", "http://[::1]:80/a@b"),
    ("http://host/a@b", "http://host/a@b", "http://host/a@b"),
    ("unix:///run/a@b.sock", "unix:///run/a@b.sock", "unix:///run/a@b.sock"),
]  # fmt: skip


@pytest.mark.parametrize(("url", "masked", "bare"), LOGINS)
def test_a_login_is_masked_in_every_spelling(url: str, masked: str, bare: str):
    assert mask_credentials(f"got {url!r}, and more") == f"got {masked!r}, and more"
    assert without_credentials(url) == bare


@pytest.mark.parametrize(
    "value",
    [
        "ftp://user:hunter2@host/",
        '"ftp://user:hun\\x74er2@host/"',
        "'ftp://user:hunter2 and space@host/'",
        "|-\n      ftp://user:hunter2@host/",
        "user:hunter2@host",
    ],
)
def test_a_login_in_a_base_url_is_in_no_message(tmp_path: Path, value: str):
    path = tmp_path / "c.yaml"
    path.write_text(
        f"models:\n  a: {{provider: dmr, model: x, temperature: 9}}\n"
        f"  b:\n    provider: dmr\n    model: m\n    base_url: {value}\n"
        "agents:\n  root: {model: b, instruction: x}\n"
    )

    shown = _refused(path)
    assert "base_url" in shown
    assert "er2" not in shown


def test_a_login_beside_a_mistake_is_in_no_message(tmp_path: Path):
    path = tmp_path / "c.yaml"
    path.write_text("modells: {b: {base_url: 'http://user:hunter2@host/'}}\n")

    shown = _refused(path)
    assert "modells: {b: {base_url: 'http://************@host/'}}" in shown
