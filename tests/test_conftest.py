"""What the suite's own settings promise to its tests."""

from __future__ import annotations

import random
import threading
import time

from hypothesis import given, settings
from hypothesis import strategies as st


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
