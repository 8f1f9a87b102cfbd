"""Whatever a server does: a typed error in bounded time and memory, and never a wrong vector."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.doubles.hostile_server import ROUTES, serve

CASES = [f"{route}/{fault}" for route, (_, faults) in ROUTES.items() for fault in faults]
CLIENT = Path(__file__).parents[2] / "doubles" / "hostile_client.py"
MOST_MEGABYTES = 600
LONGEST_SECONDS = 240  # the limits of the client are some seconds; the rest is a loaded machine


@pytest.mark.proof(sample=6)
@pytest.mark.parametrize("case", CASES)
def test_a_server_can_only_be_refused(case: str):
    route, _, fault = case.partition("/")

    with serve(route, fault) as url:
        done = subprocess.run(
            [sys.executable, "-P", str(CLIENT), route, url],
            capture_output=True,
            text=True,
            timeout=LONGEST_SECONDS,
            check=False,
        )

    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout)
    assert told["answer"] is None, str(told["answer"])[:500]
    assert told["is_typed"], told["error"][:2000]
    assert len(told["error"]) < 4000
    assert told["megabytes"] < MOST_MEGABYTES


def test_there_are_kinds_enough():
    assert len(CASES) > 60
