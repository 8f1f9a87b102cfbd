"""Background services on this machine: one Prefect server, one embedded runner.

A service belongs to ``merganser_home()`` and is described by ``<name>.json`` there. Whoever needs
it calls ``ensure_service``: a live one is reused, else one is started under a file lock, so two
commands never start two. Every user leaves a lease (a file named by its process id); the service's
supervisor ends it when no lease holder has lived for ``idle_seconds``.

The supervisor is this module run as ``python -m merganser.services.supervisor``; it starts the
program, waits, and never writes to a terminal.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import ssl
import stat
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from merganser.errors import MerganserError
from merganser.services.request_guard import PROOF_PATH, TOKEN_VARIABLE, is_local, proof

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

IDLE_SECONDS = 1800.0
"""Half an hour: long enough to look at a finished run, short enough not to be forgotten."""

SUPERVISOR = "merganser.services.supervisor"

_POLL_SECONDS = 0.1
_END_SECONDS = 10.0


class ServiceError(MerganserError):
    """A background service did not come up; the message names its log file."""


@dataclass(frozen=True, slots=True)
class Service:
    """One running background service.

    Attributes:
        name: ``prefect`` or ``runner``.
        url: Its root address.
        pid: Process id of the supervisor, which ends the program when it is ended.
        log: Where its output goes.
        started: True when this call started it.
        token: What it proves with that it is ours; "" for one that an older version started.
        login: ``user:password`` that it asks for; "" for none, or for what the user's environment
            has.
        note: What people should know of how it was started, or "".
    """

    name: str
    url: str
    pid: int
    log: str
    started: bool = False
    token: str = ""
    login: str = ""
    note: str = ""


def merganser_home() -> Path:
    """Return the folder for state of no config: ``MERGANSER_HOME``, else the user data folder."""
    if chosen := os.environ.get("MERGANSER_HOME"):
        return Path(chosen).expanduser().absolute()
    from platformdirs import user_data_path  # noqa: PLC0415 - `check` starts without it

    return user_data_path("merganser", appauthor=False)


def free_port(preferred: int = 0, *, host: str = "127.0.0.1", required: bool = False) -> int:
    """Return ``preferred`` when it is free, else any free port.

    Args:
        preferred: 0 for any.
        host: Address to listen at.
        required: No other port will do.

    Raises:
        ServiceError: The required one is taken, or all are.
    """
    for port in (preferred,) if required else (preferred, 0):
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            # As servers do: connections that ended within the last minute do not hold the port, so
            # a server that is started again keeps its address. A listener still does.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with suppress(OSError, OverflowError):
                probe.bind((host, port))
                return int(probe.getsockname()[1])
    if required:
        raise ServiceError(
            f"port {preferred} of {host} is taken by a program that is not ours, or not allowed;"
            " choose another --port, or leave it out to take one that is free"
        )
    raise ServiceError(f"no free port on {host}")


def process_alive(pid: int) -> bool:
    """Return whether a process of this machine is running; a zombie is not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    return True


def running_service(name: str, healthy: Callable[[Service], bool]) -> Service | None:
    """Return the service if its supervisor lives and it answers, else None."""
    service = recorded_service(name)
    if service is not None and _supervised(service) and healthy(service):
        return service
    return None


def recorded_service(name: str) -> Service | None:
    """Return the service that was started last, dead or alive; None after it was stopped."""
    with suppress(OSError, ValueError, TypeError, KeyError):
        state = json.loads(_state_file(name).read_text())
        return Service(
            name,
            str(state["url"]),
            int(state["pid"]),
            str(state["log"]),
            token=str(state.get("token", "")),
            login=str(state.get("login", "")),
        )
    return None


def proves_itself(service: Service) -> bool:
    """Return whether who listens at a service's address is that service, within seconds.

    One that an older version started has nothing to prove itself with: its supervisor must do.
    """
    import httpx  # noqa: PLC0415 - `check` starts without it

    if not service.token:
        return True
    nonce = secrets.token_hex(16)
    port = urlsplit(service.url).port or 80
    # Plain http on this machine: no authority has to be read, which takes 20 ms.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with suppress(httpx.HTTPError):
        asked = f"{service.url}{PROOF_PATH}?nonce={nonce}"
        with httpx.stream("GET", asked, timeout=5.0, trust_env=False, verify=context) as answer:
            given = next(answer.iter_bytes(64), b"")
            return secrets.compare_digest(given, proof(service.token, nonce, port).encode())
    return False


def _supervised(service: Service) -> bool:
    """Return whether our supervisor is the process that is recorded.

    Numbers of processes are given again.
    """
    if not process_alive(service.pid):
        return False
    about = Path(f"/proc/{service.pid}")
    try:
        line = (about / "cmdline").read_bytes()
        return about.stat().st_uid == os.getuid() and SUPERVISOR.encode() in line
    except OSError:  # no /proc: the proof has to do
        return not about.parent.joinpath("self").exists()


def ensure_service(
    name: str,
    *,
    command: Callable[[int], Sequence[str]],
    healthy: Callable[[Service], bool],
    env: Mapping[str, str] | None = None,
    login: str = "",
    host: str = "127.0.0.1",
    port: int | None = None,
    preferred_port: int = 0,
    timeout_seconds: float = 180.0,
    idle_seconds: float = IDLE_SECONDS,
    busy: str = "",
) -> Service:
    """Reuse the service or start it, and leave this process's lease.

    Args:
        name: Names the state, lock and log files.
        command: Returns the program's arguments for a port.
        healthy: Returns whether the service answers as it should.
        env: Added to this process's environment.
        login: ``user:password`` that a new one will ask for; "" for none.
        host: Address to listen at.
        port: No other one will do; 0 for any.
        preferred_port: Taken when free, for an address that people can remember.
        timeout_seconds: How long a start may take.
        idle_seconds: How long it lives after its last user.
        busy: ``module:function`` that returns, for the address, whether it must stay although it is
            unused; asked before it ends. "" for none.

    Raises:
        ServiceError: It ended or did not answer in time (the message shows the end of its log), it
            runs at another port than ``port``, that one is taken, or its folder cannot be written.
    """
    from filelock import FileLock  # noqa: PLC0415 - only commands that need a service pay for it

    home = _leave_lease(name)
    with FileLock(home / f"{name}.lock"):
        if service := running_service(name, healthy):
            if port and urlsplit(service.url).port != port:
                raise ServiceError(
                    f"it runs at {service.url} already; end that one first, by --stop, or leave out"
                    f" --port {port}"
                )
            return service
        wanted = preferred_port if port is None else port
        at = free_port(wanted, host=host, required=bool(port))
        log = home / f"{name}.log"
        url = f"http://{'127.0.0.1' if is_local(host) or host == '0.0.0.0' else host}:{at}"  # noqa: S104 - a comparison
        token = secrets.token_urlsafe(32)
        options = [name, str(idle_seconds), busy, url]
        environment = {**(env or {}), TOKEN_VARIABLE: token}
        process = _start_supervisor(options, command(at), environment, log)
        note = f"port {wanted} belongs to another program, which is left alone"
        service = Service(
            name,
            url,
            process.pid,
            str(log),
            started=True,
            token=token,
            login=login,
            note=note if wanted and at != wanted else "",
        )
        try:
            _await_health(service, process, healthy, timeout_seconds)
            write_private(_state_file(name), json.dumps(asdict(service)))
        except (
            BaseException
        ):  # a Ctrl-C too: a service that is not written down cannot be found or stopped
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=_END_SECONDS)
            raise
    return service


def stop_service(name: str) -> bool:
    """End the service of that name; False when none was running."""
    service = recorded_service(name)
    if service is None:
        return False
    with suppress(OSError):  # it ended meanwhile, or is another user's
        _state_file(name).unlink(missing_ok=True)
        if _supervised(service):
            os.kill(service.pid, signal.SIGTERM)
            return True
    return False


def private_folder(path: Path) -> Path:
    """Make a folder that no other user may enter; one that is there stays as it is.

    Raises:
        ServiceError: Other users may write there, and so say which server and password are ours.
        OSError: It cannot be made.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = path.stat()
    user = os.getuid()
    if found.st_mode & stat.S_IWOTH or (user and found.st_uid not in {user, 0}):
        raise ServiceError(
            f"{path} can be written by other users, and holds what commands trust: make it yours"
            " alone (chmod go-w, chown), or set MERGANSER_HOME to another folder"
        )
    return path


def write_private(path: Path, text: str) -> None:
    """Write a file that no other user may read, in one step, through no link."""
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:  # noqa: PTH123 - with its mode
        file.write(text)
    draft.replace(path)


def _state_file(name: str) -> Path:
    return merganser_home() / f"{name}.json"


def _leases(name: str) -> Path:
    return merganser_home() / "leases" / name


def _leave_lease(name: str) -> Path:
    """Write down that this process uses a service; return our folder."""
    try:
        home = private_folder(merganser_home())
        _leases(name).mkdir(parents=True, exist_ok=True)
        (_leases(name) / str(os.getpid())).touch()
    except OSError as error:
        raise unwritable_home(name, error) from error
    return home


def unwritable_home(name: str, error: OSError) -> ServiceError:
    """Return what to say when the state of a service cannot be kept."""
    return ServiceError(
        f"the {name} server keeps its state in {merganser_home()}, which cannot be written "
        f"({error.strerror}): set MERGANSER_HOME to a folder that can"
    )


def _start_supervisor(
    options: Sequence[str], program: Sequence[str], env: Mapping[str, str], log: Path
) -> subprocess.Popen[bytes]:
    # The folder that the user works in may be anybody's tree, whose modules would stand before the
    # library's own (-P, and the variable for what the program starts) and whose files libraries
    # take for their settings.
    arguments = [sys.executable, "-P", "-m", SUPERVISOR, *options, *program]
    write_private(log, "")
    with log.open("ab") as output:
        return subprocess.Popen(  # noqa: S603 - our own module with an argument list
            arguments,
            cwd=merganser_home(),
            env={**os.environ, **_absolute_folders(), "PYTHONSAFEPATH": "1", **env},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            umask=0o077,
        )


def _absolute_folders() -> dict[str, str]:
    """Return our variables that name folders, for a process that works in another one."""
    names = [name for name in ("MERGANSER_HOME", "MERGANSER_CACHE") if os.environ.get(name)]
    return {name: str(Path(os.environ[name]).expanduser().absolute()) for name in names}


def _await_health(
    service: Service,
    process: subprocess.Popen[bytes],
    healthy: Callable[[Service], bool],
    timeout_seconds: float,
) -> None:
    deadline = time.monotonic() + timeout_seconds
    while not healthy(service):
        ended = process.poll() is not None
        if ended or time.monotonic() > deadline:
            what = "ended while starting" if ended else f"did not answer in {timeout_seconds:.0f} s"
            tail = "\n".join(Path(service.log).read_text(errors="replace").splitlines()[-15:])
            raise ServiceError(f"{service.name} {what}; the end of {service.log}:\n{tail}")
        time.sleep(_POLL_SECONDS)
    process.returncode = 0  # It outlives us on purpose; spare the interpreter's warning.


def _supervise(
    name: str, idle_seconds: float, busy: Callable[[], bool], program: Sequence[str]
) -> int:
    """Run the program until it ends, a signal comes, or it has been unused for a while."""
    child = subprocess.Popen(program)  # noqa: S603 - the command line that ensure_service built

    def end(signum: int, frame: object) -> None:
        del signum, frame
        child.terminate()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    last_used = time.monotonic()
    while child.poll() is None:
        if _used(name):
            last_used = time.monotonic()
        if time.monotonic() - last_used > idle_seconds:
            if busy():
                last_used = time.monotonic()
            else:
                child.terminate()
        with suppress(subprocess.TimeoutExpired):
            child.wait(timeout=min(10.0, idle_seconds / 4))
    return child.returncode


def _used(name: str) -> bool:
    """Return whether any lease holder lives; remove the leases of those that do not."""
    living = False
    for lease in _leases(name).iterdir():
        if lease.name.isdigit() and process_alive(int(lease.name)):
            living = True
        else:
            lease.unlink(missing_ok=True)
    return living


def _asker(function: str, url: str) -> Callable[[], bool]:
    """Return a function that asks ``module:function`` about the address; always False for ""."""
    if not function:
        return lambda: False
    module, _, name = function.partition(":")
    ask = getattr(import_module(module), name)
    return lambda: bool(ask(url))


if __name__ == "__main__":
    _name, _idle, _busy, _url, *_program = sys.argv[1:]
    sys.exit(_supervise(_name, float(_idle), _asker(_busy, _url), _program))
