"""The test double: the embedded runner with faults, scripted answers and counters in it.

``FaultyRunner`` is the real runner, loading real engines, started with middleware that can answer
in its place and with collaborators that can fail. Nothing in the shipped package knows of it.
"""

from __future__ import annotations

from tests.doubles.faults import Fault, FaultKind, Faults, ScriptedAnswer, ScriptedCall
from tests.doubles.faulty_runner import FaultyRunner

__all__ = ["Fault", "FaultKind", "Faults", "FaultyRunner", "ScriptedAnswer", "ScriptedCall"]
