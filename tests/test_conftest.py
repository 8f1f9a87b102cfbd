"""What the suite's own settings promise to its tests."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Callable


def test_a_thread_that_draws_random_numbers_fails_no_property():
    stop = threading.Event()

    def jitter() -> None:
        while not stop.is_set():
            random.random()  # noqa: S311 - as Prefect's services do for the length of their waits

    @given(st.lists(st.integers(), min_size=20))
    def holds(numbers: list[int]) -> None:
        assert len(numbers) >= 20

    thread = threading.Thread(target=jitter)
    thread.start()
    try:
        holds()
    finally:
        stop.set()
        thread.join()


@settings(max_examples=2)
@given(example=st.none())
def test_a_slow_machine_fails_no_property(example: None):
    time.sleep(0.21)  # more than the 200 ms that Hypothesis grants by default


PROOF = """
import pytest

@pytest.mark.proof
@pytest.mark.parametrize("number", range(40))
def test_many(number): ...

@pytest.mark.proof(sample=5)
@pytest.mark.parametrize("number", range(4))
def test_few(number): ...

def test_other(): ...
"""


@pytest.fixture
def collect(tmp_path: Path):
    (tmp_path / "test_law.py").write_text(PROOF)

    def names(*arguments: str, proofs: str = "") -> list[str]:
        words = [sys.executable, "-m", "pytest", "--collect-only", "-q", "--strict-markers"]
        mark = "-o", "markers=proof"
        plugin = "-p", "tests.proofs", "-p", "no:cacheprovider", "--rootdir", str(tmp_path)
        done = subprocess.run(
            [*words, *mark, *plugin, *(f"{tmp_path}/{argument}" for argument in arguments)],
            cwd=Path(__file__).parents[1],
            env={**os.environ, "MERGANSER_PROOFS": proofs},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return [line.rpartition("::")[2] for line in done.stdout.splitlines() if "::" in line]

    return names


def test_a_proof_runs_a_fixed_sample_and_all_on_request(collect: Callable[..., list[str]]):
    sampled = collect("test_law.py")
    everything = collect("test_law.py", proofs="all")

    assert len([name for name in sampled if name.startswith("test_many")]) == 3
    assert sampled[3:] == [*(f"test_few[{number}]" for number in range(4)), "test_other"]
    assert sampled == collect("test_law.py")
    assert len(everything) == 45


def test_a_named_case_of_a_proof_runs(collect: Callable[..., list[str]]):
    wanted = [f"test_law.py::test_many[{number}]" for number in range(7)]

    assert collect(*wanted) == [f"test_many[{number}]" for number in range(7)]
