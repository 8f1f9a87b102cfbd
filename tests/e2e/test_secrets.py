"""Planted secrets are looked for in all that runs leave behind, the spans they send included."""

from __future__ import annotations

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import duckdb
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from .conftest import CITES, CONFIG, Ran, write_project

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from opentelemetry.proto.trace.v1.trace_pb2 import Span

    from tests.doubles import FaultyRunner

pytestmark = pytest.mark.timeout(600)

API_TOKEN = "tok-planted-5cfd1b"  # noqa: S105 - it opens nothing
LOGIN = "admin:auth-planted-77ab02"
DATABASE = "postgresql://me:db-planted-90e3d7@db.example/prefect"
RUNNER_LOGIN = "ann:runner-planted-2b88f4"
MODEL_LOGIN = "eve:model-planted-4e07a2"
OPTION_LOGIN = "bob:option-planted-c1d6a9"

LOGINS = (LOGIN, RUNNER_LOGIN, MODEL_LOGIN, OPTION_LOGIN)
PLANTED = [
    API_TOKEN,
    "db-planted-90e3d7",
    *(login.partition(":")[2] for login in LOGINS),
    *(base64.b64encode(login.encode()).decode() for login in LOGINS),
]


QUESTION = "Which coupon?"
ANSWER = "The coupon that saves most"
INSTRUCTION = "Answer from the code."
"""Texts that are no secrets, and still nothing for spans."""


class Receiver(ThreadingHTTPServer):
    """Takes spans as an OpenTelemetry collector does."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Receive)
        self.taken: list[ExportTraceServiceRequest] = []

    @property
    def url(self) -> str:
        """For ``OTEL_EXPORTER_OTLP_ENDPOINT``."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def spans(self) -> list[Span]:
        """Return all spans, in no order."""
        return [
            span
            for request in self.taken
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]


class _Receive(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        assert isinstance(self.server, Receiver)
        self.server.taken.append(ExportTraceServiceRequest.FromString(body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *_: object) -> None:  # noqa: A002 - the base class's name
        del format


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as started:
        thread = threading.Thread(target=started.serve_forever)
        thread.start()
        yield started
        started.shutdown()
        thread.join()


@pytest.fixture
def guarded_server(
    merganser: Callable[..., Ran], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """Start a Prefect server with a password; give what a command needs to be let in."""
    home = tmp_path_factory.mktemp("guarded")
    login = {"MERGANSER_HOME": str(home), "PREFECT_SERVER_API_AUTH_STRING": LOGIN}
    words = ("server", "--background", "--json", "--port", "0")
    url = merganser(*words, cwd=home, **login).json["url"]
    yield {
        "MERGANSER_HOME": str(home),
        "PREFECT_API_URL": f"{url}/api",
        "PREFECT_API_AUTH_STRING": LOGIN,
        # Everything that anything has to say, and what an operator's shell may hold besides.
        "PREFECT_LOGGING_LEVEL": "DEBUG",
        "PREFECT_LOGGING_ROOT_LEVEL": "DEBUG",
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": DATABASE,
        "MERGANSER_DATABASE_URL": DATABASE,
    }
    merganser("server", "--stop", cwd=home, **login)


def test_no_secret_is_left_in_history_logs_storage_or_index(
    merganser: Callable[..., Ran],
    runner: FaultyRunner,
    guarded_server: dict[str, str],
    receiver: Receiver,
    tmp_path: Path,
) -> None:
    folder = write_project(tmp_path, "shop")
    (folder / "shop.yaml").write_text(
        CONFIG.replace(
            "max_tokens: 40",
            'max_tokens: 40, token_key: SHOP_TOKEN, base_url: "${env.SHOP_MODELS}"',
        )
    )
    where = urlsplit(runner.url).netloc
    env = {
        **guarded_server,
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
        "MODEL_RUNNER_HOST": f"http://{RUNNER_LOGIN}@{where}",
        "SHOP_TOKEN": API_TOKEN,
        "SHOP_MODELS": f"http://{MODEL_LOGIN}@{where}",
    }

    indexed = merganser("index", "shop.yaml", cwd=folder, **env)
    runner.faults.script_chat([*CITES, f"{ANSWER} [1]."])
    asked = merganser("run", "shop.yaml", QUESTION, "--rag-mode", "context", cwd=folder, **env)
    (folder / "src" / "new.py").write_text('"""Something new to embed."""\n')
    runner.faults.inject("status", route="embeddings", status=500, times=None, message="broken")
    option = f"http://{OPTION_LOGIN}@{where}"
    failed = merganser("index", "shop.yaml", "--base-url", option, cwd=folder, **env)

    assert (indexed.code, asked.code, failed.code) == (0, 0, 1), (indexed, asked, failed)
    left = {
        **{f"{n}": (ran.out + ran.err).encode() for n, ran in enumerate((indexed, asked, failed))},
        **read_all(folder),
        **read_all(Path(env["MERGANSER_HOME"])),
        "spans": b"".join(request.SerializeToString() for request in receiver.taken),
    }
    history = b"".join(data for name, data in left.items() if "prefect.db" in name)
    assert b"shop.index-code" in history
    assert QUESTION.encode() in history
    assert where.encode() in history
    assert ANSWER.encode() in b"".join(
        data for name, data in left.items() if name.endswith(":result")
    )
    found = {
        (name, word) for name, data in left.items() for word in PLANTED if word.encode() in data
    }
    assert found == set()
    assert_spans_tell_what_happened(receiver.spans())
    for text in (QUESTION, ANSWER, INSTRUCTION, "takes the most off the basket"):
        assert text.encode() not in left["spans"]


def assert_spans_tell_what_happened(spans: list[Span]) -> None:
    by_id = {span.span_id: span for span in spans}
    chains = {tuple(_chain(span, by_id)) for span in spans}
    embed, chat = "embeddings ai/all-minilm:latest", "chat ai/smollm2:latest"
    index, ask = "shop.index-code", "shop.ask-root"
    assert {
        (index, "survey code", "scan"),
        (index, "embed 0", "chunk"),
        (index, "embed 0", "embed", embed),
        (index, "build code", "build"),
        (index, "publish code", "publish"),
        (ask, "search code", "retrieval code", "strategy bm25"),
        (ask, "search code", "retrieval code", "strategy chunked-embeddings", embed),
        (ask, "search code", "retrieval code", "fuse"),
        (ask, "invoke_agent root", chat),
    } <= chains
    values = [{a.key: a.value for a in span.attributes} for span in spans if span.name == embed]
    assert {one["gen_ai.operation.name"].string_value for one in values} == {"embeddings"}
    assert {one["gen_ai.embeddings.dimension.count"].int_value for one in values} == {384}
    assert all(one["gen_ai.usage.input_tokens"].int_value > 0 for one in values)


def _chain(span: Span, by_id: dict[bytes, Span]) -> list[str]:
    """Return the names from the flow run's span down, without the moment in the run's name."""
    before = _chain(by_id[span.parent_span_id], by_id) if span.parent_span_id in by_id else []
    return [*before, span.name if before else span.name.split()[0]]


def read_all(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder, and what is packed in databases and results."""
    read: dict[str, bytes] = {}
    for path in folder.rglob("*"):
        if path.is_file():
            read[str(path)] = path.read_bytes()
            if path.parent.parent.name == "turns" and path.name != "turn.json":
                read[f"{path}:result"] = _result(path)
            if path.suffix == ".duckdb":
                read[f"{path}:rows"] = _rows(path)
    return read


def _result(path: Path) -> bytes:
    """Unpack a task's result or error, which Prefect keeps pickled in base 64."""
    data = path.read_bytes()
    return base64.b64decode(json.loads(data)["result"] if data.startswith(b"{") else data)


def _rows(path: Path) -> bytes:
    with duckdb.connect(str(path), read_only=True) as database:
        tables = [
            name
            for (name,) in database.execute("SELECT table_name FROM duckdb_tables()").fetchall()
        ]
        return "".join(str(database.table(f'"{name}"').fetchall()) for name in tables).encode()
