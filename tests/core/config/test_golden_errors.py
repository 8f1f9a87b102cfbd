"""Bad configs beside the exact text of their errors.

After a wanted change of wording, ``MERGANSER_ACCEPT=1 pytest <this file>`` rewrites the texts.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from merganser.config.load import load_config
from merganser.errors import SpecErrors

ACCEPT = bool(os.environ.get("MERGANSER_ACCEPT"))
BAD = Path(__file__).with_name("bad")
CASES = sorted(BAD.glob("*.yaml"))


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_bad_config_gives_exactly_its_errors(path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(BAD)
    golden = path.with_suffix(".txt")

    with pytest.raises(SpecErrors) as caught:
        load_config(path.name, environment={"SECRET_URL": "hunter2@nowhere"})

    if ACCEPT:
        golden.write_text(f"{caught.value}\n", encoding="utf-8")
    assert golden.read_text(encoding="utf-8") == f"{caught.value}\n"


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_errors_are_sorted_and_stand_inside_their_files(
    path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(BAD)

    with pytest.raises(SpecErrors) as caught:
        load_config(path.name, environment={})

    positions = [error.position for error in caught.value.errors if error.position]
    assert len(caught.value.errors) == len(positions)
    assert sorted(positions) == positions
    for position in positions:
        lines = position.path.read_text(encoding="utf-8", errors="replace").split("\n")
        assert 1 <= position.line <= len(lines)
        assert 1 <= position.column <= len(lines[position.line - 1]) + 1


def test_secrets_are_in_no_message():
    texts = [golden.read_text(encoding="utf-8") for golden in BAD.glob("*.txt")]

    assert texts
    assert [text for text in texts if "hunter2" in text or "sk-1234" in text] == []


def test_every_golden_text_has_its_config():
    assert {path.stem for path in CASES} == {path.stem for path in BAD.glob("*.txt")}
