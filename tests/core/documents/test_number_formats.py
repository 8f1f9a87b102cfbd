"""Numbers of workbooks as they are shown, held against LibreOffice 7.4 and Excel's own rules."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merganser.documents.number_formats import built_in_format, format_value


@pytest.mark.parametrize(
    ("value", "code", "shown"),
    [
        # what LibreOffice's TEXT() gives
        (0.125, "0.0%", "12.5%"),
        (0.005, "0%", "1%"),
        (2.675, "0.00", "2.68"),
        (-0.004, "0.00", "0.00"),
        (1234.567, "#,##0", "1,235"),
        (-1234.567, "#,##0;(#,##0)", "(1,235)"),
        (0, '0.00;-0.00;"zero"', "zero"),
        (-1234.567, '"EUR "#,##0.00', "-EUR 1,234.57"),
        (-1, "$#,##0.00", "-$1.00"),
        (1234567.891, '0.0,,"M"', "1.2M"),
        (1234567.891, '0.0,"k"', "1234.6k"),
        (45000.75, "000-0000", "004-5001"),
        (43831, "00000", "43831"),
        (1234.567, '[>1000]"big "0;"small "0', "big 1235"),
        (0.125, '[>1000]"big "0;"small "0', "small 0"),
        (1, "0.0##", "1.0"),
        (1234.567, "#,###.##", "1,234.57"),
        (0.5, "#.##", ".5"),
        (1234.567, "0.00E+00", "1.23E+03"),
        (1, '0" pcs"', "1 pcs"),
        (43831, "yyyy-mm-dd", "2020-01-01"),
        (43831, "d-mmm-yy", "1-Jan-20"),
        (45000.75, "dddd, mmmm d, yyyy", "Wednesday, March 15, 2023"),
        (45000.75, "h:mm AM/PM", "6:00 PM"),
        (45000.75, "m/d/yy h:mm", "3/15/23 18:00"),
        (1234.567, "[h]:mm", "29629:36"),
        (0.125, "[mm]:ss", "180:00"),
        (1234567.891, "mm:ss.0", "23:02.4"),
        (45000.75, 'h "h" mm "min"', "18 h 00 min"),
        (43831, "dd.mm.yyyy", "01.01.2020"),
        # what Excel shows and LibreOffice has no code for
        (1234.5, "[$€-407] #,##0.00", "€ 1,234.50"),
        (1234, '_("$"* #,##0.00_)', "$1,234.00"),
        (12, "@", "12"),
        (1 / 3, "General", "0.3333333333"),
        (2.25, "# ?/?", "2.25"),
    ],
)
def test_a_number_is_shown_by_its_format(value: float, code: str, shown: str):
    assert format_value(value, code) == shown


def test_days_are_counted_from_either_epoch():
    assert format_value(0, "yyyy-mm-dd", is_1904=True) == "1904-01-01"
    assert format_value(61, "yyyy-mm-dd") == "1900-03-01"
    assert format_value(1, "yyyy-mm-dd") == "1900-01-01"  # Excel's own, one day off LibreOffice's


def test_a_day_beyond_the_calendar_is_its_number():
    assert format_value(-5, "yyyy-mm-dd") == "-5"
    assert format_value(3_000_000, "yyyy-mm-dd") == "3000000"


def test_the_short_date_of_the_system_is_written_unmistakably():
    assert format_value(43831, built_in_format(14)) == "2020-01-01"
    assert built_in_format(163) == "General"


@given(
    st.floats(allow_nan=False, allow_infinity=False),
    st.text('0#?,.%E+-;[]@"\\ymdhsAP/_*$é ', max_size=30),
)
def test_any_format_shows_any_number(value: float, code: str):
    assert isinstance(format_value(value, code), str)


@given(st.integers(-(10**12), 10**12))
def test_grouped_digits_are_those_of_python(value: int):
    assert format_value(value, "#,##0") == f"{value:,}"
