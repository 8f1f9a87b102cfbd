"""What is read of a page is what Chromium shows of it."""

from __future__ import annotations

import random
import re
from typing import TYPE_CHECKING

from merganser.documents.html_text import read_html

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from playwright.sync_api import Page

PIECES = (
    *("<div>", "</div>", "<p>", "</p>", "<b>", "</b>", "<table>", "</table>", "<tr>", "<td>"),
    *("</td>", "<tbody hidden>", "<table hidden>", "<div hidden>", "<b hidden>", "<i>", "</i>"),
    *("<span style='display:none'>", "</span>", "<p style='visibility:hidden'>", "<a href=x>"),
    *("</a>", "<ul><li>", "<li>", "</li>", "</ul>", "<dl><dt>", "<dd>", "<form hidden>", "</form>"),
    *("<svg>", "</svg>", "<svg><desc>", "<math><mi>", "</math>", "<h2>", "</h3>"),
    *("<button>", "</button>", "<template>", "</template>", "<section hidden>", "</section>"),
    *("<em class=q>", "</em>", "<header>", "</header>", "<caption>", "<br>", "<font color=white>"),
    *("</font>", "<code>", "</code>", "<u hidden>", "</u>", "<q hidden>", "</q>", "<div/>"),
)
SHOWN = "() => document.body ? document.body.innerText : ''"


def test_words_of_broken_pages_are_those_that_the_browser_shows(
    open_page: Callable[[], AbstractContextManager[Page]],
):
    chance = random.Random(12)  # noqa: S311 - no secret
    differ: list[tuple[str, set[str]]] = []
    with open_page() as page:
        for _ in range(150):
            parts = [f"w{n}w {chance.choice(PIECES)}" for n in range(chance.randint(2, 14))]
            source = (
                "<!DOCTYPE html><style>.q{display:none}</style><body>" + " ".join(parts) + " end"
            )
            page.set_content(source, wait_until="domcontentloaded")
            shown = set(re.findall(r"w\d+w|end", page.evaluate(SHOWN)))
            shown -= _faint(page)
            read = set(re.findall(r"w\d+w|end", read_html(source.encode()).text))
            if shown != read:
                differ.append((source, shown ^ read))

    assert not differ


def _faint(page: Page) -> set[str]:
    """Return the words that stand there in white on white, which Chromium counts as text."""
    faint: str = page.evaluate(
        """() => {
            const found = [];
            const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
            while (walk.nextNode()) {
                const color = getComputedStyle(walk.currentNode.parentElement).color;
                if (color === 'rgb(255, 255, 255)') found.push(walk.currentNode.data);
            }
            return found.join(' ');
        }"""
    )
    return set(re.findall(r"w\d+w|end", faint))
