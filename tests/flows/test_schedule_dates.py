"""When schedules fire, as Prefect computes it from our schedule objects."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, cast
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prefect.server.schemas.schedules import CronSchedule, IntervalSchedule

from merganser.config.spec_flows import ScheduleSpec, find_cron_problem
from merganser.deployment.apply import prefect_schedule

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prefect.types import DateTime

BERLIN = "Europe/Berlin"


async def dates(schedule: ScheduleSpec, start: datetime, count: int) -> list[datetime]:
    """Return the next dates, by the server's own computation."""
    made = prefect_schedule(schedule)
    assert made is not None
    if made.cron:
        computed = CronSchedule(cron=made.cron, timezone=made.timezone, day_or=made.day_or)
    else:
        assert made.interval is not None
        computed = IntervalSchedule(
            interval=made.interval,
            anchor_date=cast("DateTime", made.anchor_date),
            timezone=made.timezone,
        )
    dates = await computed.get_dates(n=count, start=start)
    return [datetime.fromtimestamp(when.timestamp(), UTC) for when in dates]


def cron(expression: str, timezone: str = "UTC") -> ScheduleSpec:
    return ScheduleSpec(cron=expression, timezone=timezone)


def berlin(times: Sequence[datetime]) -> list[str]:
    return [f"{when.astimezone(ZoneInfo(BERLIN)):%m-%d %H:%M %Z}" for when in times]


async def test_a_daily_cron_keeps_its_hour_when_the_clocks_change() -> None:
    spring = await dates(cron("0 3 * * *", BERLIN), datetime(2026, 3, 28, 0, tzinfo=UTC), 3)
    autumn = await dates(cron("0 4 * * *", BERLIN), datetime(2026, 10, 24, 0, tzinfo=UTC), 3)

    assert berlin(spring) == ["03-28 03:00 CET", "03-29 03:00 CEST", "03-30 03:00 CEST"]
    assert berlin(autumn) == ["10-24 04:00 CEST", "10-25 04:00 CET", "10-26 04:00 CET"]


async def test_an_hour_that_does_not_exist_fires_once_and_not_on_another_day() -> None:
    # 2026-03-29 has no 02:30 in Berlin.
    spring = await dates(cron("30 2 * * *", BERLIN), datetime(2026, 3, 28, 12, tzinfo=UTC), 2)

    assert [text[:5] for text in berlin(spring)] == ["03-29", "03-30"]


async def test_an_hour_that_comes_twice_fires_once() -> None:
    # 2026-10-25 has 02:30 twice in Berlin.
    autumn = await dates(cron("30 2 * * *", BERLIN), datetime(2026, 10, 24, 12, tzinfo=UTC), 2)

    assert [text[:5] for text in berlin(autumn)] == ["10-25", "10-26"]


@pytest.mark.parametrize("month", [3, 10])
async def test_an_interval_does_not_know_of_clock_changes(month: int) -> None:
    start = datetime(2026, month, 24, 12, tzinfo=UTC)
    every = ScheduleSpec(interval=timedelta(hours=6))

    found = await dates(every, start, 20)

    assert {after - before for before, after in pairwise(found)} == {timedelta(hours=6)}


async def test_a_leap_day_comes_in_leap_years_only() -> None:
    found = await dates(cron("0 0 29 2 *"), datetime(2026, 1, 1, tzinfo=UTC), 2)

    assert [when.date().isoformat() for when in found] == ["2028-02-29", "2032-02-29"]


async def test_day_of_month_and_weekday_are_either_or_as_in_cron() -> None:
    # The 13th, and every Friday: 2026-02-06 is a Friday, so is the 13th.
    found = await dates(cron("0 0 13 * fri"), datetime(2026, 2, 1, tzinfo=UTC), 5)
    march = await dates(cron("0 0 13 * mon"), datetime(2026, 2, 1, tzinfo=UTC), 4)

    assert [when.day for when in found] == [6, 13, 20, 27, 6]
    assert [when.day for when in march] == [2, 9, 13, 16]


FIELDS = st.tuples(
    st.sampled_from(["*", "0", "*/15", "5/20", "10-40/10", "0,30"]),
    st.sampled_from(["*", "3", "9-17", "*/6", "0,12"]),
    st.sampled_from(["*", "1", "15,31", "29", "28-31", "*/10"]),
    st.sampled_from(["*", "2", "jan,JUL", "4-6", "*/3"]),
    st.sampled_from(["*", "0", "7", "mon-fri", "sat,sun", "1-5/2"]),
)


@settings(max_examples=60, deadline=None)
@given(fields=FIELDS)
async def test_what_our_check_accepts_prefect_fires(fields: tuple[str, ...]) -> None:
    expression = " ".join(fields)
    start = datetime(2026, 1, 1, tzinfo=UTC)

    if find_cron_problem(expression) is None:
        found = await dates(cron(expression), start, 3)
        assert found == sorted(set(found))
        assert len(found) == 3
        assert all(when > start - timedelta(minutes=1) for when in found)


@pytest.mark.parametrize("expression", ["0 0 30 2 *", "0 0 31 4,6 *"])
def test_a_date_that_never_comes_is_refused_before_prefect_sees_it(expression: str) -> None:
    assert "never comes" in (find_cron_problem(expression) or "")
