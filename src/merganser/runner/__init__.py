"""A model server in this process with Docker Model Runner's HTTP contract.

For people and continuous integration without Docker: real engines and real weights, embeddings by
onnxruntime, chat and rerank by llama.cpp. It says what it is in ``/version`` and listens on
loopback unless told otherwise.

The names below are imported when they are first used: a command that only talks to a running
server must not pay for a web framework.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from merganser.runner.embedded_runner import (
        EmbeddedRunner,
        RunnerOptions,
        RunnerStartError,
        serve,
    )
    from merganser.runner.faults import Fault, Faults, ScriptedAnswer, ScriptedCall

__all__ = [
    "EmbeddedRunner",
    "Fault",
    "Faults",
    "RunnerOptions",
    "RunnerStartError",
    "ScriptedAnswer",
    "ScriptedCall",
    "serve",
]

_FAULTS = frozenset({"Fault", "Faults", "ScriptedAnswer", "ScriptedCall"})


def __getattr__(name: str) -> Any:
    """Import a public name at its first use."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = "faults" if name in _FAULTS else "embedded_runner"
    return getattr(import_module(f"merganser.runner.{module}"), name)
