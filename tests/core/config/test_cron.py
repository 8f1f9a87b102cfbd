"""Cron expressions."""

from __future__ import annotations

import pytest

from merganser.config.spec_flows import find_cron_problem


@pytest.mark.parametrize(
    "expression",
    [
        "* * * * *",
        "0 3 * * *",
        "*/15 9-17 * * mon-fri",
        "0,30 0 1,15 JAN,jul 0",
        "5/10 * * * 7",
        "0 0 29 2 *",
        "0 0 31 * *",
        "0 0 31 2 mon",
    ],
)
def test_good_expressions_have_no_problem(expression: str):
    assert find_cron_problem(expression) is None


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ("", "must have five fields, got 0"),
        ("0 3 * *", "must have five fields, got 4"),
        ("0 0 3 * * *", "must have five fields, got 6"),
        ("60 * * * *", "the minute '60'"),
        ("* 24 * * *", "the hour '24'"),
        ("* * 0 * *", "the day of month '0'"),
        ("* * * 13 *", "the month '13'"),
        ("* * * * 8", "the day of week '8'"),
        ("* * * * mond", "the day of week 'mond'"),
        ("*/0 * * * *", "the minute '*/0'"),
        ("30-10 * * * *", "the minute '30-10'"),
        ("1,,2 * * * *", "the minute '1,,2'"),
        ("-1 * * * *", "the minute '-1'"),
        ("*-5 * * * *", "the minute '*-5'"),
        ("٣ * * * *", "the minute '٣'"),
        ("0 0 30 2 *", "never comes: no such month has a day 30"),
        ("0 0 31 4,6,9,11 *", "never comes: no such month has a day 31"),
    ],
)
def test_bad_expressions_say_which_field_is_wrong(expression: str, problem: str):
    assert problem in (find_cron_problem(expression) or "")
