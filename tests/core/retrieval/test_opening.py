"""What models send to their servers to be let in, seen by a server on loopback."""

import base64
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from pydantic_ai import Agent

from merganser.agent.model import open_chat_model
from merganser.config.load import load_config
from merganser.config.rag_definition import resolve_rag
from merganser.errors import ModelRunnerError, SpecErrors
from merganser.indexing.run import index_once_async
from merganser.models.address import parse_address
from merganser.retrieval.opening import locate_models, open_retrievers

CONFIG = """
providers:
  guarded: {{base_url: "{url}/v1", token_key: GUARDED_TOKEN}}
models:
  order: {{provider: guarded, model: order}}
rag:
  birds:
    docs: [birds.md]
    strategies: [{{type: bm25}}]
    results: {{reranking: {{model: order}}}}
"""


@pytest.fixture
def seen() -> list[str | None]:
    """The Authorization header of each request."""
    return []


@pytest.fixture
def url(seen: list[str | None]) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.headers.get("Authorization"))
            if self.path != "/v1/models":
                self.send_error(404)
                return
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"data": [{"id": "order"}]}')

        do_POST = do_GET  # noqa: N815 - the library's name

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


async def test_every_request_of_a_search_bears_the_models_token(
    url: str, seen: list[str | None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("GUARDED_TOKEN", "made-up")
    (tmp_path / "birds.md").write_text("The merganser dives.\n\nThe goose grazes.\n")
    (tmp_path / "birds.yaml").write_text(CONFIG.format(url=url))
    config = load_config(tmp_path / "birds.yaml")
    for index in resolve_rag(config, "birds").indexes:
        await index_once_async(index, None)
    find, _ = await locate_models(config, ["birds"], base_url=None)
    seen.clear()

    async with open_retrievers(config, ["birds"], find) as retrievers:
        await retrievers["birds"].search("merganser")

    assert seen
    assert set(seen) == {"Bearer made-up"}


async def test_a_token_that_is_not_set_is_an_error_at_its_line(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("GUARDED_TOKEN", raising=False)
    (tmp_path / "birds.yaml").write_text(CONFIG.format(url=url))
    config = load_config(tmp_path / "birds.yaml")

    with pytest.raises(SpecErrors) as caught:
        await locate_models(config, ["birds"], base_url=None)

    assert "birds.yaml:3:" in str(caught.value)
    assert "'GUARDED_TOKEN' is not set, and model 'order' needs it" in str(caught.value)


async def test_a_chat_logs_in_with_the_login_of_its_address(url: str, seen: list[str | None]):
    address = parse_address(url.replace("http://", "http://ann:made-up@"))

    async with open_chat_model("order", address, on_event=lambda _: None) as model:
        with pytest.raises(ModelRunnerError) as caught:
            await Agent(model).run("Which bird?")

    assert set(seen) == {f"Basic {base64.b64encode(b'ann:made-up').decode()}"}
    assert "made-up" not in str(caught.value)
