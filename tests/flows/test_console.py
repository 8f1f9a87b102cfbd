"""What runs of ours log on a terminal."""

from __future__ import annotations

import subprocess
import sys

LOGS = r"""
import prefect.main
from merganser.flows.console import show_controls
show_controls()
show_controls()
from prefect.logging import get_logger
try:
    raise ValueError("c\x1b]52;c;QQ==\x07")
except ValueError:
    get_logger("own").exception("a\x1b]0;title\x07b\u202ename\x85")
"""


def test_a_log_on_the_terminal_shows_what_the_terminal_would_obey():
    command = [sys.executable, "-P", "-c", LOGS]
    done = subprocess.run(command, capture_output=True, text=True, check=True)

    printed = done.stdout + done.stderr
    assert r"a\x1b]0;title\x07b\u202ename\x85" in printed
    assert r"c\x1b]52;c;QQ==\x07" in printed
    assert not {"\x07", "\u202e", "\x85"} & set(printed)
    assert "Traceback" in printed
