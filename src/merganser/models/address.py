"""Where the model server is: which addresses to ask, in which order, and what each answered.

An explicit setting (``base_url``, then ``MODEL_RUNNER_HOST``) is final: when it does not answer,
nothing else is asked, because the user meant that server. Without one, the usual places of Docker
Model Runner are asked: Docker Desktop's socket, the names that exist inside a container, the host.
"""

from __future__ import annotations

import asyncio
import os
import re
import ssl
from dataclasses import KW_ONLY, dataclass, replace
from http import HTTPStatus
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import httpx

from merganser.errors import RunnerUnreachableError
from merganser.humanize import install_extra, without_credentials
from merganser.models.transport import open_client
from merganser.models.wire import as_mapping

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Docker Desktop serves the model runner below this path of its own socket.
DESKTOP_PREFIX = "/exp/vDD4.40"
DEFAULT_PORT = 12434
_PROBE_SECONDS = 2.0
_OPENAI_SUFFIX = re.compile(r"(?:/engines(?:/[^/]+)?)?/v1$")
# Docker Model Runner's path first, then the one of other servers, then a base that is the API.
_PREFIXES = ("/engines/v1", "/v1", "")
_TRUE = frozenset({"1", "true", "yes", "on"})

NEXT_STEPS = (
    "With Docker: `docker model status` tells whether Docker Model Runner runs; Docker Desktop "
    "has a switch for it and for its TCP port in Settings > AI; `dmr serve` is the same server "
    "without Docker. Elsewhere: set MODEL_RUNNER_HOST, which may be unix:///path/to.sock, or the "
    f"model's base_url. Without any of it: {install_extra('embedded')}, then `merganser runner`, "
    "or pass --embedded."
)


@dataclass(frozen=True, slots=True)
class Probe:
    """One address that was asked.

    Attributes:
        source: What made it a candidate, for example ``MODEL_RUNNER_HOST``.
        url: What was asked, without credentials.
        answer: What came back, in words.
        ok: A model server is there.
        seconds: How long it took.
    """

    source: str
    url: str
    answer: str
    ok: bool
    seconds: float


@dataclass(frozen=True, slots=True)
class Address:
    """Where a model server answers.

    Attributes:
        root: ``scheme://host[:port][/path]`` that ``/models`` and ``/engines`` are below.
        uds: The unix socket to connect to instead of the root's host, or None.
        source: What made it a candidate.
        probes: Every address asked to find it, in order.
        openai_prefix: Path below the root of the OpenAI-compatible API.
        ca_file: Certificate authority file for TLS, or None for the usual ones.
        verify: Check the server's certificate.
    """

    root: str
    uds: str | None = None
    source: str = "given"
    probes: tuple[Probe, ...] = ()
    _: KW_ONLY
    openai_prefix: str = "/engines/v1"
    ca_file: str | None = None
    verify: bool = True

    @property
    def shown(self) -> str:
        """The address for people: the socket where there is one, and no credentials."""
        root = without_credentials(self.root)
        if self.uds is None:
            return root
        return f"unix://{self.uds}{urlsplit(root).path}"

    @property
    def openai_base(self) -> str:
        """The base URL that an OpenAI client of this server takes, with ``login`` beside it.

        Such clients write the URL into each answer, so it is without credentials.
        """
        return without_credentials(self.root) + self.openai_prefix

    @property
    def login(self) -> tuple[str, str] | None:
        """User and password, where the URL has them."""
        parts = urlsplit(self.root)
        if parts.username is None:
            return None
        return unquote(parts.username), unquote(parts.password or "")

    def tls(self) -> ssl.SSLContext | bool:
        """Return httpx's ``verify`` argument."""
        if self.root.startswith("http://"):
            # Reading the certificate authorities costs 20 ms a client, for nothing here.
            return False
        if not self.verify or self.ca_file is None:
            return self.verify
        return ssl.create_default_context(cafile=self.ca_file)


def parse_address(url: str, *, source: str = "given", tls: bool = False) -> Address:
    """Read a server address as users write it.

    Args:
        url: With or without scheme; a trailing ``/v1``, ``/engines/v1`` or ``/engines/NAME/v1``
            is taken as the API's path; ``unix:///path/to.sock`` is a socket.
        source: Where it was found.
        tls: What a missing scheme means: https when True.
    """
    url = url.strip().rstrip("/")
    if url.startswith("unix://"):
        socket = url.removeprefix("unix://")
        # Docker's own sockets (docker.sock, docker.raw.sock) carry many services, DMR's only one.
        prefix = DESKTOP_PREFIX if Path(socket).name.startswith("docker") else ""
        return Address(f"http://localhost{prefix}", socket, source)
    if "://" not in url:
        url = f"{'https' if tls else 'http'}://{url}"
    root = _OPENAI_SUFFIX.sub("", url)
    return Address(root, None, source, openai_prefix=url[len(root) :] or "/engines/v1")


def candidate_addresses(
    *,
    base_url: str | None = None,
    env: Mapping[str, str] | None = None,
    in_container: bool | None = None,
) -> tuple[Address, ...]:
    """List the addresses to ask, in order; an explicit setting is the only one.

    Args:
        base_url: The model's own setting.
        env: Environment, the process's own by default.
        in_container: Whether this process runs in a container; found out by default.
    """
    env = os.environ if env is None else env
    verify = env.get("MODEL_RUNNER_TLS_SKIP_VERIFY", "").lower() not in _TRUE
    ca_file = env.get("MODEL_RUNNER_TLS_CA_CERT") or None
    if base_url:
        return (replace(parse_address(base_url, source="base_url"), ca_file=ca_file),)
    if host := env.get("MODEL_RUNNER_HOST", "").strip():
        tls = env.get("MODEL_RUNNER_TLS", "").lower() in _TRUE
        address = parse_address(host, source="MODEL_RUNNER_HOST", tls=tls)
        return (replace(address, ca_file=ca_file, verify=verify),)
    found = [parse_address(f"unix://{path}", source="Docker socket") for path in _sockets(env)]
    if _in_container() if in_container is None else in_container:
        found += [
            parse_address(host, source="inside a container")
            for host in (
                "model-runner.docker.internal",
                f"model-runner.docker.internal:{DEFAULT_PORT}",
                f"host.docker.internal:{DEFAULT_PORT}",
                f"172.17.0.1:{DEFAULT_PORT}",
            )
        ]
    found.append(parse_address(f"127.0.0.1:{DEFAULT_PORT}", source="this host"))
    return tuple(found)


async def resolve_address(
    *, base_url: str | None = None, env: Mapping[str, str] | None = None
) -> Address:
    """Find the model server.

    Args:
        base_url: The model's own setting; final when given.
        env: Environment with ``MODEL_RUNNER_HOST`` and its companions; the process's by default.

    Returns:
        The first candidate that answers, with the probes that led to it.

    Raises:
        RunnerUnreachableError: None answers; lists every address asked, its answer and what to do.
    """
    return await first_answering(candidate_addresses(base_url=base_url, env=env))


async def first_answering(candidates: Sequence[Address]) -> Address:
    """Ask all candidates at once and take the first in order that answers.

    Raises:
        RunnerUnreachableError: None answers.
    """
    explicit = len(candidates) == 1
    tasks = [asyncio.create_task(probe(address, explicit=explicit)) for address in candidates]
    probes: list[Probe] = []
    try:
        for task in tasks:
            address, result = await task
            probes.append(result)
            if result.ok:
                return replace(address, probes=tuple(probes))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    asked = "\n".join(f"  {one.source}: {one.url}: {one.answer}" for one in probes)
    raise RunnerUnreachableError(
        f"no model server answers; asked, in order:\n{asked}\n{NEXT_STEPS}",
        url=probes[-1].url if probes else "",
    )


async def probe_all(
    candidates: Sequence[Address],
) -> tuple[Address | None, tuple[Probe, ...]]:
    """Ask every candidate, also those after the first that answers, for a diagnosis.

    Returns:
        The first that answers, or None, and what each answered.
    """
    explicit = len(candidates) == 1
    answers = await asyncio.gather(*(probe(one, explicit=explicit) for one in candidates))
    probes = tuple(result for _, result in answers)
    found = next((address for address, result in answers if result.ok), None)
    return found and replace(found, probes=probes), probes


async def probe(address: Address, *, explicit: bool) -> tuple[Address, Probe]:
    """Ask one address for its model list.

    Args:
        address: Whom to ask.
        explicit: The user named it, so any answer but "not running" counts, and an API at
            another path is looked for; a guess must really give a model list, as other things
            listen on these ports and Docker's socket exists without a model runner.

    Returns:
        The address with the path of its API, and the probe.
    """
    started = monotonic()
    prefixes = [address.openai_prefix]
    if explicit:
        prefixes += [prefix for prefix in _PREFIXES if prefix not in prefixes]
    answer, ok = "", False
    try:
        async with open_client(address, timeout=httpx.Timeout(_PROBE_SECONDS)) as client:
            for prefix in prefixes:
                response = await client.get(f"{address.root}{prefix}/models")
                ok, said = _judge(response, explicit=explicit)
                answer = answer or said
                if ok:
                    address, answer = replace(address, openai_prefix=prefix), said
                    break
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as exc:
        answer, ok = _words(exc), False
    url = f"{address.shown}{address.openai_prefix}/models"
    return address, Probe(address.source, url, answer, ok, monotonic() - started)


def _judge(response: httpx.Response, *, explicit: bool) -> tuple[bool, str]:
    status = f"answered {response.status_code}"
    if response.status_code == HTTPStatus.SERVICE_UNAVAILABLE:
        return False, f"{status}: something is there, but the model runner is not running"
    if response.is_success:
        try:
            document = response.json()
        except ValueError:
            return False, f"{status} with something that is no model list"
        # An empty list may come as null, so the key counts, not its value.
        if "data" in as_mapping(document):
            return True, status
        return False, f"{status} with something that is no model list"
    refused = response.status_code in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}
    return explicit and refused, status


def _words(exc: Exception) -> str:
    if isinstance(exc, httpx.TimeoutException):
        return f"no answer within {_PROBE_SECONDS:g} s"
    if isinstance(exc, httpx.InvalidURL):
        return "is no valid URL"  # httpx quotes what it cannot read, which may be a password
    text = str(exc) or type(exc).__name__
    return text if len(text) < 200 else text[:200] + "…"


def _sockets(env: Mapping[str, str]) -> list[str]:
    """List Docker's sockets: the one it is told to use, the usual one, the one of a Mac's user."""
    paths = ["/var/run/docker.sock"]
    if (host := env.get("DOCKER_HOST", "")).startswith("unix://"):
        paths.insert(0, host.removeprefix("unix://"))
    if home := env.get("HOME"):
        paths.append(f"{home}/.docker/run/docker.sock")
    return list(dict.fromkeys(paths))


def _in_container() -> bool:
    return Path("/.dockerenv").exists() or Path("/run/.containerenv").exists()
