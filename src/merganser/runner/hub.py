"""Download one pinned file from the model hub, resumable and checked.

The address is the hub's own (``HF_ENDPOINT`` names a mirror, as in the hub's own tools). Being
offline is normal: it is found out in ``CONNECT_SECONDS`` and said as ``HubUnavailableError``.
"""

from __future__ import annotations

import hashlib
import os
from http import HTTPStatus
from ipaddress import ip_address
from time import monotonic
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx

from merganser.errors import MerganserError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from merganser.runner.known_models import CatalogueModel, WeightFile

CONNECT_SECONDS = 4.0
"""A reachable hub answers in well under a second; a packet filter never does."""

READ_SECONDS = 60.0

_BLOCK_BYTES = 1 << 20
_SLOW_SECONDS = 600.0
"""In which at least a block has to come: a server that sends a byte now and then is given up."""


class HubUnavailableError(MerganserError):
    """The hub cannot be reached or does not give the file."""


class DigestError(MerganserError):
    """A file is not the one that was pinned; it was not used."""


def file_sha256(path: Path, on_bytes: Callable[[int], None] | None = None) -> str:
    """Return the hex sha256 of a file, reporting the bytes read so far."""
    digest = hashlib.sha256()
    done = 0
    with path.open("rb") as source:
        while block := source.read(_BLOCK_BYTES):
            digest.update(block)
            done += len(block)
            if on_bytes is not None:
                on_bytes(done)
    return digest.hexdigest()


def hub_url(model: CatalogueModel, file: WeightFile) -> str:
    """Return the address of the file at its pinned revision."""
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    return f"{endpoint}/{model.repository}/resolve/{model.revision}/{file.name}"


def is_offline() -> bool:
    """Tell whether the user has forbidden the hub (``HF_HUB_OFFLINE``, as in its own tools)."""
    return os.environ.get("HF_HUB_OFFLINE", "").lower() in {"1", "true", "yes", "on"}


def download(
    model: CatalogueModel,
    file: WeightFile,
    target: Path,
    *,
    on_bytes: Callable[[int], None],
    token: str | None = None,
) -> None:
    """Download the file to ``target``; a cut download is continued by the next call.

    Args:
        model: Says where the file is.
        file: Says what it must be.
        target: Appears only when complete and checked.
        on_bytes: Gets the number of bytes there so far.
        token: Bearer token for the hub.

    Raises:
        HubUnavailableError: No connection, or the hub refuses.
        DigestError: The bytes are not the pinned ones.
    """
    partial = target.with_name(target.name + ".incomplete")
    partial.parent.mkdir(parents=True, exist_ok=True)
    url = hub_url(model, file)
    try:
        _fetch(url, partial, token=token, most_bytes=file.size_bytes, on_bytes=on_bytes)
    except httpx.HTTPError as error:
        raise HubUnavailableError(f"cannot download {url}: {error or type(error).__name__}") from (
            error
        )
    found = file_sha256(partial)
    if found != file.sha256:
        partial.unlink()
        raise DigestError(f"{url} has sha256 {found}, expected {file.sha256}")
    partial.replace(target)


def is_loopback(url: str) -> bool:
    """Return whether a URL leads to this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _fetch(
    url: str,
    partial: Path,
    *,
    token: str | None,
    most_bytes: int,
    on_bytes: Callable[[int], None],
) -> None:
    start = partial.stat().st_size if partial.exists() else 0
    # A compressed answer may unpack to anything, and weights hardly get smaller.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    if token:
        headers["Authorization"] = f"Bearer {token}"
    timeout = httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS)
    with (
        # A proxy and the authorities of a company are the environment's (HTTPS_PROXY, NO_PROXY,
        # SSL_CERT_FILE); what runs on this machine is asked without them.
        httpx.Client(
            timeout=timeout, follow_redirects=True, trust_env=not is_loopback(url)
        ) as client,
        client.stream("GET", url, headers=headers) as response,
    ):
        if response.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return  # all of it is there already; the digest decides
        response.raise_for_status()
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise HubUnavailableError(f"cannot download {url}: the answer is compressed")
        resumed = response.status_code == HTTPStatus.PARTIAL_CONTENT
        done = start if resumed else 0
        with partial.open("ab" if resumed else "wb") as sink:
            mark, marked = monotonic(), done
            for block in response.iter_raw(_BLOCK_BYTES):
                done += len(block)
                if done > most_bytes:
                    raise HubUnavailableError(f"cannot download {url}: it has no end")
                sink.write(block)
                on_bytes(done)
                if monotonic() - mark > _SLOW_SECONDS:
                    if done - marked < _BLOCK_BYTES:
                        raise HubUnavailableError(f"cannot download {url}: it is too slow")
                    mark, marked = monotonic(), done
