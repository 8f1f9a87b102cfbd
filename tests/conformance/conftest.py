"""The server under test: the embedded runner, or the one that MODEL_RUNNER_HOST names.

A real runner must have the models of the roles, which CONFORMANCE_EMBEDDING_MODEL,
CONFORMANCE_CHAT_MODEL and CONFORMANCE_RERANK_MODEL name. Their engines are loaded, configured and
unloaded many times, and their configs are forgotten at the end. Other models are left alone and
nothing is loaded, tagged or deleted unless CONFORMANCE_DISPOSABLE says that the server's models may
be.
"""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

sys.path.insert(0, str(Path(__file__).parent))  # importlib mode does not, and cases are a package
pytest.register_assert_rewrite("dmr_contract")

from dmr_contract.target import Target  # noqa: E402 - after the rewrite
from embedded_target import TIMEOUT, real_root, start_embedded  # noqa: E402 - likewise


@pytest.fixture(scope="session")
def target(model_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with ExitStack() as stack:
        root = real_root()
        if not root:
            models = tmp_path_factory.mktemp("reranker")
            yield stack.enter_context(start_embedded(model_cache, models)).target
            return
        http = stack.enter_context(httpx.Client(timeout=TIMEOUT, trust_env=False))
        chat = os.environ.get("CONFORMANCE_CHAT_MODEL", "ai/smollm2")
        real = Target(
            url=root,
            embedding_model=os.environ.get("CONFORMANCE_EMBEDDING_MODEL", "ai/embeddinggemma"),
            chat_model=chat,
            rerank_model=os.environ.get("CONFORMANCE_RERANK_MODEL", "ai/qwen3-reranker"),
            http=http,
            disposable=bool(os.environ.get("CONFORMANCE_DISPOSABLE")),
        )
        for model in (real.embedding_model, real.chat_model, real.rerank_model):
            found = real.get(f"/models/{model}").status_code == 200
            assert found, f"{root} has no {model}; run: docker model pull {model}"
        yield real
