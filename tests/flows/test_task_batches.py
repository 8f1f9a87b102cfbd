from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from merganser.flows.index import TaskBatches

if TYPE_CHECKING:
    from collections.abc import Callable

    from merganser.tasks.indexing import TaskBatch


def play(shards: int, workers: int, seconds: Callable[[int], float]) -> list[TaskBatch]:
    """Hand out all shards to workers that are done in turn.

    Args:
        shards: How many there are.
        workers: How many tasks run at a time.
        seconds: How long a task of so many shards takes.
    """
    batches = TaskBatches(shards, workers)
    taken = [batch for _ in range(workers) if (batch := batches.next())]
    for batch in taken:  # grows while it is walked
        batches.learn(batch, seconds(len(batch.numbers)))
        if following := batches.next():
            taken.append(following)
    return taken


@given(st.integers(0, 300), st.integers(1, 20), st.lists(st.floats(0, 1e4), min_size=1, max_size=9))
def test_every_shard_is_taken_once_and_in_order(shards: int, workers: int, times: list[float]):
    turns = iter(times * (shards + workers))

    taken = play(shards, workers, lambda _: next(turns))

    assert list(range(shards)) == [number for batch in taken for number in batch.numbers]


def test_shards_that_are_seconds_of_work_have_a_task_each():
    taken = play(40, 4, lambda shards: 6.0 * shards)

    assert {1} == {len(batch.numbers) for batch in taken}


def test_shards_of_a_fast_server_share_a_task_of_seconds():
    taken = play(400, 4, lambda shards: 0.1 * shards)

    sizes = [len(batch.numbers) for batch in taken]
    assert sizes[:5] == [1, 1, 1, 1, 4]
    assert max(sizes) == 50
    assert len(sizes) < 40


def test_the_last_tasks_are_short_so_that_no_worker_is_left_alone():
    sizes = [len(batch.numbers) for batch in play(400, 4, lambda shards: 0.1 * shards)]

    assert max(sizes[-4:]) <= 10  # a second's worth


def test_no_task_is_much_larger_than_what_it_was_learnt_from():
    sizes = [len(batch.numbers) for batch in play(10_000, 1, lambda _: 0.0)]

    assert all(after <= 4 * before for before, after in pairwise(sizes))


def test_a_server_that_slows_down_gets_smaller_tasks():
    batches = TaskBatches(1000, 2)
    first = batches.next()
    assert first is not None
    for _ in range(4):
        batches.learn(first, 0.02 * len(first.numbers))
        first = batches.next()
        assert first is not None

    batches.learn(first, 10.0 * len(first.numbers))

    following = batches.next()
    assert following is not None
    assert len(following.numbers) == 1


def test_a_batch_is_named_by_its_shards():
    batches = TaskBatches(5, 1)
    first = batches.next()
    assert first is not None
    batches.learn(first, 0.1)

    assert [str(first), str(batches.next())] == ["0", "1-4"]
