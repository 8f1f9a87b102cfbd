"""Show the numbers of a spreadsheet as it shows them: dates, percentages, currencies.

Number formats are those of ECMA-376 part 1, 18.8.31. Names of months and days are English, and the
short date that follows the reader's system (format 14) is written as ISO 8601.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Context, Decimal
from functools import lru_cache
from typing import NamedTuple

_BUILT_IN = {
    1: "0",
    2: "0.00",
    3: "#,##0",
    4: "#,##0.00",
    9: "0%",
    10: "0.00%",
    11: "0.00E+00",
    14: "yyyy-mm-dd",
    15: "d-mmm-yy",
    16: "d-mmm",
    17: "mmm-yy",
    18: "h:mm AM/PM",
    19: "h:mm:ss AM/PM",
    20: "h:mm",
    21: "h:mm:ss",
    22: "yyyy-mm-dd h:mm",
    37: "#,##0 ;(#,##0)",
    38: "#,##0 ;(#,##0)",
    39: "#,##0.00;(#,##0.00)",
    40: "#,##0.00;(#,##0.00)",
    44: "#,##0.00",
    45: "mm:ss",
    46: "[h]:mm:ss",
    47: "mm:ss.0",
    48: "##0.0E+0",
    49: "@",
    # East Asian dates, whose look follows the system
    **dict.fromkeys((*range(27, 32), 36, *range(50, 55), 57, 58), "yyyy-mm-dd"),
    **dict.fromkeys((32, 33, 34, 35, 55, 56), "h:mm:ss"),
}
_TOKEN = re.compile(
    r'"(?P<quoted>[^"]*)"|\\(?P<escaped>.)|_(?P<space>.)|\*(?P<fill>.)|\[(?P<bracket>[^\]]*)\]'
    r"|(?P<half>AM/PM|A/P)|(?P<general>General)|(?P<date>y+|m+|d+|h+|s+|e+(?![+-]))"
    r"|(?P<power>E[+-]0+)|(?P<digits>[0#?][0#?,]*)|(?P<point>\.)|(?P<other>.)",
    re.IGNORECASE | re.DOTALL,
)
_CONDITION = re.compile(r"(<=|>=|<>|<|>|=)\s*(-?[\d.]+)")
_ELAPSED = re.compile(r"(h+|m+|s+)", re.IGNORECASE)
_MAX_CODE = 255
_EPOCH_1900, _EPOCH_1904 = datetime(1899, 12, 30), datetime(1904, 1, 1)  # noqa: DTZ001 - no zone
_EXACT = Context(prec=400, rounding=ROUND_HALF_UP)
_LAST_DAY = 2_958_466  # 31 December 9999


class _Token(NamedTuple):
    kind: str
    text: str


def built_in_format(number: int) -> str:
    """Return the format of a number below 164; ``General`` for one that nobody defines."""
    return _BUILT_IN.get(number, "General")


def format_value(value: float, code: str, *, is_1904: bool = False) -> str:
    """Show a number.

    Args:
        value: As the file stores it.
        code: Its number format.
        is_1904: Whether days are counted from 1904.

    >>> format_value(0.125, "0.0%"), format_value(-1234.5, "#,##0.00;(#,##0.00)")
    ('12.5%', '(1,234.50)')
    >>> format_value(45000.5, "d mmm yyyy h:mm"), format_value(1 / 3, "General")
    ('15 Mar 2023 12:00', '0.3333333333')
    """
    if code == "General":  # most cells of most sheets
        return show_number(value)
    section, value = _choose(value, code[:_MAX_CODE])
    tokens = _tokens(section)
    kinds = {token.kind for token in tokens}
    if "date" in kinds or "elapsed" in kinds:
        return _format_date(value, tokens, is_1904=is_1904)
    if not kinds & {"digits", "general", "point"}:
        if "text" in kinds or not kinds:
            return show_number(value)
        return "".join(token.text for token in tokens if token.kind == "literal")
    return _format_number(value, tokens)


def show_number(value: float) -> str:
    """Show a number without a format: whole to the last digit, others to ten digits.

    >>> show_number(0.1 + 0.2), show_number(3.0), show_number(1e21)
    ('0.3', '3', '1E+21')
    """
    if value == int(value):
        return str(int(value)) if abs(value) < 1e16 else f"{value:.15g}".upper()
    return f"{value:.10g}".upper()


def _choose(value: float, code: str) -> tuple[str, float]:
    """Return the section of a format that shows a value, and the value as that shows it."""
    first, *others = _sections(code)
    numeric = [first, *others[:2]]
    conditions = [_condition(section) for section in numeric]
    if any(conditions):
        for section, condition in zip(numeric, conditions, strict=True):
            if condition is None or _holds(value, *condition):
                return section, value
        return "General", value
    if value < 0 and others:
        return others[0], -value
    if value == 0 and len(others) > 1:
        return others[1], value
    return first, value


@lru_cache(maxsize=256)
def _sections(code: str) -> tuple[str, ...]:
    """Part a format at its semicolons outside quotes and brackets."""
    parts = re.findall(r'(?:"[^"]*"|\[[^\]]*\]|\\.|[^;])+|;', code, re.DOTALL)
    sections = [""]
    for part in parts:
        if part == ";":
            sections.append("")
        else:
            sections[-1] += part
    return tuple(sections)


def _condition(section: str) -> tuple[str, float] | None:
    for token in _tokens(section):
        if token.kind == "bracket" and (found := _CONDITION.fullmatch(token.text)):
            try:
                return found[1], float(found[2])
            except ValueError:
                return None
    return None


def _holds(value: float, relation: str, bound: float) -> bool:
    match relation:
        case "<":
            return value < bound
        case "<=":
            return value <= bound
        case ">":
            return value > bound
        case ">=":
            return value >= bound
        case "=":
            return value == bound
        case _:
            return value != bound


@lru_cache(maxsize=256)
def _tokens(section: str) -> tuple[_Token, ...]:
    tokens: list[_Token] = []
    for match in _TOKEN.finditer(section):
        kind, text = match.lastgroup or "", match[match.lastgroup or 0]
        if kind == "bracket" and text.startswith("$"):
            tokens.append(_Token("literal", text[1:].partition("-")[0]))
        elif kind == "bracket" and _ELAPSED.fullmatch(text):
            tokens.append(_Token("elapsed", text.lower()))
        elif kind in {"quoted", "escaped"}:
            tokens.append(_Token("literal", text))
        elif kind == "space":
            tokens.append(_Token("literal", " "))
        elif kind == "other":
            tokens.append(_Token({"%": "percent", "@": "text"}.get(text, "literal"), text))
        elif kind != "fill":
            tokens.append(_Token(kind, text.lower() if kind == "date" else text))
    return tuple(tokens)


# -- numbers ---------------------------------------------------------------------------------------


def _format_number(value: float, tokens: tuple[_Token, ...]) -> str:
    """Fill the places for digits, those before the point from the right."""
    value *= 100 ** sum(token.kind == "percent" for token in tokens)
    point = next((i for i, token in enumerate(tokens) if token.kind == "point"), len(tokens))
    power = next((token for token in tokens if token.kind == "power"), None)
    whole = [token.text for token in tokens[:point] if token.kind == "digits"]
    fraction = "".join(token.text for token in tokens[point:] if token.kind == "digits")
    if any(token.text == "/" for token in tokens if token.kind == "literal") and whole:
        return show_number(value)  # a fraction such as 2 1/4
    last = (fraction or (whole[-1] if whole else "")).rstrip()
    value /= 1000 ** (len(last) - len(last.rstrip(",")))
    fraction = fraction.replace(",", "")
    if power is not None:
        return _format_power(value, len(fraction), power.text)
    digits, _, decimals = _round(abs(value), min(len(fraction), 30)).partition(".")
    kept = max((i for i, c in enumerate(fraction, 1) if c == "0"), default=0)
    decimals = decimals[:kept] + decimals[kept:].rstrip("0")
    sign = "-" if value < 0 and (digits.strip("0") or decimals.strip("0")) else ""
    shown = _fill_whole(digits, whole)
    out: list[str] = []
    for i, token in enumerate(tokens):
        match token.kind:
            case "digits" if i < point:
                out.append(shown.pop(0))
            case "point" if decimals or "0" in fraction:
                out.append(f".{decimals}")
            case "general":
                out.append(show_number(abs(value)))
                sign = "-" if value < 0 else ""
            case "percent" | "literal":
                out.append(token.text)
            case _:
                pass
    return sign + "".join(out).strip()


def _round(value: float, decimals: int) -> str:
    """Round as spreadsheets do, halves up, by the 15 digits that they show."""
    exact = Decimal(f"{value:.15g}")
    return f"{exact.quantize(Decimal(1).scaleb(-decimals), context=_EXACT):f}"


def _fill_whole(digits: str, places: list[str]) -> list[str]:
    """Part the digits before the point among the places for them; the first takes what is left."""
    if not places:
        return []
    digits = digits.lstrip("0")
    has_groups = any("," in place.rstrip(",") for place in places)
    filled: list[str] = []
    for place in reversed(places[1:]):
        width = len(place.replace(",", ""))
        part, digits = digits[-width:] if width else "", digits[:-width] if width else digits
        filled.append(part.rjust(place.count("0"), "0"))
    digits = digits.rjust(places[0].count("0"), "0")
    if has_groups and digits:
        lead = len(digits) % 3
        groups = [digits[i : i + 3] for i in range(lead, len(digits), 3)]
        digits = ",".join([digits[:lead], *groups] if lead else groups)
    return [digits, *reversed(filled)]


def _format_power(value: float, decimals: int, power: str) -> str:
    mantissa, _, exponent = f"{Decimal(f'{value:.15g}'):.{min(decimals, 30)}E}".partition("E")
    number = int(exponent)
    sign = "-" if number < 0 else "+" if "+" in power else ""
    return f"{mantissa}E{sign}{abs(number):0{power.count('0')}d}"


# -- dates and times -------------------------------------------------------------------------------


def _format_date(value: float, tokens: tuple[_Token, ...], *, is_1904: bool) -> str:
    if not 0 <= value < _LAST_DAY:
        return show_number(value)
    fraction = next((token.text for token in tokens if token.kind == "digits"), "")
    seconds = round(value * 86_400, min(len(fraction), 6))
    epoch = _EPOCH_1904 if is_1904 else _EPOCH_1900
    # Excel counts a 29 February 1900 that was none, so the days before it are one later.
    is_before_it = not is_1904 and seconds < 60 * 86_400
    moment = epoch + timedelta(days=int(is_before_it), seconds=seconds)
    has_half = any(token.kind == "half" for token in tokens)
    out: list[str] = []
    for i, token in enumerate(tokens):
        match token.kind:
            case "date" if token.text[0] == "m" and _is_minute(tokens, i):
                out.append(f"{moment.minute:0{min(len(token.text), 2)}d}")
            case "date":
                out.append(_date_part(moment, token.text, has_half=has_half))
            case "elapsed":
                unit = {"h": 3600, "m": 60, "s": 1}[token.text[0]]
                out.append(f"{int(seconds // unit):0{len(token.text)}d}")
            case "half":
                half = "AM" if moment.hour < 12 else "PM"
                out.append(half[: 1 if len(token.text) == 3 else 2])
            case "point":
                out.append(".")
            case "digits":
                shown = round(moment.microsecond, len(token.text) - 6)
                out.append(f"{shown:06d}"[: len(token.text)])
            case "literal":
                out.append(token.text)
            case _:
                pass
    return "".join(out).strip()


def _is_minute(tokens: tuple[_Token, ...], at: int) -> bool:
    """Tell minutes from months: they stand behind hours or before seconds."""
    clock = [i for i, token in enumerate(tokens) if token.kind in {"date", "elapsed"}]
    place = clock.index(at)
    before = tokens[clock[place - 1]].text[0] if place else ""
    after = tokens[clock[place + 1]].text[0] if place + 1 < len(clock) else ""
    return len(tokens[at].text) <= 2 and (before == "h" or after == "s")


def _date_part(moment: datetime, text: str, *, has_half: bool) -> str:
    width = len(text)
    match text[0]:
        case "y" | "e":
            return f"{moment.year % 100:02d}" if width <= 2 and text[0] == "y" else str(moment.year)
        case "m" if width > 2:
            name = moment.strftime("%B")
            return name[:1] if width == 5 else name[:3] if width == 3 else name
        case "m":
            return f"{moment.month:0{width}d}"
        case "d" if width > 2:
            name = moment.strftime("%A")
            return name[:3] if width == 3 else name
        case "d":
            return f"{moment.day:0{width}d}"
        case "h":
            hour = (moment.hour - 1) % 12 + 1 if has_half else moment.hour
            return f"{hour:0{min(width, 2)}d}"
        case _:
            return f"{moment.second:0{min(width, 2)}d}"
