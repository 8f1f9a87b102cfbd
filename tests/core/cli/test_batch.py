"""What ``merganser batch`` takes from the command line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from merganser.cli import group

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = """\
agents:
  root: {model: dmr/ai/smollm2, instruction: Answer.}
flows:
  faq:
    type: batch
    input: ./questions.jsonl
    output: ./answers.jsonl
    concurrency: 5
"""


@pytest.mark.parametrize(("words", "concurrency"), [([], 5), (["--concurrency", "2"], 2)])
def test_the_command_line_says_how_many_questions_are_asked_at_a_time(
    tmp_path: Path, words: list[str], concurrency: int
):
    config = tmp_path / "faq.yaml"
    config.write_text(CONFIG)
    (tmp_path / "questions.jsonl").write_text('{"question": "Where does it nest?"}\n')

    shown = CliRunner().invoke(
        group, ["batch", str(config), *words, "--dry-run", "--json"], standalone_mode=False
    )

    assert shown.exception is None
    assert json.loads(shown.stdout)["concurrency"] == concurrency
