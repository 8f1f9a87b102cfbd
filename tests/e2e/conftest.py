"""The whole product as a user has it: commands in processes of their own, real servers behind."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from merganser.embedded import EmbeddedRunner


@dataclass(frozen=True)
class Ran:
    """One finished command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Its stdout as JSON."""
        return json.loads(self.out)


@pytest.fixture(scope="session")
def command_environment(history_url: str, runner: EmbeddedRunner) -> dict[str, str]:
    """What the commands of the session see."""
    assert history_url
    return {**os.environ, "MODEL_RUNNER_HOST": runner.url}


@pytest.fixture(scope="session")
def merganser(command_environment: dict[str, str]) -> Callable[..., Ran]:
    """Give a function that runs ``merganser WORDS`` in a folder."""

    def run(*words: str, cwd: Path, timeout: float = 240.0, **env: str) -> Ran:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "merganser", *words],
            cwd=cwd,
            env={**command_environment, **env},
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=timeout,
            check=False,
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture(scope="session")
def demo_index(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    merganser: Callable[..., Ran],
) -> Path:
    """Index the corpus of ``make demo`` with its config and real embeddings; give the config.

    It takes minutes, so the folder stays between runs. An index is brought up to date by what
    changed since, be it a file, the tokeniser or a model, and equals one that is made anew.
    """
    cache: pytest.Cache | None = getattr(request.config, "cache", None)
    folder = cache.mkdir("demo-index") if cache else tmp_path_factory.mktemp("demo-index")
    demo = Path(__file__).parents[2] / "scripts" / "demo.py"
    config: Path = runpy.run_path(str(demo))["prepare"](folder)
    ran = merganser("index", config.name, "--json", cwd=folder, timeout=1500)
    assert ran.code == 0, ran
    return config


CONFIG = """\
models:
  # A small model left alone talks until its context is full.
  small: {provider: dmr, model: ai/smollm2, max_tokens: 40}
agents:
  root:
    model: small
    instruction: Answer from the code.
    rag: [code]
rag:
  code:
    docs: [./src]
    strategies:
      - type: chunked-embeddings
        embedding_model: dmr/ai/all-minilm
        chunking: {size: 800, overlap: 0, code_aware: true}
      - type: bm25
        chunking: {size: 800, overlap: 0, code_aware: true}
    results: {limit: 5}
"""

SOURCES = {
    "src/shop/discount.py": '''\
"""Discounts."""


def best_discount(prices, coupons):
    """Give the coupon that takes the most off the basket."""
    return max(coupons, key=lambda coupon: coupon.saving(sum(prices)))
''',
    "src/shop/mail.py": '''\
"""Mail to customers."""


def send_invoice(customer, total):
    """Send the invoice by e-mail and remember when."""
    customer.mailbox.deliver(f"You owe {total}")
''',
    "src/README.md": "# Shop\n\n## Refunds\n\nMoney goes back within 14 days.\n",
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A small codebase with its config."""
    (tmp_path / "shop.yaml").write_text(CONFIG)
    for name, text in SOURCES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path
