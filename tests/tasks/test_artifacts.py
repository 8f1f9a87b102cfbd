"""Texts of models and strangers in artifacts: shown as they are, doing nothing."""

from __future__ import annotations

import pytest
from markdown_it import MarkdownIt

from merganser.tasks.artifacts import code, facts_table, one_line, quoted

HOSTILE = [
    "[x](javascript:alert(1))",
    "\\[x](javascript:alert(1))",
    "![x](http://127.0.0.1/pixel)",
    "[![x](http://127.0.0.1/a)](javascript:alert(1))",
    "<img src=x onerror=alert(1)>",
    "<javascript:alert(1)>",
    "[1](javascript:alert(1))",
    "[[1]](javascript:alert(1))",
    "[1]\n\n[1]: javascript:alert(1)",
    "![1][2]\n\n[2]:javascript:alert(1)",
    "[x][1]\n\n[1]: javascript:alert(1)",
    "` [x](javascript:alert(1)) `` [x](javascript:alert(1))",
    "a | [x](javascript:alert(1)) \\| [y](javascript:alert(1))",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_text_makes_no_link_and_no_picture(text: str):
    rules = MarkdownIt("commonmark", {"html": True}).enable("table")
    table = "\n".join(facts_table([(one_line(text), text)]))

    for written in (one_line(text), quoted(text), code(text), f"before {code(text)}", table):
        shown = rules.render(written)
        assert "<a " not in shown
        assert "<img" not in shown
        assert shown.count("<td>") in {0, 2}
