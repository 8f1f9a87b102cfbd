"""Where the suite finds a runner, and the embedded one as a target.

The embedded runner's faults are put into the suite's words and its middleware becomes a switch.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from dmr_contract import INFERENCE_MODES, Target
from dmr_contract.asgi import Switch
from dmr_contract.target import LONG_READ_SECONDS

from merganser.runner.artifacts import Artifact, GgufFile
from merganser.runner.known_models import MINILM
from merganser.runner.weights import WeightStore
from tests.doubles import FaultyRunner
from tests.doubles.synthetic_reranker import write_synthetic_reranker

if TYPE_CHECKING:
    from collections.abc import Generator

    from dmr_contract import PullFault
    from dmr_contract.asgi import App

    from tests.doubles import FaultKind

TIMEOUT = httpx.Timeout(10, read=LONG_READ_SECONDS, write=60)


def real_root() -> str:
    """Return the root URL of a real runner, or "" when none is named."""
    host = os.environ.get("MODEL_RUNNER_HOST", "").strip().rstrip("/")
    if not host:
        return ""
    root = host if "://" in host else f"http://{host}"
    for suffix in ("/v1", "/llama.cpp", "/engines"):
        root = root.removesuffix(suffix)
    return root


EMBEDDING_MODEL = "ai/embeddinggemma"
CHAT_MODEL = "ai/smollm2"
RERANK_MODEL = "ai/synthetic-reranker"

SLOTS = len(INFERENCE_MODES)
"""Room for each role at once, so that no case depends on the number of cores."""

PULLABLE_MODEL = "ai/snowflake-arctic-embed"
"""Not local until pulled; a packaged model stands in for it."""

PULL_FAULTS: dict[PullFault, FaultKind] = {
    "unauthorized-before": "pull-unauthorized",
    "not-found-before": "pull-not-found",
    "unsupported-before": "pull-unsupported",
    "error-line": "pull-error-line",
    "hub-unauthorized": "pull-stream-unauthorized",
    "hub-not-found": "pull-stream-not-found",
    "abrupt-close": "pull-cut",
}


class EmbeddedControls:
    """The runner's faults as the cases ask for them."""

    def __init__(self, runner: FaultyRunner) -> None:
        self._store = runner.store
        self._faults = runner.faults

    def slow_load(self, seconds: float) -> None:
        self._faults.inject("load-slow", seconds=seconds, times=None)

    def slow_pull(self, seconds: float) -> None:
        self._faults.clear()
        if seconds:
            self._faults.inject("pull-slow", seconds=seconds, times=None)

    def fail_next_pull(self, fault: PullFault) -> None:
        self._faults.inject(PULL_FAULTS[fault])

    def pullable_model(self) -> str:
        return PULLABLE_MODEL

    def add_model(self, identifier: str, config: dict[str, Any]) -> None:
        self._store.add(Artifact(identifier, GgufFile(Path("none"), None), config=config), None)

    def tag_model(self, identifier: str, reference: str) -> None:
        model = self._store.find(identifier)
        assert model is not None
        self._store.add(model.artifact, reference)

    def crash_next_load(self, message: str) -> None:
        self._faults.inject("load-fail", message=f"llama.cpp failed: {message}")

    def cut_next_stream(self) -> None:
        self._faults.inject("cut", route="chat", after_bytes=200)

    def reset(self) -> None:
        self._faults.clear()


@dataclass(frozen=True, slots=True)
class RunningTarget:
    """A started embedded runner.

    Attributes:
        target: What the cases see.
        switch: Breaks it, one mutation at a time.
        controls: Its faults.
    """

    target: Target
    switch: Switch
    controls: EmbeddedControls

    def tidy(self) -> None:
        """Undo what a case that failed halfway left behind."""
        self.controls.reset()
        self.target.settle(*{EMBEDDING_MODEL, CHAT_MODEL, RERANK_MODEL})


def ignore(*_progress: object) -> None:
    """Take no interest in how far a copy has come."""


@contextmanager
def start_embedded(cache_dir: Path, models_dir: Path) -> Generator[RunningTarget]:
    """Start a runner with a model for each role.

    No reranker's weights come in a package: its head is random, which gives answers of the right
    form and an order without meaning. It is written to ``models_dir``.
    """
    weights = WeightStore(cache_dir, offline=True).obtain(MINILM, on_progress=ignore)
    write_synthetic_reranker(weights.paths, models_dir / "synthetic-reranker.gguf")
    switches: list[Switch] = []

    def breakable(app: App) -> Switch:
        switches.append(Switch(app))
        return switches[-1]

    runner = FaultyRunner(
        port=0,
        models_dir=models_dir,
        pulled=(EMBEDDING_MODEL, CHAT_MODEL),
        slots=SLOTS,
        cache_dir=cache_dir,
        offline=True,
        middleware=(breakable,),
    )
    with runner, httpx.Client(timeout=TIMEOUT, trust_env=False) as http:
        controls = EmbeddedControls(runner)
        target = Target(
            url=runner.url,
            embedding_model=EMBEDDING_MODEL,
            chat_model=CHAT_MODEL,
            rerank_model=RERANK_MODEL,
            http=http,
            faults=controls,
            embedded=True,
            slots=SLOTS,
        )
        yield RunningTarget(target, switches[0], controls)
