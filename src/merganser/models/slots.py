"""How many engines a server keeps at a time, and whether that is enough.

Docker Model Runner has as many slots as its machine has cores, at most eight, one for each model
and mode (docker/model-runner, pkg/inference/scheduling/loader.go). When all are taken the idle
engines go, so models that are used in turn are loaded again for each question.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from merganser.models.configure import mode_of
from merganser.models.ref import canonical

if TYPE_CHECKING:
    from collections.abc import Iterable

    from merganser.models.address import Address
    from merganser.models.ref import ModelUse

_MOST_SLOTS = 8
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


def slots_of(address: Address) -> int | None:
    """Return how many engines a server on this machine keeps; None for one on another."""
    if address.uds is None and urlsplit(address.root).hostname not in _LOOPBACK:
        return None
    return min(os.cpu_count() or 1, _MOST_SLOTS)


def describe_shortage(uses: Iterable[ModelUse], address: Address) -> str:
    """Say that models which work together have no room together at their server, or "".

    Args:
        uses: What one flow needs; a draft model runs inside its target's engine.
        address: Their server.
    """
    engines = {(canonical(use.model.model), mode) for use in uses if (mode := mode_of(use))}
    slots = slots_of(address)
    if slots is None or len(engines) <= slots:
        return ""
    named = ", ".join(f"{model} for {mode}" for model, mode in sorted(engines))
    room = f"{slots} engine{'' if slots == 1 else 's'}"
    return (
        f"{len(engines)} engines are needed ({named}) and {address.shown} has room for {room} at "
        "a time, one for each core: they are loaded again in turn, for each question"
    )
