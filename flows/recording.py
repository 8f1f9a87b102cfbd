"""Flow runs that outlive their Prefect server, or have none.

Prefect's clients in this process are replaced by ones that, while a run is recorded, hand what the
server does not take to an outbox (``merganser.services.records``) and answer it themselves, as an
API with one run would. Events, which tell of task runs, always go through the outbox: Prefect's own
way, a websocket, loses them with the connection.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import prefect
from prefect.client import orchestration
from prefect.client.base import PrefectHttpxAsyncClient, PrefectHttpxSyncClient
from prefect.events.clients import NullEventsClient
from prefect.events.worker import EventsWorker, ProcessPoolForwardingEventsClient
from prefect.exceptions import CancelledRun
from prefect.logging.handlers import APILogWorker

from merganser.services.prefect_server import NO_SERVER
from merganser.services.records import Outbox, request

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping
    from pathlib import Path

    from prefect.events.schemas.events import Event

CLOUD = "https://api.prefect.cloud"
"""Whose events go another way, which is Prefect's own."""

_ANSWER_SECONDS = 30.0
"""How long a server may take to answer a run; then it is away, and nothing is lost by that."""

_DRAIN_SECONDS = 5.0

_KNOWN = ("flows", "flow_runs", "deployments", "work_queues", "work_pools")
"""Collections whose objects are asked for again in mid-run."""

_SENT = ("flows", "flow_runs", "artifacts", "logs", "events")
"""Collections that make up the record of a run."""


@dataclass(slots=True)
class Recording:
    """The runs that this process records.

    Attributes:
        url: Address of the API.
        outbox: What takes over while the server is away; None without a server.
        kept: After the end, the file of what could not be sent, or None.
    """

    url: str
    outbox: Outbox | None
    kept: Path | None = None
    _known: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def is_away(self) -> bool:
        """Whether requests are answered here."""
        return self.outbox is None or self.outbox.is_away

    @property
    def problem(self) -> str:
        """What happened when the server was lost last, or ""."""
        return self.outbox.problem if self.outbox is not None else ""

    def lose(self, problem: str) -> None:
        """Take note that the server did not answer."""
        if self.outbox is not None:
            self.outbox.lose(problem)

    def learn(self, asked: httpx.Request, answer: httpx.Response) -> None:
        """Remember what the server says of the objects of a run."""
        parts = self._parts(asked)
        if not answer.is_success or parts[0] not in _KNOWN or not answer.content:
            return
        found = answer.json()
        if parts[-1] == "set_state" and found.get("state"):
            self._change(parts[1], {"state": found["state"]})
        elif len(parts) == 1:
            self._known[f"{parts[0]}/{found['id']}"] = found
        elif asked.method == "GET" and parts[-1] != "filter":
            self._known[f"{parts[0]}/{parts[1]}"] = found

    def answer(self, asked: httpx.Request) -> httpx.Response:
        """Answer a request as the server would, and have it sent later."""
        parts = self._parts(asked)
        text = asked.read()
        body = json.loads(text) if text else None
        status, found = self._reply(asked.method, parts, body)
        if asked.method != "GET" and parts[0] in _SENT and self.outbox is not None:
            made = str(found["id"]) if len(parts) == 1 and found else ""
            path = f"/{'/'.join(parts)}{'/' if len(parts) == 1 else ''}"
            self.outbox.put(request(asked.method, path, body, made))
        if status == 204:
            return httpx.Response(status, request=asked)
        return httpx.Response(status, request=asked, json=found)

    def _parts(self, asked: httpx.Request) -> list[str]:
        below = asked.url.path.removeprefix(urlsplit(self.url).path)
        return below.strip("/").split("/")

    def _reply(self, method: str, parts: list[str], body: Any) -> tuple[int, Any]:
        if parts == ["admin", "version"]:
            return 200, prefect.__version__
        if method == "GET":
            known = self._known.get("/".join(parts[:2]))
            return (404, {"detail": "not known here"}) if known is None else (200, known)
        if parts[-1] == "set_state":
            state = _whole_state(body["state"])
            self._change(parts[1], {"state": state})
            details = {"type": "accept_details"}
            return 201, {"state": state, "status": "ACCEPT", "details": details}
        if method == "PATCH":
            self._change(parts[1], body)
            return 204, None
        if parts[-1] == "filter":
            return 200, []
        if len(parts) == 1 and parts[0] in {"flows", "flow_runs", "artifacts"}:
            made = {**_made(), **{key: one for key, one in body.items() if one is not None}}
            if "state" in made:
                made["state"] = _whole_state(made["state"])
            self._known[f"{parts[0]}/{made['id']}"] = made
            return 201, made
        return 204, None

    def _change(self, run: str, changes: Mapping[str, Any]) -> None:
        known = self._known.setdefault(f"flow_runs/{run}", {"id": run})
        known.update(changes)


_current: Recording | None = None
"""Of the process, as Prefect's own threads ask for it too."""


@contextmanager
def recorded(url: str) -> Generator[Recording]:
    """Record the runs of a block on a server, whatever becomes of it, or on none.

    Args:
        url: Of the API, which answered just now; ``NO_SERVER`` for none.

    Raises:
        KeyboardInterrupt: A signal ended the run.
    """
    recording = start_recording(url)
    try:
        yield recording
    except CancelledRun:
        raise KeyboardInterrupt from None
    finally:
        stop_recording()


def start_recording(url: str) -> Recording:
    """Record the runs of this process from now on."""
    global _current  # noqa: PLW0603 - one for the process
    is_none = url == NO_SERVER
    _current = Recording(url, None if is_none else Outbox(url))
    clients: Any = orchestration  # it exports neither, and makes all clients of both
    clients.PrefectHttpxSyncClient = _SyncClient
    clients.PrefectHttpxAsyncClient = _AsyncClient
    if is_none:
        EventsWorker.set_client_override(NullEventsClient)
    elif not url.startswith(CLOUD):
        EventsWorker.set_client_override(
            ProcessPoolForwardingEventsClient, event_queue=_EventQueue(_current.outbox)
        )
    return _current


def stop_recording() -> None:
    """Send what is left of the runs, or keep it."""
    global _current  # noqa: PLW0603 - one for the process
    recording = _current
    if recording is not None and recording.outbox is not None:
        # Prefect hands on logs and events by threads of its own.
        APILogWorker.drain_all(timeout=_DRAIN_SECONDS)
        recording.kept = recording.outbox.close()
    EventsWorker.set_client_override(None)
    _current = None


class _EventQueue:
    """What Prefect's process pools would send their events to."""

    def __init__(self, outbox: Outbox | None) -> None:
        self._outbox = outbox

    def put(self, item: tuple[str, Event]) -> None:
        if self._outbox is not None:
            self._outbox.put_event(item[1].model_dump(mode="json"))


class _Tolerant(httpx.Client):
    """Comes after Prefect's client in the order of bases, so below its retries."""

    def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        recording = _current
        if recording is None:
            return super().send(request, **options)
        if recording.is_away:
            return recording.answer(request)
        _limit(request)
        try:
            found = super().send(request, **options)
        except httpx.TransportError as error:
            recording.lose(f"{type(error).__name__}: {error}")
            return recording.answer(request)
        return _settle(recording, request, found)


class _AsyncTolerant(httpx.AsyncClient):
    """As ``_Tolerant``."""

    async def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        recording = _current
        if recording is None:
            return await super().send(request, **options)
        if recording.is_away:
            return recording.answer(request)
        _limit(request)
        try:
            found = await super().send(request, **options)
        except httpx.TransportError as error:
            recording.lose(f"{type(error).__name__}: {error}")
            return recording.answer(request)
        return _settle(recording, request, found)


class _SyncClient(PrefectHttpxSyncClient, _Tolerant):
    pass


class _AsyncClient(PrefectHttpxAsyncClient, _AsyncTolerant):
    pass


def _limit(request: httpx.Request) -> None:
    limits: dict[str, float] = request.extensions.get("timeout", {})
    request.extensions["timeout"] = {**limits, "connect": 5.0, "read": _ANSWER_SECONDS}


def _settle(recording: Recording, asked: httpx.Request, found: httpx.Response) -> httpx.Response:
    """Return the server's answer, or ours when it is out of order."""
    if found.status_code >= 500:
        recording.lose(f"it answers {found.status_code}")
        return recording.answer(asked)
    try:
        recording.learn(asked, found)
    except (ValueError, LookupError, TypeError, AttributeError):  # another program at its address
        recording.lose("it answers what no Prefect server does")
        return recording.answer(asked)
    return found


def _whole_state(state: Mapping[str, Any]) -> dict[str, Any]:
    now = datetime.now(UTC).isoformat()
    return {**state, "id": str(uuid4()), "timestamp": now}


def _made() -> dict[str, Any]:
    now = datetime.now(UTC).isoformat()
    return {"id": str(uuid4()), "created": now, "updated": now}
