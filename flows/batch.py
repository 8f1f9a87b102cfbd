"""The last stages of a batch flow: try the judge, answer shard by shard, show the answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from merganser.batch.journal import AnswerJournal
from merganser.batch.selection import plan_batch
from merganser.batch.session import open_session
from merganser.errors import RunnerUnreachableError, ServerAwayError
from merganser.progress import remark
from merganser.tasks.batch import answer_shard, show_answers, try_judge
from merganser.tasks.options import submit

if TYPE_CHECKING:
    from prefect.futures import PrefectFuture

    from merganser.batch.journal import BatchReport
    from merganser.batch.selection import Selection
    from merganser.config.flow_definition import BatchFlow
    from merganser.config.load import Config
    from merganser.flows.models import ModelStages


def answer_batch(
    config: Config, models: ModelStages, flow: BatchFlow, selection: Selection
) -> BatchReport:
    """Answer a table of questions, a shard a task run.

    Args:
        config: With the agent.
        models: What the earlier stages made ready.
        flow: Which questions to answer and where answers go.
        selection: Which questions to ask now.

    Raises:
        SpecErrors: The questions cannot be read.
        PlanError: Another run writes the answers, something else stands where they should go, or
            the judge got too many of its examples wrong.
        ServerAwayError: The model server did not come back in time; the answers are written.
        MerganserError: The model or an index is not there.
    """
    plan = plan_batch(config, flow, selection)
    with (
        AnswerJournal(flow.output, plan) as journal,
        open_session(config, flow, plan.keys, models.find) as session,
    ):
        last: list[PrefectFuture[Any]] = models.last
        if flow.judge is not None and plan.shards:
            last = [submit(try_judge, session, flow.judge.model, after=last)]
            last[0].result()
        shards = [
            submit(answer_shard, shard, session, journal, after=last) for shard in plan.shards
        ]
        for shard in shards:
            shard.wait()
        try:
            for shard in shards:
                shard.result()
        except (ServerAwayError, RunnerUnreachableError):
            done = journal.report()
            remark(
                f"{done.answered} of {done.questions} questions are answered and kept in "
                f"{flow.output}; the next run asks the others"
            )
            raise
    report = journal.report()
    rows = journal.rows()
    submit(show_answers, flow.name, report, rows, after=shards or last).wait()
    return report
