"""The Prefect UI as people see it: a real browser opens the pages of real runs."""

from __future__ import annotations

import base64
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pytest
from playwright.sync_api import Page, expect

from merganser.services.prefect_server import running_server, sign_in_page
from merganser.tasks.artifacts import code, facts_table, one_line, quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from .conftest import History, Watched

pytestmark = pytest.mark.timeout(600)

PATIENCE_MS = 60_000
"""The first page compiles 11 MB of scripts, on a busy machine for half a minute."""


@pytest.fixture(scope="module")
def page(open_page: Callable[[], AbstractContextManager[Page]], history: History) -> Iterator[Page]:
    """A page with much patience, signed in as ``merganser server --ui`` does."""
    server = running_server()
    assert server is not None
    with open_page() as page:
        page.set_default_timeout(PATIENCE_MS)
        expect.set_options(timeout=PATIENCE_MS)
        page.goto(sign_in_page(server).as_uri())
        page.wait_for_url(re.compile(rf"{history.url}/.*dashboard.*"))
        yield page


@dataclass(frozen=True)
class Visitor:
    """Opens pages of the UI."""

    page: Page
    url: str

    def open_run(self, run: dict[str, Any], tab: str) -> None:
        """Open the page of a flow run on a tab."""
        self.page.goto(f"{self.url}/v2/runs/flow-run/{run['id']}?tab={tab}")

    def shows(self, *texts: str) -> None:
        """Wait until the page shows all of the texts."""
        for text in texts:
            expect(self.page.locator("body")).to_contain_text(text)

    def green_pixels(self) -> int:
        """Count the pixels of completed bars in the run graph, which is drawn on a canvas."""
        canvas = self.page.locator("canvas").first
        expect(canvas).to_be_visible()
        picture = base64.b64encode(canvas.screenshot()).decode()
        return self.page.evaluate(COUNT_GREEN, f"data:image/png;base64,{picture}")


COUNT_GREEN = """async (url) => {
  const picture = new Image();
  picture.src = url;
  await picture.decode();
  const canvas = new OffscreenCanvas(picture.width, picture.height);
  const context = canvas.getContext("2d");
  context.drawImage(picture, 0, 0);
  const bytes = context.getImageData(0, 0, picture.width, picture.height).data;
  let green = 0;
  for (let i = 0; i < bytes.length; i += 4)
    if (bytes[i + 1] > 120 && bytes[i] < 80 && bytes[i + 2] < 110) green += 1;
  return green;
}"""


@pytest.fixture
def visitor(page: Page, history: History) -> Visitor:
    return Visitor(page, history.url)


INDEX_EDGES = [
    ("check embedding ai/all-minilm", "configure embedding ai/all-minilm"),
    ("configure embedding ai/all-minilm", "survey code"),
    ("survey code", "embed 0"),
    ("embed 0", "confirm ai/all-minilm"),
    ("confirm ai/all-minilm", "build code"),
    ("build code", "publish code"),
    ("publish code", "report code"),
]


def test_an_index_run_is_one_chain_from_the_model_check_to_the_report(
    visitor: Visitor, history: History, watched: Watched
) -> None:
    history.tasks(watched.indexed)

    visitor.open_run(watched.indexed, "TaskRuns")

    assert set(INDEX_EDGES) == history.edges(watched.indexed)
    visitor.shows("watched.index-code", "Completed", "8 Task runs")
    visitor.shows(*{name for edge in INDEX_EDGES for name in edge})
    deadline = time.monotonic() + 60.0
    while visitor.green_pixels() < 500 and time.monotonic() < deadline:
        visitor.page.wait_for_timeout(500)  # the graph is laid out in a web worker
    assert visitor.green_pixels() >= 500


def test_the_artifacts_of_an_index_run_tell_plan_and_report(
    visitor: Visitor, history: History, watched: Watched
) -> None:
    artifacts = history.artifacts(watched.indexed)

    visitor.open_run(watched.indexed, "Artifacts")
    visitor.shows("plan-code", "index-code", "What this run does to code", "Index code: published")
    visitor.page.goto(f"{visitor.url}/v2/artifacts/artifact/{artifacts['plan-code']['id']}")
    visitor.shows("Plan for code", "added: 3", "src/shop/discount.py")
    visitor.page.goto(f"{visitor.url}/v2/artifacts/artifact/{artifacts['index-code']['id']}")
    visitor.shows("served snapshot", "texts embedded", "dmr/ai/all-minilm")


def test_a_failed_run_shows_its_reason(visitor: Visitor, watched: Watched) -> None:
    visitor.open_run(watched.failed, "Details")

    visitor.shows("Failed", "State Message", "the engine is out of order")


def test_a_question_is_a_chain_from_the_models_to_the_answer(
    visitor: Visitor, history: History, watched: Watched
) -> None:
    names = set(history.tasks(watched.asked))
    edges = history.edges(watched.asked)

    visitor.open_run(watched.asked, "Artifacts")

    asked = "Model Request: ai/smollm2:latest"
    assert {asked, "search code", "show answer"} <= names
    assert ("configure embedding ai/all-minilm", "search code") in edges
    assert (asked, "show answer") in edges
    assert names - {child for _, child in edges} == {"check chat ai/smollm2"}
    visitor.shows("watched.ask-root", "Completed", "answer-root")
    answer = history.artifacts(watched.asked)["answer-root"]
    visitor.page.goto(f"{visitor.url}/v2/artifacts/artifact/{answer['id']}")
    visitor.shows("Which coupon?", "The coupon that saves most [1].", "src/shop/discount.py")


def test_a_batch_shows_its_answers_with_citations_and_why_one_failed(
    visitor: Visitor, history: History, watched: Watched
) -> None:
    artifacts = history.artifacts(watched.answered)

    visitor.page.goto(f"{visitor.url}/v2/artifacts/artifact/{artifacts['batch-faq']['id']}")
    visitor.shows("1 of 2 questions answered", "50.0%", "failed: cites unknown source")
    visitor.shows("Which coupon?", "The one that saves most [1].", "src/shop/discount.py:1-6")
    visitor.page.goto(f"{visitor.url}/v2/artifacts/artifact/{artifacts['answers-faq']['id']}")
    visitor.shows("failed: cites unknown source: [99]", "The one that saves most [1].")


def test_the_form_of_a_deployment_has_typed_parameters_with_help(
    visitor: Visitor, watched: Watched
) -> None:
    visitor.page.goto(f"{visitor.url}/v2/deployments/deployment/{watched.deployment['id']}/run")

    visitor.shows("faq.faq", "Ask only the first so many; empty asks all.")
    form = visitor.page.locator("form")
    expect(form.get_by_label("seed")).to_have_attribute("type", "number")
    for name in ("limit", "sample"):
        expect(form).to_contain_text(f"{name} (Optional)")
    expect(form.get_by_text("int", exact=True)).to_have_count(2)
    form.get_by_label("pull").click()
    for policy in ("always", "missing", "never", "ask"):
        expect(visitor.page.get_by_role("option", name=policy)).to_be_visible()


HOSTILE = [
    "[x](javascript:document.title='ran')",
    "[x](JaVaScRiPt:document.title='ran')",
    "[x](java\tscript:document.title='ran')",
    "[x](data:text/html,<script>document.title='ran'</script>)",
    "[x](vbscript:document.title='ran')",
    "[x](http://127.0.0.1:9/x) http://127.0.0.1:9/bare <http://127.0.0.1:9/angle>",
    "![x](http://127.0.0.1:9/beacon.png) ![y][1]\n\n[1]: http://127.0.0.1:9/other.png",
    "<img src=http://127.0.0.1:9/html.png onerror=\"document.title='ran'\">",
    "<a href=\"javascript:document.title='ran'\">x</a><script>document.title='ran'</script>",
    "<iframe src=\"javascript:parent.document.title='ran'\"></iframe><svg onload=alert(1)>",
    "``` [x](javascript:1) | [y](javascript:1) \\| ```",
]


def test_links_pictures_and_scripts_of_hostile_texts_are_inert(
    visitor: Visitor, history: History
) -> None:
    """As questions, answers, names and notes are written into artifacts."""
    parts = [
        form
        for text in HOSTILE
        for form in (
            one_line(text),
            quoted(text),
            code(text),
            *facts_table([(one_line(text), text)]),
        )
    ]
    texts = "\n\n".join("\n".join(parts[place : place + 8]) for place in range(0, len(parts), 8))
    body = {"key": "hostile", "type": "markdown", "data": f"# Hostile texts\n\n{texts}"}
    artifact = history.ask("artifacts/", body)
    asked: list[str] = []
    visitor.page.on("request", lambda request: asked.append(request.url))

    visitor.page.goto(f"{visitor.url}/v2/artifacts/artifact/{artifact['id']}")
    visitor.shows("Hostile texts", "beacon.png", "vbscript:")

    found = visitor.page.eval_on_selector_all(
        "a, area, iframe, img, form, object, embed",
        """found => found.map(one => [
          one.tagName, one.href || one.src || one.action || one.data || "", one.textContent
        ])""",
    )
    ours = (f"{visitor.url}/", "data:image/")
    foreign = [each for each in found if not each[1].startswith(ours) and each[1]]
    # An address that is written out may lead where it says: Prefect's pages make links of those.
    untrue = [each for each in foreign if each[0] != "A" or each[2] not in unquote(each[1])]
    assert [each for each in untrue if "prefect.io" not in each[1]] == []
    assert [each for each in found if "script:" in each[1].lower()] == []
    assert [url for url in asked if "127.0.0.1:9/" in url] == []
    assert "ran" not in visitor.page.title()
