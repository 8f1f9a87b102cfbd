"""The hub here is a real HTTP server on loopback, named by the hub's own HF_ENDPOINT variable."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from merganser.runner.known_models import MINILM, CatalogueModel, WeightFile
from merganser.runner.weights import WeightStore, WeightsUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_BYTES = bytes(range(256)) * 20_000
_FILE = WeightFile("model.safetensors", hashlib.sha256(_BYTES).hexdigest(), len(_BYTES))
_MODEL: CatalogueModel = replace(
    MINILM, files=(_FILE,), package="no-such-package", repository="acme/tiny", revision="abc"
)


class _Hub(ThreadingHTTPServer):
    """Serves one file and remembers how it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _HubHandler)
        self.body = _BYTES
        self.cut_after: int | None = None
        self.asked = list[tuple[str, str | None]]()


class _HubHandler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        hub = self.server
        assert isinstance(hub, _Hub)
        asked = self.headers.get("Range")
        hub.asked.append((self.path, asked))
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(hub.body) - start))
        self.end_headers()
        end = hub.cut_after if hub.cut_after and not asked else len(hub.body)
        self.wfile.write(hub.body[start:end])
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        del format, args


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[_Hub]:
    with _Hub() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        yield server
        server.shutdown()
        thread.join()


def _ignore(file: WeightFile, done_bytes: int) -> None:
    del file, done_bytes


def test_downloads_the_pinned_revision_and_keeps_it(hub: _Hub, tmp_path: Path) -> None:
    store = WeightStore(tmp_path, offline=False)
    reported = list[int]()

    first = store.obtain(_MODEL, on_progress=lambda _, done: reported.append(done))
    second = store.obtain(_MODEL, on_progress=_ignore)

    assert first.paths[_FILE.name].read_bytes() == _BYTES
    assert hub.asked == [("/acme/tiny/resolve/abc/model.safetensors", None)]
    assert (first.source, second.source) == ("hub", "cache")
    assert reported[-1] == len(_BYTES)
    assert reported == sorted(reported)


def test_a_cut_download_goes_on_where_it_stopped(hub: _Hub, tmp_path: Path) -> None:
    hub.cut_after = 3_000_000

    with pytest.raises(WeightsUnavailableError, match="cannot download"):
        WeightStore(tmp_path, offline=False).obtain(_MODEL, on_progress=_ignore)
    weights = WeightStore(tmp_path, offline=False).obtain(_MODEL, on_progress=_ignore)

    assert weights.paths[_FILE.name].read_bytes() == _BYTES
    resumed = hub.asked[-1][1]
    assert resumed is not None
    assert int(resumed.removeprefix("bytes=").rstrip("-")) > 0


def test_this_machine_is_asked_without_the_proxy_of_the_environment(
    hub: _Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")

    WeightStore(tmp_path, offline=False).obtain(_MODEL, on_progress=_ignore)

    assert len(hub.asked) == 1


@pytest.mark.parametrize("excepted", [False, True])
def test_a_hub_elsewhere_is_asked_through_the_proxy_of_the_environment(
    hub: _Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, excepted: bool
) -> None:
    # The double stands for the proxy: it is asked for the whole address.
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{hub.server_port}")
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.invalid")
    if excepted:
        monkeypatch.setenv("NO_PROXY", "hub.invalid")
    store = WeightStore(tmp_path, offline=False)

    if excepted:
        with pytest.raises(WeightsUnavailableError, match="cannot download"):
            store.obtain(_MODEL, on_progress=_ignore)
    else:
        store.obtain(_MODEL, on_progress=_ignore)

    path = "http://hub.invalid/acme/tiny/resolve/abc/model.safetensors"
    assert hub.asked == ([] if excepted else [(path, None)])


def test_a_hub_that_gives_more_than_the_pinned_file_is_not_read_on(
    hub: _Hub, tmp_path: Path
) -> None:
    hub.body = _BYTES * 3

    with pytest.raises(WeightsUnavailableError, match="has no end"):
        WeightStore(tmp_path, offline=False).obtain(_MODEL, on_progress=_ignore)

    assert sum(file.stat().st_size for file in tmp_path.rglob("*.incomplete")) <= len(_BYTES)


def test_other_bytes_than_the_pinned_ones_are_never_used(hub: _Hub, tmp_path: Path) -> None:
    hub.body = _BYTES[:-1] + b"!"

    with pytest.raises(WeightsUnavailableError, match="has sha256"):
        WeightStore(tmp_path, offline=False).obtain(_MODEL, on_progress=_ignore)

    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_spoiled_cache_is_downloaded_again(hub: _Hub, tmp_path: Path) -> None:
    store = WeightStore(tmp_path, offline=False)
    path = store.obtain(_MODEL, on_progress=_ignore).paths[_FILE.name]
    path.write_bytes(b"spoiled")

    again = store.obtain(_MODEL, on_progress=_ignore)

    assert again.source == "hub"
    assert path.read_bytes() == _BYTES


def test_without_any_source_the_error_lists_all_places(tmp_path: Path) -> None:
    with pytest.raises(WeightsUnavailableError) as caught:
        WeightStore(tmp_path, offline=True).obtain(_MODEL, on_progress=_ignore)

    message = str(caught.value)
    assert str(tmp_path) in message
    assert "model hub: switched off" in message
    assert "no-such-package: not installed" in message


def test_packaged_weights_are_the_official_ones(tmp_path: Path) -> None:
    weights = WeightStore(tmp_path, offline=True).obtain(MINILM, on_progress=_ignore)

    assert weights.source == "package"
    assert set(weights.paths) == {"model.safetensors", "tokenizer.json", "config.json"}


def test_an_unreachable_hub_leaves_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")

    weights = WeightStore(tmp_path, offline=False).obtain(MINILM, on_progress=_ignore)

    assert weights.source == "package"
