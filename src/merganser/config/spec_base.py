"""What all spec models share: strictness, scalar types, durations and the way they fail."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, Strict
from pydantic_core import PydanticCustomError

from merganser.humanize import parse_duration

if TYPE_CHECKING:
    from collections.abc import Collection

    from merganser.config.yaml_source import Location

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_MOST_SECONDS = 1e10  # 300 years

# As difflib measures it, `topk` is at 0.89 from `top_k` and `chunk_size` at 0.7 from `batch_size`.
_NEAR = 0.72

CUSTOM = "merganser"
"""The type of pydantic errors whose message, fix and inner location are ours."""


class StrictModel(BaseModel):
    """Refuse unknown keys, changes after loading, and numbers that are not finite."""

    # The fields' docstrings go into schema.json by ``scripts/reference.py``: pydantic's own
    # way of collecting them reads the source at every start and costs 35 ms.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def fault(problem: str, *, fix: str = "", at: Location = ()) -> PydanticCustomError:
    """Build a validation error with a fix.

    Args:
        problem: What is wrong.
        fix: What to do.
        at: Keys below the value under validation, when the fault is further in.
    """
    # Braces would be read as placeholders by pydantic's template.
    return PydanticCustomError(CUSTOM, "{problem}", {"problem": problem, "fix": fix, "at": at})


def suggest(word: str, known: Collection[str]) -> str:
    """Return ``did you mean 'x'?`` for the nearest known word, or "" when none is near."""
    from difflib import get_close_matches  # noqa: PLC0415 - only errors pay for it

    lowered = {name.casefold(): name for name in known}
    near = get_close_matches(word.casefold(), lowered, n=1, cutoff=_NEAR)
    return f"did you mean {lowered[near[0]]!r}?" if near else ""


def read_duration(value: object) -> timedelta:
    """Read ``90``, ``"90s"`` or ``"1h30m"``; a bare number counts seconds.

    Raises:
        PydanticCustomError: The value is neither, or is negative.
    """
    if isinstance(value, timedelta):
        return value
    seconds = parse_duration(value) if isinstance(value, str) else value
    if (
        isinstance(seconds, int | float)
        and not isinstance(seconds, bool)
        and 0 <= seconds < _MOST_SECONDS
    ):
        return timedelta(seconds=seconds)
    raise fault(
        f"must be a duration, got {value!r}", fix="write seconds, or text like 15m or 1h30m"
    )


def _check_name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise fault(
            f"{value!r} cannot name a flow",
            fix="begin with a letter or digit; use letters, digits, '-', '_' and '.'",
        )
    return value


def _check_tool_name(value: str) -> str:
    if not _TOOL_NAME.fullmatch(value):
        raise fault(
            f"{value!r} cannot name a tool",
            fix="use up to 64 letters, digits, '-' and '_', which is what chat APIs accept",
        )
    return value


def split_one_or_many(value: Any) -> Any:
    """Return a single text as a list of one."""
    return (value,) if isinstance(value, str) else value


Flag = Annotated[bool, Strict()]
Count = Annotated[int, Strict(), Field(ge=1)]
Text = Annotated[str, Field(min_length=1)]
Number = Annotated[float, Strict()]
Unit = Annotated[float, Strict(), Field(ge=0, le=1)]
"""A number from 0 to 1."""
FlowName = Annotated[str, AfterValidator(_check_name)]
ToolName = Annotated[str, AfterValidator(_check_tool_name)]
Duration = Annotated[
    timedelta, BeforeValidator(read_duration, json_schema_input_type=int | float | str)
]
Names = Annotated[
    tuple[Text, ...],
    BeforeValidator(split_one_or_many, json_schema_input_type=Text | list[Text]),
]
"""One name, or a list of names."""
