"""What a terminal gets: texts of strangers as they are written, and nothing that it obeys."""

from __future__ import annotations

import re
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from rich.progress import Progress

from merganser.agent.events import TextDelta
from merganser.cli import main
from merganser.cli.options import print_json
from merganser.cli.progress import columns
from merganser.cli.run import _Stream  # pyright: ignore[reportPrivateUsage] - what prints an answer
from merganser.cli.terminal import say, visible

CLI = Path(__file__).resolve().parents[3] / "src" / "merganser" / "cli"

HOSTILE = {
    "\x1b]0;title\x07": r"\x1b]0;title\x07",
    "\x1b[2J": r"\x1b[2J",
    "\x9b2J": r"\x9b2J",
    "\x1b]52;c;cm0gLXJm\x1b\\": r"\x1b]52;c;cm0gLXJm\x1b" + "\\",
    "good\rbad": r"good\rbad",
    "\u202eevil\u2066x\u2069": r"\u202eevil\u2066x\u2069",
    "a\u2028b": r"a\u2028b",
    "\U000e0041": r"\U000e0041",
    "\udc80": r"\udc80",
}


@pytest.mark.parametrize(("text", "shown"), HOSTILE.items(), ids=ascii)
def test_what_a_terminal_would_obey_is_shown(text: str, shown: str):
    assert visible(text) == shown


@pytest.mark.parametrize("text", ["ä 漢字 👩‍💻\tx\n", "one\r\ntwo\n", "\\x1b", "עברית"])
def test_other_text_is_as_it_was(text: str):
    assert visible(text) == text


@pytest.mark.parametrize("text", HOSTILE)
def test_an_answer_is_shown_as_it_is_written(text: str, capsys: pytest.CaptureFixture[str]):
    _Stream().take(TextDelta(text))

    assert capsys.readouterr().out == visible(text)


def test_an_excerpt_and_a_wrong_option_show_escapes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    path = tmp_path / "a\x1b[2J.yaml"
    path.write_text("agentz: \u202exyz\n")
    for words in (["check", str(path)], ["check", "--\x1b[2J"], ["\x1b[2J"]):
        with pytest.raises(SystemExit):
            main(words)

        printed = "".join(capsys.readouterr())
        assert r"\x1b[2J" in printed
        assert not re.search("[\x1b\u202e]", printed)


def test_json_has_the_text_as_it_is(capsys: pytest.CaptureFixture[str]):
    print_json({"a": "\u202e"})

    assert capsys.readouterr().out == '{\n  "a": "\u202e"\n}\n'


def test_nothing_else_prints():
    """The exceptions are the JSON of ``print_json`` and the page of ``report --output -``."""
    prints = re.compile(r"\b(click\.(secho|echo)|print)\(|sys\.std(out|err)\.write")
    found = {
        path.name: len(prints.findall(path.read_text("utf-8")))
        for path in CLI.glob("*.py")
        if prints.search(path.read_text("utf-8"))
    }

    assert found == {"terminal.py": 1, "options.py": 1, "report.py": 1, "progress.py": 1}
    say("done", err=True)


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_a_bar_is_one_line_at_any_width(width: int):
    console = Console(width=width, file=StringIO(), force_terminal=True)
    bars = Progress(*columns(width), console=console)
    task = bars.add_task("downloading hf.co/somebody/a-long-name-GGUF:Q4_K_M" * 2, unit="bytes")
    bars.update(task, total=98.4e6, completed=12.3e6)

    lines = console.render_lines(bars.make_tasks_table(bars.tasks), pad=False)

    assert len(lines) == 1
    assert "12.3 MB of 98.4 MB" in "".join(segment.text for segment in lines[0])
