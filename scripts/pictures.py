"""Take the pictures of the documentation: of the Prefect UI, and of a report.

Indexes this package's own source by the example config and answers some questions about birds,
with models served on this machine, and photographs both with a headless Chromium. Run it when what
is shown has changed::

    python scripts/pictures.py docs/images
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import FloatRect, Locator, Page, sync_playwright

from merganser.services.prefect_server import running_server, sign_in_page

ROOT = Path(__file__).parents[1]
INDEX_FLOW, BATCH_FLOW = "codebase.reindex", "nightly.faq"
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
MENU_WIDTH = 256
PATIENCE_MS = 60_000
"""The first page compiles 11 MB of scripts."""

DEGRADED = 3

NOTES = {
    "merganser.md": "# Merganser\nThe merganser is a diving duck with a thin, saw-edged bill.\n"
    "It dives for fish and nests in hollow trees near lakes and rivers.\n",
    "goose.md": "# Goose\nThe goose grazes on grass and grain.\n"
    "In autumn geese fly south in the shape of a V.\n",
}
QUESTIONS = [
    {"id": "nest", "question": "Where does the merganser nest?", "expected": "In hollow trees."},
    {"id": "bill", "question": "What kind of bill does the merganser have?"},
    {"id": "owl", "question": "How far can an owl turn its head?"},
]
NIGHTLY = """\
models:
  small: {provider: dmr, model: ai/smollm2, temperature: 0, max_tokens: 160}
agents:
  root: {model: small, instruction: Answer in one or two sentences., rag: [notes]}
rag:
  notes:
    docs: [./notes]
    strategies:
      - {type: chunked-embeddings, embedding_model: dmr/ai/embeddinggemma}
      - {type: bm25}
    results: {limit: 3}
flows:
  refresh: {type: index, rag: notes, schedule: {cron: "0 3 * * *", timezone: Europe/Berlin}}
  faq:
    type: batch
    agent: root
    input: ./questions.jsonl
    output: ./answers.jsonl
    after: refresh
    max_failed: 0.5
"""


def main() -> None:
    """Index and answer, then photograph; a second word takes the pictures of ``batch`` alone."""
    target = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "docs" / "images").absolute()
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=OPTIONS)
        page = browser.new_page(viewport={"width": 1360, "height": 1800})
        page.set_default_timeout(PATIENCE_MS)
        if sys.argv[2:] != ["batch"]:
            photograph_index(page, Path(folder), target)
        photograph_batch(page, Path(folder) / "birds", target)
        browser.close()


def photograph_index(page: Page, folder: Path, target: Path) -> None:
    """Index, and photograph the run and its report."""
    run_index(folder)
    url = sign_in(page)
    page.set_viewport_size({"width": 1360, "height": 760})
    photograph_run(page, f"{url}/v2/runs/flow-run/{run_id(INDEX_FLOW)}", target)
    page.set_viewport_size({"width": 1360, "height": 1800})
    page.goto(f"{url}/v2/artifacts/artifact/{artifact_id('index-codebase')}")
    page.get_by_role("cell", name="served snapshot").wait_for()
    table = page.locator("table")
    page.screenshot(path=target / "index-report.png", clip=beside_menu(page, table))


def photograph_batch(page: Page, folder: Path, target: Path) -> None:
    """Answer questions, and photograph the answers, the form of the deployment and the report."""
    run_batch(folder)
    url = sign_in(page)
    page.goto(f"{url}/v2/artifacts/artifact/{artifact_id('batch-faq')}")
    page.get_by_role("heading", name="Answered").wait_for()
    last = page.get_by_text("notes/merganser.md:1-3").last
    page.screenshot(path=target / "batch-answers.png", clip=beside_menu(page, last))
    photograph_form(page, url, target)
    retire()
    photograph_report(page, folder / "report.html", target)


def run_index(folder: Path) -> None:
    """Index this package's source by the example config."""
    shutil.copytree(ROOT / "src" / "merganser", folder / "src", symlinks=False)
    shutil.copy(ROOT / "configs" / "codebase.yaml", folder)
    merganser("index", "codebase.yaml", "--embedded", cwd=folder)


def run_batch(folder: Path) -> None:
    """Answer the questions about birds, deploy their flows, report."""
    (folder / "notes").mkdir(parents=True)
    for name, text in NOTES.items():
        (folder / "notes" / name).write_text(text)
    lines = "".join(f"{json.dumps(question)}\n" for question in QUESTIONS)
    (folder / "questions.jsonl").write_text(lines)
    (folder / "nightly.yaml").write_text(NIGHTLY)
    merganser("index", "nightly.yaml", "--embedded", cwd=folder)
    merganser("batch", "nightly.yaml", "faq", "--embedded", cwd=folder, expected=DEGRADED)
    merganser("report", "answers.jsonl", cwd=folder)
    merganser("deploy", "nightly.yaml", "--apply", cwd=folder)


def photograph_run(page: Page, address: str, target: Path) -> None:
    """Photograph a run's head and its graph, as the UI fits it into its frame."""
    page.goto(f"{address}?tab=TaskRuns")
    graph = page.locator("canvas").first
    graph.wait_for()
    page.wait_for_timeout(6000)  # a web worker lays the graph out
    page.screenshot(path=target / "index-run.png", clip=beside_menu(page, graph))


def photograph_form(page: Page, url: str, target: Path) -> None:
    """Photograph the form that starts a run of a deployment."""
    name = f"{BATCH_FLOW}/nightly"
    deployment = api("GET", f"deployments/name/{name}")
    page.goto(f"{url}/v2/deployments/deployment/{deployment['id']}/run")
    page.get_by_text("Of the sample.").wait_for()
    page.get_by_text(BATCH_FLOW).wait_for()
    last = page.get_by_text("Enforce Parameter Schema")
    page.screenshot(path=target / "deployment-form.png", clip=beside_menu(page, last))


def photograph_report(page: Page, report: Path, target: Path) -> None:
    """Photograph the page that `merganser report` wrote, below the place of the answers."""
    page.set_viewport_size({"width": 1104, "height": 1400})
    page.goto(report.as_uri())
    box = page.locator("main").bounding_box()
    top = page.locator(".figures").bounding_box()
    assert box is not None, "it is on the page"
    assert top is not None, "it is on the page"
    height = box["y"] + box["height"] - top["y"] + 32
    clip: FloatRect = {"x": 0, "y": top["y"] - 16, "width": 1104, "height": height}
    page.screenshot(path=target / "batch-report.png", clip=clip)


def beside_menu(page: Page, last: Locator) -> FloatRect:
    """Return the part of a page right of the menu, from its top to the end of an element."""
    box = last.bounding_box()
    size = page.viewport_size
    assert box is not None, "it is on the page"
    assert size is not None, "it was given"
    left = MENU_WIDTH
    return {
        "x": left,
        "y": 0,
        "width": size["width"] - left,
        "height": box["y"] + box["height"] + 16,
    }


def merganser(*words: str, cwd: Path | None = None, expected: int = 0) -> str:
    """Run a command and give what it printed."""
    command = [sys.executable, "-m", "merganser", *words]
    done = subprocess.run(command, cwd=cwd, check=False, stdout=subprocess.PIPE, text=True)
    assert done.returncode == expected, f"{command} ended with {done.returncode}"
    return done.stdout


def retire() -> None:
    """Delete what was deployed for the pictures."""
    query = {"deployments": {"tags": {"all_": ["config:nightly"]}}}
    for deployment in api("POST", "deployments/filter", query):
        api("DELETE", f"deployments/{deployment['id']}")


def sign_in(page: Page) -> str:
    """Sign the browser in at the Prefect server that keeps the runs; return its address."""
    server = running_server()
    assert server is not None, "the runs have started it"
    page.goto(sign_in_page(server).as_uri())
    page.wait_for_function("location.pathname.endsWith('/dashboard')")
    return server.url


def run_id(flow: str) -> str:
    """Return the newest run of a flow."""
    return newest("flow_runs/filter", {"flows": {"name": {"any_": [flow]}}})["id"]


def artifact_id(key: str) -> str:
    """Return the newest artifact of a key."""
    return newest("artifacts/filter", {"artifacts": {"key": {"any_": [key]}}})["id"]


def newest(path: str, query: dict[str, Any]) -> dict[str, Any]:
    """Ask the Prefect server for the newest of what a query finds."""
    sort = "START_TIME_DESC" if path.startswith("flow_runs") else "CREATED_DESC"
    return api("POST", path, {**query, "sort": sort, "limit": 1})[0]


def api(method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    """Ask the Prefect server; return its JSON."""
    told = json.loads(merganser("server", "--status", "--json"))
    answer = httpx.request(
        method,
        f"{told['url']}/api/{path}",
        json=body,
        headers={"Authorization": told["authorization"]},
        trust_env=False,
    )
    return answer.raise_for_status().json() if answer.content else None


if __name__ == "__main__":
    main()
