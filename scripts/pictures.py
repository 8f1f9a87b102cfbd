"""Take the pictures of the Prefect UI that the documentation shows: an index run and its report.

Indexes this package's own source by the example config, with models served on this machine, and
photographs the run with a headless Chromium. Run it when the graph or the report has changed::

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

ROOT = Path(__file__).parents[1]
FLOW = "codebase.reindex"
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
MENU_WIDTH = 256
PATIENCE_MS = 60_000
"""The first page compiles 11 MB of scripts."""


def main() -> None:
    """Index, then photograph."""
    target = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "docs" / "images")
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(ROOT / "src" / "merganser", Path(folder) / "src", symlinks=False)
        shutil.copy(ROOT / "configs" / "codebase.yaml", folder)
        merganser("index", "codebase.yaml", "--embedded", cwd=folder)
    url = json.loads(merganser("server", "--status", "--json"))["url"]
    run = ask(url, "flow_runs/filter", {"flows": {"name": {"any_": [FLOW]}}})[0]
    report = ask(url, "artifacts/filter", {"artifacts": {"key": {"any_": ["index-codebase"]}}})[0]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=OPTIONS)
        page = browser.new_page(viewport={"width": 1360, "height": 760})
        page.set_default_timeout(PATIENCE_MS)
        photograph_run(page, f"{url}/v2/runs/flow-run/{run['id']}", target / "index-run.png")
        page.set_viewport_size({"width": 1360, "height": 1200})
        page.goto(f"{url}/v2/artifacts/artifact/{report['id']}")
        page.get_by_role("cell", name="served snapshot").wait_for()
        page.screenshot(
            path=target / "index-report.png", clip=beside_menu(page, page.locator("table"))
        )
        browser.close()


def photograph_run(page: Page, address: str, picture: Path) -> None:
    """Photograph a run's head and its graph, as the UI fits it into its frame."""
    page.goto(f"{address}?tab=TaskRuns")
    graph = page.locator("canvas").first
    graph.wait_for()
    page.wait_for_timeout(6000)  # a web worker lays the graph out
    page.screenshot(path=picture, clip=beside_menu(page, graph))


def beside_menu(page: Page, last: Locator) -> FloatRect:
    """Give the part of a page right of the menu, from its top to the end of an element."""
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


def merganser(*words: str, cwd: str | None = None) -> str:
    """Run a command and give what it printed."""
    command = [sys.executable, "-m", "merganser", *words]
    return subprocess.run(command, cwd=cwd, check=True, stdout=subprocess.PIPE, text=True).stdout


def ask(url: str, path: str, query: dict[str, Any]) -> list[dict[str, Any]]:
    """Ask the Prefect server, the newest first."""
    sort = "START_TIME_DESC" if path.startswith("flow_runs") else "CREATED_DESC"
    body = {**query, "sort": sort, "limit": 1}
    return httpx.post(f"{url}/api/{path}", json=body, trust_env=False).raise_for_status().json()


if __name__ == "__main__":
    main()
