"""The pace against servers simulated in virtual time: exact, and free of this machine's load."""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import pytest

from merganser.embedding.pace import MOST_REQUESTS, MOST_TOKENS, Pace, Setting

CHARACTERS_PER_TOKEN = 4


@dataclass(frozen=True)
class Profile:
    """How a server takes its time: a request occupies a slot for a while, others wait."""

    slots: int
    request_seconds: float
    token_seconds: float

    def seconds(self, tokens: int) -> float:
        return self.request_seconds + tokens * self.token_seconds


Work = int  # tokens
Server = Callable[[Work], Profile]  # as it is after so much work

ONE_SLOT = Profile(1, 0.005, 1 / 8_000)
EIGHT_SLOTS = Profile(8, 0.050, 1 / 40_000)


def one_slot(_done: Work) -> Profile:
    return ONE_SLOT


def eight_slots(_done: Work) -> Profile:
    return EIGHT_SLOTS


def simulate(server: Server, pace: Pace | Setting, work: int) -> float:
    """Send so many tokens and give the virtual seconds it takes; requests vary by a tenth."""
    noise = random.Random(1)  # noqa: S311 - reproducible noise
    now = 0.0
    sent = done = 0
    queue: deque[tuple[int, float, int]] = deque()
    busy: list[tuple[float, int, float, int]] = []
    in_flight = 0
    while sent < work or in_flight:
        setting = pace if isinstance(pace, Setting) else pace.setting
        while sent < work and in_flight < setting.requests:
            size = (
                pace.characters // CHARACTERS_PER_TOKEN if isinstance(pace, Pace) else pace.tokens
            )
            tokens = min(int(size * noise.uniform(0.9, 1)), max(1, work // setting.requests))
            queue.append((tokens, now, 0 if isinstance(pace, Setting) else pace.round))
            sent += tokens
            in_flight += 1
        profile = server(done)
        while queue and len(busy) < profile.slots:
            tokens, began, in_round = queue.popleft()
            ends = now + profile.seconds(tokens) * noise.uniform(0.95, 1.05)
            heapq.heappush(busy, (ends, tokens, began, in_round))
        now, tokens, began, in_round = heapq.heappop(busy)
        in_flight -= 1
        done += tokens
        if isinstance(pace, Pace):
            pace.counted(tokens * CHARACTERS_PER_TOKEN, tokens)
            characters = tokens * CHARACTERS_PER_TOKEN
            pace.answered(in_round, characters, now - began, is_fed=sent < work)
    return now


def best_fixed(server: Server, work: int) -> float:
    sizes = (512, 1024, 2048, 4096, 8192, 16_384, 32_768)
    return min(
        simulate(server, Setting(tokens, requests), work)
        for tokens, requests in product(sizes, (1, 2, 4, 8, 16, 32))
    )


def slowing(after: Work) -> Server:
    """Return a server that others begin to use: six slots and a third of its speed go."""
    slower = Profile(2, 0.075, 1 / 27_000)
    return lambda done: EIGHT_SLOTS if done < after else slower


@pytest.mark.parametrize(
    ("name", "server", "work"),
    [
        ("one slot", one_slot, 2_000_000),
        ("eight slots", eight_slots, 20_000_000),
        ("slowing", slowing(7_500_000), 15_000_000),
    ],
)
def test_it_comes_within_a_tenth_of_the_best_fixed_setting(name: str, server: Server, work: int):
    ours = simulate(server, Pace(), work)

    assert ours <= 1.10 * best_fixed(server, work), name


def test_it_never_exceeds_the_caps():
    pace = Pace(most_texts=10, most_requests=3)

    simulate(eight_slots, pace, 3_000_000)

    assert pace.most_texts == 10
    assert pace.setting.requests <= 3


def test_one_slot_is_not_flooded():
    pace = Pace()

    simulate(one_slot, pace, 4_000_000)

    assert pace.setting.requests <= 4


def test_requests_hold_what_is_answered_in_a_quarter_of_a_second_fed_or_not():
    pace = Pace()
    sizes: list[int] = []

    for _ in range(6):
        sizes.append(pace.characters)
        pace.answered(pace.round, pace.characters, 0.01, is_fed=False)
    assert sizes == [16_384, 65_536, 262_144, *[MOST_TOKENS * CHARACTERS_PER_TOKEN] * 3]
    pace.answered(pace.round, pace.characters, 5.0, is_fed=False)

    assert pace.characters == MOST_TOKENS * CHARACTERS_PER_TOKEN // 20


def test_a_slower_server_gets_a_shorter_queue():
    pace = Pace()

    simulate(slowing(7_500_000), pace, 15_000_000)

    assert pace.setting.requests <= 4


def test_a_single_request_that_is_too_much_is_halved():
    pace = Pace(most_requests=1)
    before = pace.setting

    pace.overloaded(pace.round)

    assert pace.setting == Setting(before.tokens // 2, 1)


def test_an_overload_halves_once_a_round_and_is_not_repeated_at_once():
    pace = Pace()
    simulate(eight_slots, pace, 10_000_000)
    before = pace.setting.requests
    assert before >= 8

    in_round = pace.round
    for _ in range(before):
        pace.overloaded(in_round)

    assert pace.setting.requests == before // 2
    simulate(eight_slots, pace, 500_000)
    assert pace.setting.requests <= before // 2 <= MOST_REQUESTS


def test_what_was_found_is_where_the_next_client_begins():
    first = Pace("server and model")
    simulate(eight_slots, first, 10_000_000)

    second, stranger = Pace("server and model"), Pace("another")

    assert second.setting.requests >= 8 > stranger.setting.requests
    assert Pace("server and model", most_requests=2).setting.requests == 2


def test_characters_follow_the_servers_own_count():
    pace = Pace()
    before = pace.characters

    pace.counted(1_000, 500)

    assert (pace.characters, before) == (2 * pace.setting.tokens, 4 * pace.setting.tokens)


def test_a_trial_that_too_few_texts_feed_is_given_up():
    pace = Pace()
    first = pace.setting
    while pace.setting == first:
        pace.answered(pace.round, 16_000, 0.5, is_fed=True)
    trial = pace.setting

    for _ in range(trial.requests):
        pace.answered(pace.round, 16_000, 0.5, is_fed=False)

    assert pace.setting != trial
