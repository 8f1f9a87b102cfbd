"""``flows``: what runs by itself, when, after what, and how often it is tried."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, Strict, model_validator

from merganser.spec.base import Count, Duration, Flag, Names, StrictModel, Text, Unit, fault
from merganser.spec.cron import find_cron_problem
from merganser.spec.evaluation import (
    DEFAULT_METRICS,
    Gates,
    Metrics,
    QueriesPath,
    ThresholdSpec,
)


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


class ScheduleSpec(StrictModel):
    """When a flow runs by itself: by ``cron``, by ``interval``, or when files change."""

    cron: Annotated[str, AfterValidator(_check_cron)] | None = None
    """Five fields, for example ``0 3 * * *``."""

    timezone: Annotated[str, AfterValidator(_check_timezone)] | None = None
    """Where the cron's clock hangs, for example ``Europe/Berlin``; UTC when left out."""

    interval: Annotated[Duration, AfterValidator(_check_interval)] | None = None
    """Time between two starts, for example ``15m``."""

    watch: Flag = False
    """Run when documents of an index flow change; needs ``merganser serve`` where they lie."""

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
    """How often a failed run of a flow is started again. A bare number is the ``count``."""

    count: Annotated[int, Strict(), Field(ge=0, le=100)] = 0
    """Attempts after the first."""

    delay: Annotated[Duration, Field(json_schema_extra={"default": "30s"})] = timedelta(seconds=30)
    """Time before each of them."""


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
    """Shards embedded at a time; one when left out."""

    gate: Gates | None = None
    """What a new snapshot must reach to be published: one gate, or a list of which all must hold.
    It is held for every rag of the flow, and nothing of the flow is published when one fails."""

    keep_snapshots: Count = 3
    """How many snapshots of each index are kept for ``merganser rollback``, the served one
    included."""


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
    """Questions answered at a time. When left out, one more than the slots that the model's
    ``--parallel`` flag gives the server, so that it never waits for a question to be prepared."""

    max_failed: Unit = 0.1
    """Share of failed questions above which the run counts as failed; answers are kept."""

    judge: Text | None = None
    """Model that judges whether answers are grounded and relevant; none when left out. It is
    refused when it fails on eight labelled examples."""


class EvaluateFlowSpec(_Flow):
    """Measure how well rags find what they should."""

    type: Literal["evaluate"]
    """Which kind of flow this is."""

    rag: Names = ()
    """Name or names under ``rag``; all of them when left out."""

    queries: QueriesPath
    """Queries with the passages that answer them, one JSON object a line, relative to the config.
    """

    metrics: Annotated[Metrics, Field(min_length=1)] = tuple(
        ThresholdSpec(metric=name) for name in DEFAULT_METRICS
    )
    """What is measured, by name or with ``min`` and ``max_drop``, which fail the run."""


FlowSpec = Annotated[IndexFlowSpec | BatchFlowSpec | EvaluateFlowSpec, Field(discriminator="type")]
