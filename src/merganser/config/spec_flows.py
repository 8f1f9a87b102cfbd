"""``flows``: what runs by itself, when, after what, and how often it is tried."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, Strict, model_validator

from merganser.config.spec_base import Count, Duration, Flag, Names, StrictModel, Text, Unit, fault
from merganser.config.spec_evaluation import (
    DEFAULT_METRICS,
    Gates,
    Metrics,
    QueriesPath,
)
from merganser.humanize import show_duration

# Cron expressions have five fields: name, lowest and highest number, names of numbers.
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_FIELDS: tuple[tuple[str, int, int, dict[str, int]], ...] = (
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day of month", 1, 31, {}),
    ("month", 1, 12, {name: number for number, name in enumerate(_MONTHS, 1)}),
    ("day of week", 0, 7, {name: number for number, name in enumerate(_DAYS)}),
)
_LONGEST_MONTH = {2: 29, 4: 30, 6: 30, 9: 30, 11: 30}
_ITEM = re.compile(r"(?P<first>\*|\w+)(-(?P<last>\w+))?(/(?P<step>\d+))?")


def find_cron_problem(expression: str) -> str | None:
    """Return what is wrong with a cron expression, or None."""
    words = expression.split()
    if len(words) != len(_FIELDS):
        return f"must have five fields, got {len(words)} in {expression!r}"
    values = list[set[int]]()
    for word, (name, low, high, names) in zip(words, _FIELDS, strict=True):
        found = _expand(word, low, high, names)
        if found is None:
            return f"the {name} {word!r} is not made of numbers from {low} to {high}"
        values.append(found)
    _, _, days, months, _ = values
    if words[4] == "*" and all(min(days) > _LONGEST_MONTH.get(month, 31) for month in months):
        return f"{expression!r} never comes: no such month has a day {min(days)}"
    return None


def _expand(word: str, low: int, high: int, names: dict[str, int]) -> set[int] | None:
    values = set[int]()
    for item in word.split(","):
        match = _ITEM.fullmatch(item)
        if match is None:
            return None
        first, last, step = match["first"], match["last"], int(match["step"] or 1)
        if first == "*":
            begin, end = (None, None) if last else (low, high)
        else:
            begin = _number(first, names)
            end = _number(last, names) if last else (high if match["step"] else begin)
        if begin is None or end is None or step < 1 or not low <= begin <= end <= high:
            return None
        values.update(range(begin, end + 1, step))
    return values


def _number(word: str, names: dict[str, int]) -> int | None:
    if word.isascii() and word.isdigit():
        return int(word)
    return names.get(word.lower())


def _check_cron(value: str) -> str:
    problem = find_cron_problem(value)
    if problem:
        raise fault(problem, fix='five fields, for example "0 3 * * *" for 03:00 every day')
    return value


def _check_timezone(value: str) -> str:
    from zoneinfo import ZoneInfo, available_timezones  # noqa: PLC0415 - only schedules pay for it

    try:
        ZoneInfo(value)
    except (ValueError, OSError, KeyError):
        from difflib import get_close_matches  # noqa: PLC0415 - only errors pay for it

        near = get_close_matches(value, sorted(available_timezones()), n=1)
        hint = f"did you mean {near[0]!r}?" if near else "write a name such as Europe/Berlin"
        raise fault(f"{value!r} is not a known time zone", fix=hint) from None
    return value


def _check_interval(value: timedelta) -> timedelta:
    if value < timedelta(seconds=1):
        raise fault("must be at least one second", fix="write a duration such as 15m")
    return value


TABLE_ENDINGS = (".jsonl", ".csv", ".parquet")
DATABASE_ENDINGS = (".duckdb", ".db")


def split_table(value: str) -> tuple[str, str]:
    """Split ``file`` or ``file.duckdb#table`` into the path and the table, which may be "".

    Raises:
        PydanticCustomError: The ending says nothing, or a database comes without its table.
    """
    path, _, table = value.rpartition("#") if "#" in value else (value, "", "")
    if path.endswith(DATABASE_ENDINGS) and table:
        return path, table
    if value.endswith(TABLE_ENDINGS):
        return value, ""
    if value.endswith(DATABASE_ENDINGS) or path.endswith(DATABASE_ENDINGS):
        raise fault(f"{value!r} names no table", fix=f"write {path}#table")
    raise fault(
        f"must be a .jsonl, .csv or .parquet file, or a table of a .duckdb file, got {value!r}",
        fix="for example questions.jsonl, answers.parquet or answers.duckdb#faq",
    )


def _check_table(value: str) -> str:
    split_table(value)
    return value


def _read_retries(value: Any) -> Any:
    return {"count": value} if isinstance(value, int) and not isinstance(value, bool) else value


def _read_runner(value: Any) -> Any:
    return {"type": value} if isinstance(value, str) else value


def _check_shards(value: str) -> str:
    scheme, separator, rest = value.partition("://")
    if separator and "@" in rest.partition("/")[0]:
        raise fault(
            "must not hold a login: it would be stored and shown",
            fix="give it to the machines, in the variables that the kind of storage reads",
        )
    if separator and not re.fullmatch(r"[a-z][a-z0-9+.-]*", scheme):
        raise fault(
            f"{value!r} is neither a folder nor a URL", fix="for example s3://bucket/shards"
        )
    return value


class ScheduleSpec(StrictModel):
    """When a flow runs by itself: by ``cron``, by ``interval``, or when files change."""

    cron: Annotated[str, AfterValidator(_check_cron)] | None = None
    """Five fields, for example ``0 3 * * *``."""

    timezone: Annotated[str, AfterValidator(_check_timezone)] | None = None
    """Time zone of ``cron``, for example ``Europe/Berlin``; UTC when left out."""

    interval: Annotated[Duration, AfterValidator(_check_interval)] | None = None
    """Time between two starts, for example ``15m``."""

    watch: Flag = False
    """Run when documents of an index flow change; needs ``merganser serve`` on their machine."""

    def __str__(self) -> str:
        """Return when, for example ``cron 0 3 * * * (UTC)`` or ``every 15m``."""
        if self.cron:
            return f"cron {self.cron} ({self.timezone or 'UTC'})"
        if self.interval:
            return f"every {show_duration(self.interval.total_seconds())}"
        return "when files change"

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if (self.cron is not None) + (self.interval is not None) + self.watch != 1:
            raise fault(
                "must have one of cron, interval and watch", fix='for example: {cron: "0 3 * * *"}'
            )
        if self.cron is None and self.timezone is not None:
            kind = "watch" if self.watch else "interval"
            raise fault(
                f"has no meaning with {kind}", fix="remove it, or use cron", at=("timezone",)
            )
        return self


class RetriesSpec(StrictModel):
    """How often a failed run of a flow is started again. A number alone is the ``count``."""

    count: Annotated[int, Strict(), Field(ge=0, le=100)] = 0
    """Attempts after the first."""

    delay: Annotated[Duration, Field(json_schema_extra={"default": "30s"})] = timedelta(seconds=30)
    """Time before each attempt."""


RunnerKind = Literal["dask", "ray"]


class RunnerSpec(StrictModel):
    """Where the shards of an index flow are embedded, instead of in threads of the run.

    A word alone is the ``type``.
    """

    type: RunnerKind
    """``dask`` needs ``merganser[dask]`` and ``ray`` needs ``merganser[ray]``, on every machine."""

    address: Text | None = None
    """Address of a running cluster, for example ``tcp://scheduler:8786`` or ``ray://head:10001``;
    when left out, one is started on this machine for the run."""

    def __str__(self) -> str:
        """Return where, for example ``Dask at this machine``."""
        return f"{self.type.capitalize()} at {self.address or 'this machine'}"


class _Flow(StrictModel):
    _WATCHES_DOCUMENTS: ClassVar[bool] = False

    schedule: ScheduleSpec | None = None
    """When the flow runs by itself; only by hand when left out."""

    after: Names = ()
    """Flows whose success starts this one."""

    retries: Annotated[
        RetriesSpec, BeforeValidator(_read_retries, json_schema_input_type=int | RetriesSpec)
    ] = RetriesSpec()
    """What happens after a failed run."""

    wait_for_server: Duration | None = None
    """How long a model server that is away is waited for, with what is done kept; ``0`` for not at
    all. When left out ten minutes, and not for a server that is not there when a run begins."""

    @model_validator(mode="after")
    def _something_to_watch(self) -> Self:
        if self.schedule is not None and self.schedule.watch and not self._WATCHES_DOCUMENTS:
            raise fault(
                "only an index flow has documents to watch",
                fix="write 'after: <an index flow>', or use cron or interval",
                at=("schedule", "watch"),
            )
        return self


class IndexFlowSpec(_Flow):
    """Bring indexes up to date."""

    _WATCHES_DOCUMENTS: ClassVar[bool] = True

    type: Literal["index"]
    """Which kind of flow this is."""

    rag: Names = ()
    """Name or names under ``rag``; all of them when left out."""

    concurrency: Count | None = None
    """Shards embedded at a time; four when left out, and with a ``runner`` one for each core."""

    max_time: Duration | None = None
    """How long a run may embed; then it stops, publishes nothing, and keeps what is embedded for
    the next run. Shards on a ``runner`` are not stopped."""

    threads: Count | None = None
    """How many threads of this machine a run may use for its own work: its tasks at a time, DuckDB,
    the graphs of approximate search, the processes of a local ``runner``. ``MERGANSER_THREADS``
    or the number of cores when left out; the model server has its own (``runtime_flags``)."""

    runner: (
        Annotated[
            RunnerSpec,
            BeforeValidator(_read_runner, json_schema_input_type=RunnerKind | RunnerSpec),
        ]
        | None
    ) = None
    """Embed the shards in other processes or on other machines, by ``dask`` or ``ray``. Those
    machines must have the documents at the same paths, and the model server at the same address."""

    shards: Annotated[Text, AfterValidator(_check_shards)] | None = None
    """Where embedded shards are kept until a run publishes them, for all machines that may run the
    flow: a folder, relative to the config, or a URL such as ``s3://bucket/shards``, which needs its
    fsspec package. The index folder when left out."""

    gate: Gates | None = None
    """What a new snapshot must reach to be published: one gate, or a list of gates that must all
    hold. Every rag of the flow is evaluated, and nothing of the flow is published when one
    fails."""

    keep_snapshots: Count = 3
    """How many snapshots of each index are kept for ``merganser rollback``, the served one
    included."""

    @model_validator(mode="after")
    def _machines_meet_somewhere(self) -> Self:
        if self.runner is not None and self.runner.address is not None and self.shards is None:
            raise fault(
                "other machines need a place to leave their shards",
                fix="add 'shards: /mnt/shared/shards' or a URL that all of them reach",
                at=("runner", "address"),
            )
        return self


class BatchFlowSpec(_Flow):
    """Answer a file of questions."""

    type: Literal["batch"]
    """Which kind of flow this is."""

    agent: Text | None = None
    """Name under ``agents``; ``root``, else the first, when left out."""

    input: Annotated[Text, AfterValidator(_check_table)]
    """Questions: a ``.jsonl``, ``.csv`` or ``.parquet`` file or ``file.duckdb#table``, relative to
    the config; columns ``question`` and, if wanted, ``id``, ``expected`` and ``filters``."""

    output: Annotated[Text, AfterValidator(_check_table)]
    """Answers in the order of the questions, in any of the same kinds."""

    concurrency: Count | None = None
    """Questions answered at a time. When left out, one more than the parallel slots of the server
    (the model's ``--parallel`` flag), so that no slot waits while a question is prepared."""

    max_failed: Unit = 0.1
    """Share of failed questions, 0 to 1, above which the run fails; answers are kept."""

    judge: Text | None = None
    """Model that judges whether answers are grounded and relevant; none when left out. It is
    refused when it judges eight labelled examples wrongly."""


class EvaluateFlowSpec(_Flow):
    """Measure how well rags find what they should."""

    type: Literal["evaluate"]
    """Which kind of flow this is."""

    rag: Names = ()
    """Name or names under ``rag``; all of them when left out."""

    queries: QueriesPath
    """Queries with the passages that answer them, one JSON object a line, relative to the config.
    """

    metrics: Annotated[Metrics, Field(min_length=1)] = DEFAULT_METRICS
    """What is measured, by name or with ``min`` and ``max_drop``, which fail the run."""


FlowSpec = Annotated[IndexFlowSpec | BatchFlowSpec | EvaluateFlowSpec, Field(discriminator="type")]
