"""The last stages of a batch flow: try the judge, answer shard by shard, show the answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from merganser.agent.agent_definition import describe_agent
from merganser.batch.journal import AnswerJournal, earlier_rows
from merganser.batch.questions import read_questions
from merganser.batch.selection import plan_batch
from merganser.batch.session import BatchJob, Judge, open_session
from merganser.batch.snapshots import snapshots_of
from merganser.config.flow_definition import batch_concurrency
from merganser.tasks.batch import answer_shard, show_answers, try_judge
from merganser.tasks.options import submit

if TYPE_CHECKING:
    from prefect.futures import PrefectFuture

    from merganser.batch.journal import BatchReport
    from merganser.batch.selection import BatchPlan, Selection
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
        flow: What to answer and where to.
        selection: Which questions to ask now.

    Raises:
        SpecErrors: The questions cannot be read.
        PlanError: Another run writes the answers, something else stands there, or the judge is no
            good.
        MerganserError: The model or an index is not there.
    """
    rags = tuple(rag.name for rag in describe_agent(config, flow.agent).rags)
    plan = plan_batch(
        read_questions(flow.input),
        earlier_rows(flow.output),
        config=config.fingerprint,
        snapshot=snapshots_of(config, rags),
        selection=selection,
    )
    job = _describe_job(config, models, flow, plan, rags)
    with AnswerJournal(flow.output, plan) as journal, open_session(job) as session:
        last: list[PrefectFuture[Any]] = models.last
        if job.judge is not None and plan.shards:
            last = [submit(try_judge, session, job.judge.model.model, after=last)]
            last[0].result()
        shards = [
            submit(answer_shard, shard, session, journal, after=last) for shard in plan.shards
        ]
        for shard in shards:
            shard.wait()
        for shard in shards:
            shard.result()
    report = journal.report()
    rows = journal.rows()
    submit(show_answers, flow.name, report, rows, after=shards or last).wait()
    return report


def _describe_job(
    config: Config, models: ModelStages, flow: BatchFlow, plan: BatchPlan, rags: tuple[str, ...]
) -> BatchJob:
    place = models.place("chat", describe_agent(config, flow.agent).model)
    judge = Judge(flow.judge, models.place("chat", flow.judge)) if flow.judge else None

    return BatchJob(
        config=config,
        agent=flow.agent,
        rags=rags,
        place=place,
        find_model=models.find,
        keys=plan.keys,
        concurrency=batch_concurrency(config, flow),
        judge=judge,
    )
