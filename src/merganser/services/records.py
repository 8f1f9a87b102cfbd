"""Records of runs: kept while their Prefect server is away, sent when it is back.

A record is what a run would have asked of the API, request by request and in order. While a run
lives, an ``Outbox`` sends them from a thread of its own; what it cannot send is in a file of
``records/`` below ``merganser_home()``, and the next command that reaches the server sends it
(``send_kept_records``). The server gives each flow, run and artifact that it creates an id of its
own, so the ids that a record was made with are replaced while it is sent.
"""

from __future__ import annotations

import atexit
import json
import os
import socket
from collections import deque
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from threading import Condition, Thread
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from merganser.humanize import without_credentials
from merganser.services.prefect_api import open_api
from merganser.services.supervisor import merganser_home, process_alive, recorded_service

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import httpx

EVENTS_PATH = "/events"

_FLUSH_SECONDS = 1.0
"""Events wait so long for others to be sent with; Prefect's recorder writes as often."""

_PAUSES_SECONDS = (1.0, 2.0, 5.0, 10.0, 30.0)
"""Between two tries to reach a server that is away; the last one again and again."""

_CLOSE_SECONDS = 5.0
_SEND_SECONDS = 20.0
_LATE_SECONDS = 30.0
"""A final state that is sent later than this tells when the run ended."""

_FINAL = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
_UNAVAILABLE = {401, 403, 408, 425, 429}
"""Answers below 500 that say nothing about the request itself."""


class HistoryAwayError(Exception):
    """The server did not take a request now and may take it later."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request of a record.

    Attributes:
        at: When it was made, ISO 8601 with time zone.
        method: Of HTTP.
        path: Below the address of the API.
        body: JSON.
        made: The id by which the record knows what the request creates, or "".
    """

    at: str
    method: str
    path: str
    body: Any
    made: str = ""


class Outbox:
    """Sends the requests of this process's runs, in order, and keeps what cannot be sent.

    Args:
        url: Of the API.

    Attributes:
        is_away: Whether requests must go through here, because the server is away or knows what
            was created meanwhile under other ids.
        problem: What happened when the server was lost last, or "".
    """

    def __init__(self, url: str) -> None:
        self.is_away = False
        self.problem = ""
        self._url = url
        self._server = _place(url)
        self._waiting = deque[Request]()
        self._events = list[Any]()
        self._ids = dict[str, str]()
        self._file: Path | None = None
        self._closing = False
        self._changed = Condition()
        self._thread = Thread(target=self._run, name="merganser-outbox", daemon=True)
        self._thread.start()

    def lose(self, problem: str) -> None:
        """Take note that the server is away."""
        with self._changed:
            self.is_away, self.problem = True, problem
            self._keep()

    def put(self, request: Request) -> None:
        """Add a request, to be sent when all before it are."""
        with self._changed:
            self._take_events()
            self._waiting.append(request)
            if self._file is None:
                self._changed.notify_all()
                return
            with suppress(OSError), self._file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(request)) + "\n")

    def put_event(self, event: Any) -> None:
        """Add an event, to be sent with others."""
        with self._changed:
            self._events.append(event)

    def close(self) -> Path | None:
        """Send what is left, for a few seconds at most.

        Returns:
            The file of what could not be sent; None when all was.
        """
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(_CLOSE_SECONDS)
        with self._changed:
            self._take_events()
            if not self._waiting:
                return None
            self.is_away = True
            self._keep()
            return self._file

    def _run(self) -> None:
        failures = 0
        client = open_api(self._url, seconds=_SEND_SECONDS)
        while True:
            with self._changed:
                if not self._closing:
                    pause = _PAUSES_SECONDS[min(failures, len(_PAUSES_SECONDS)) - 1]
                    self._changed.wait(pause if failures else _FLUSH_SECONDS)
                self._take_events()
                is_last = self._closing
            try:
                self._send_waiting(client)
                failures = 0
            except HistoryAwayError as error:
                failures += 1
                self.lose(str(error))
            if is_last:
                return

    def _send_waiting(self, client: httpx.Client) -> None:
        """Send everything; then requests may be made directly again.

        Raises:
            HistoryAwayError: The server does not take it now.
        """
        while True:
            with self._changed:
                if not self._waiting:
                    # What was created under another id is known here alone.
                    self.is_away = bool(self._ids)
                    self._forget_file()
                    return
                first = self._waiting[0]
            _send(client, first, self._ids)
            with self._changed:
                self._waiting.popleft()

    def _take_events(self) -> None:
        if self._events:
            self._waiting.append(Request(_now(), "POST", EVENTS_PATH, self._events))
            self._events = []

    def _keep(self) -> None:
        """Write what waits to a file; a full disk must not end the run that it tells of."""
        with suppress(OSError):
            if self._file is None:
                self._file = _folder() / f"{uuid4()}.jsonl"
            _write(self._file, self._server, self._waiting, self._ids)

    def _forget_file(self) -> None:
        if self._file is not None:
            with suppress(OSError):
                self._file.unlink(missing_ok=True)
            self._file = None


def request(method: str, path: str, body: Any, made: str = "") -> Request:
    """Return a request that is made now."""
    return Request(_now(), method, path, body, made)


def send_kept_records(url: str) -> None:
    """Send in the background what ended runs kept for this server; waited for at the end.

    Args:
        url: Of the API, which answers.
    """
    if not _kept(url):
        return
    thread = Thread(target=_send_kept, args=(url,), name="merganser-records", daemon=True)
    thread.start()
    atexit.register(thread.join, _CLOSE_SECONDS)


def _send_kept(url: str) -> None:
    from filelock import FileLock, Timeout  # noqa: PLC0415 - only where there is something to send

    with (
        suppress(Timeout, HistoryAwayError, OSError),
        FileLock(_folder() / "lock", timeout=0),
        open_api(url, seconds=_SEND_SECONDS) as client,
    ):
        for file in _kept(url):
            _send_record(client, file, url)


def _send_record(client: httpx.Client, file: Path, url: str) -> None:
    """Send one record and delete it; what the server did not take stays.

    Raises:
        HistoryAwayError: The server does not take it now.
    """
    head, *lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    ids: dict[str, str] = json.loads(head)["ids"]
    requests = list[Request]()
    for line in lines:
        with suppress(ValueError, TypeError):  # cut off where its process was killed
            requests.append(Request(**json.loads(line)))
    waiting = deque(_ended(requests))
    try:
        while waiting:
            _send(client, waiting[0], ids)
            waiting.popleft()
    except HistoryAwayError:
        _write(file, _place(url), waiting, ids, pid=0)
        raise
    file.unlink(missing_ok=True)


def _ended(requests: Sequence[Request]) -> list[Request]:
    """Return what to send of a process that is gone: no run of it is under way any more."""
    created = {one.made for one in requests if one.path == "/flow_runs/" and one.made}
    kept, final = list[Request](), set[str]()
    for one in requests:
        run = _run_of_state(one)
        if run and one.body["state"]["type"] in _FINAL:
            final.add(run)
        elif run and run not in created:
            continue  # the server may know by now that it crashed
        kept.append(one)
    gone = {"type": "CRASHED", "message": "The process that ran this flow is gone."}
    for run in sorted(created - final):
        kept.append(request("POST", f"/flow_runs/{run}/set_state", {"state": gone}))
    return kept


def _send(client: httpx.Client, one: Request, ids: dict[str, str]) -> None:
    """Send one request; one that the server does not take whatever happens is left out.

    Raises:
        HistoryAwayError: The server does not take it now.
    """
    import httpx  # noqa: PLC0415 - the commands that send nothing start without it

    text, path = json.dumps(_as_late(one)), one.path
    for local, real in ids.items():
        text, path = text.replace(local, real), path.replace(local, real)
    try:
        answer = client.request(
            one.method, path, content=text, headers={"Content-Type": "application/json"}
        )
    except httpx.HTTPError as error:
        raise HistoryAwayError(f"{type(error).__name__}: {error}") from error
    if answer.status_code >= 500 or answer.status_code in _UNAVAILABLE:
        raise HistoryAwayError(f"it answers {answer.status_code}")
    if one.made and answer.is_success:
        with suppress(ValueError, KeyError, TypeError):
            ids[one.made] = str(answer.json()["id"])


def _as_late(one: Request) -> Any:
    """Return the body as it is sent now: states hold whatever became of the run meanwhile."""
    if not _run_of_state(one):
        return one.body
    state = dict(one.body["state"])
    late = (datetime.now(UTC) - datetime.fromisoformat(one.at)).total_seconds()
    if state["type"] in _FINAL and late > _LATE_SECONDS:
        when = f"(at {one.at[:19]} UTC, when the server was away)"
        state["message"] = f"{state.get('message') or ''} {when}".strip()
    return {**one.body, "state": state, "force": True}


def _run_of_state(one: Request) -> str:
    """Return the id of the run whose state a request sets, "" for others."""
    parts = one.path.strip("/").split("/")
    return parts[1] if parts[0] == "flow_runs" and parts[-1] == "set_state" else ""


def _kept(url: str) -> list[Path]:
    """Return the records of this machine for a server whose processes are gone."""
    found: list[Path] = []
    for file in sorted(_folder(make=False).glob("*.jsonl")):
        with suppress(OSError, ValueError, KeyError, TypeError):
            with file.open(encoding="utf-8") as lines:
                head = json.loads(next(lines, ""))
            ours = (head["host"], head["server"]) == (socket.gethostname(), _place(url))
            if ours and not (head["pid"] and process_alive(int(head["pid"]))):
                found.append(file)
    return found


def _write(
    file: Path,
    server: str,
    waiting: Sequence[Request] | deque[Request],
    ids: Mapping[str, str],
    pid: int | None = None,
) -> None:
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    own = os.getpid() if pid is None else pid
    head = {"server": server, "host": socket.gethostname(), "pid": own, "ids": dict(ids)}
    draft = file.with_suffix(".draft")
    lines = [json.dumps(head), *(json.dumps(asdict(one)) for one in waiting)]
    draft.touch(mode=0o600)
    draft.write_text("\n".join(lines) + "\n", encoding="utf-8")
    draft.replace(file)


def _folder(*, make: bool = True) -> Path:
    folder = merganser_home() / "records"
    if make:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def _place(url: str) -> str:
    """Name a server: our own one may come back at another port."""
    own = recorded_service("prefect")
    return "local" if own is not None and url.startswith(own.url) else without_credentials(url)


def _now() -> str:
    return datetime.now(UTC).isoformat()
