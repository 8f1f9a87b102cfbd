"""Run a plan: its stages, in order, as tasks of one flow run.

The other consumer of a plan is ``merganser.planning.explain``, which only describes it.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field, replace
from time import monotonic
from typing import TYPE_CHECKING, Any, assert_never

from prefect import get_run_logger

from merganser.agent.resume import prune_turns
from merganser.batch.selection import Selection
from merganser.config.flow_definition import EvaluateFlow, IndexFlow
from merganser.flows.index import DEFAULT_WORKERS, IndexStages, shard_workers
from merganser.flows.models import ModelPolicy, ModelStages
from merganser.models.outage import waiting_for_server
from merganser.planning.plan import (
    AnswerQuestions,
    BuildSnapshot,
    CheckModel,
    ConfigureModel,
    CountSecrets,
    EmbedShards,
    EvaluateRag,
    EvaluateSnapshot,
    PublishSnapshot,
    PullModel,
    SurveySources,
    TakeTurn,
)
from merganser.progress import remark
from merganser.threads import limiting_threads

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefect.futures import PrefectFuture

    from merganser.agent.answer import Answer
    from merganser.agent.events import EventSink
    from merganser.batch.journal import BatchReport
    from merganser.config.flow_definition import BatchFlow, Gate
    from merganser.config.index_definition import IndexDefinition
    from merganser.config.load import Config
    from merganser.config.spec_agents import RequestedMode
    from merganser.evaluation.assess import Assessment
    from merganser.indexing.run_report import IndexReport
    from merganser.planning.plan import Plan, Stage


def _tell_aloud() -> Callable[[str], None]:
    """Return what tells a sentence at the terminal and in the run's log."""
    logger = get_run_logger()

    def tell(text: str) -> None:
        logger.warning(text)
        remark(text)

    return tell


@dataclass(frozen=True, slots=True)
class Question:
    """What an ask flow is asked.

    Attributes:
        text: Not empty.
        turn_id: The same id resumes the turn.
        rag_mode: Replaces the agent's own; None keeps it.
        on_event: Called with what happens, in this process.
        kinds: The only kinds of documents that are searched; empty for all.
    """

    text: str
    turn_id: str
    rag_mode: RequestedMode | None = None
    on_event: EventSink | None = None
    kinds: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a flow run did; which parts are there depends on the kind of flow.

    Attributes:
        notes: What users should know of the models: aliases, above all.
        reports: One for each index of an index flow.
        answer: What an ask flow was answered.
        batch: How a batch flow went.
        assessments: One for each rag of an evaluate flow, or for each gate of an index flow.
        embed_seconds: Wall time of the embedding stages.
    """

    notes: tuple[str, ...] = ()
    _: KW_ONLY
    reports: tuple[IndexReport, ...] = ()
    answer: Answer | None = None
    batch: BatchReport | None = None
    assessments: tuple[Assessment, ...] = ()
    embed_seconds: float = 0.0
    stopped: tuple[str, ...] = ()

    @property
    def problems(self) -> tuple[str, ...]:
        """What failed in a run that reached its end all the same."""
        found = [f"{len(r.failed)} files of {r.name} failed" for r in self.reports if r.failed]
        found += self.stopped
        if self.batch is not None and self.batch.failed:
            found.append(f"{len(self.batch.failed)} of {self.batch.questions} questions failed")
        return tuple(found)


@dataclass(slots=True)
class Execution:
    """One run of a plan, stage by stage.

    Attributes:
        config: The plan's config.
        plan: What to run.
        policy: How models are found and pulled.
        full: Index everything anew.
        repair: Read all of the indexes, and do anew what is damaged.
        question: What an ask flow is asked; None for other flows.
        generation: The kept snapshot that an evaluate flow looks at, or None for the served one.
        selection: Which questions a batch flow asks now.
    """

    config: Config
    plan: Plan
    policy: ModelPolicy
    _: KW_ONLY
    full: bool = False
    repair: bool = False
    question: Question | None = None
    generation: int | None = None
    selection: Selection = field(default_factory=Selection)
    _models: ModelStages = field(init=False)
    _indexes: dict[str, IndexStages] = field(init=False, default_factory=dict[str, IndexStages])
    _gates: list[PrefectFuture[Any]] = field(init=False, default_factory=list["PrefectFuture[Any]"])
    _outcome: Outcome = field(init=False, default_factory=Outcome)
    _began: float = field(init=False, default_factory=monotonic)

    def __post_init__(self) -> None:
        self._models = ModelStages(self.policy)

    def run(self) -> Outcome:
        """Run all stages; what was begun and not published is given up.

        Raises:
            MerganserError: The first thing that went wrong; what was finished is kept.
        """
        flow = self.plan.flow
        if isinstance(flow, IndexFlow) and flow.spec.runner is not None:
            from merganser.flows.remote import require_runner  # noqa: PLC0415 - few need it

            require_runner(flow.spec.runner)
        try:
            with (
                limiting_threads(flow.spec.threads if isinstance(flow, IndexFlow) else None),
                waiting_for_server(self.policy.wait_seconds, tell=_tell_aloud()),
            ):
                for stage in self.plan.stages:
                    self._run_stage(stage)
            if isinstance(flow, EvaluateFlow):
                from merganser.flows.evaluate import require_passed  # noqa: PLC0415 - only runs of this kind pay for it

                require_passed(self._outcome.assessments)
        except BaseException as error:
            for stages in self._indexes.values():
                stages.give_up(str(error) or type(error).__name__)
            raise
        # Turns end with the snapshots that they searched, which this run may have replaced.
        try:
            if pruned := prune_turns():
                get_run_logger().info("removed what was kept to resume %d turns", pruned)
        except OSError as error:  # what the run did is done: the next one removes them
            get_run_logger().warning("old turns cannot be removed: %s", error)
        return replace(
            self._outcome,
            notes=self._models.notes,
            reports=tuple(one.report for one in self._indexes.values() if one.report),
            embed_seconds=sum(one.embed_seconds for one in self._indexes.values()),
            stopped=tuple(one.stopped for one in self._indexes.values() if one.stopped),
        )

    def _run_stage(self, stage: Stage) -> None:
        match stage:
            case CheckModel(use):
                self._models.check(use)
            case PullModel(use):
                self._models.pull(use)
            case ConfigureModel(use):
                self._models.configure(use)
            case SurveySources(index):
                self._indexes[index.name] = self._begin(index)
                self._indexes[index.name].find_changes()
            case EmbedShards(index, runner, workers):
                self._indexes[index.name].embed(runner, workers)
            case BuildSnapshot(index):
                self._indexes[index.name].build()
            case CountSecrets(rag, most):
                self._count_secrets(rag, most)
            case EvaluateSnapshot(rag, gate):
                self._check_gate(rag, gate)
            case PublishSnapshot(index, keep_snapshots):
                self._indexes[index.name].publish(keep_snapshots, after=self._gates)
            case EvaluateRag(flow, rag):
                self._evaluate(flow, rag)
            case TakeTurn(agent):
                self._outcome = replace(self._outcome, answer=self._take_turn(agent))
            case AnswerQuestions(flow):
                self._outcome = replace(self._outcome, batch=self._answer_questions(flow))
            case _:
                assert_never(stage)

    def _begin(self, index: IndexDefinition) -> IndexStages:
        flow, embedding = self.plan.flow, index.embedding
        model = self._models.ready("embedding", embedding.model) if embedding else None
        spec = flow.spec if isinstance(flow, IndexFlow) else None
        limit = spec.max_time if spec else None
        return IndexStages(
            index,
            model,
            full=self.full,
            repair=self.repair,
            workers=shard_workers(spec) if spec else DEFAULT_WORKERS,
            deadline=self._began + limit.total_seconds() if limit is not None else None,
        )

    # An index run, the most frequent one, must not pay for importing agents and evaluation.
    def _take_turn(self, agent: str) -> Answer:
        from merganser.flows.ask import answer_question  # noqa: PLC0415 - only runs of this kind pay for it

        assert self.question is not None, "an ask flow has a question"
        return answer_question(
            self.config,
            self._models,
            agent,
            self.question.text,
            turn_id=self.question.turn_id,
            rag_mode=self.question.rag_mode,
            kinds=self.question.kinds,
            on_event=self.question.on_event,
        )

    def _answer_questions(self, flow: BatchFlow) -> BatchReport:
        from merganser.batch.journal import BatchFailedError  # noqa: PLC0415 - only runs of this kind pay for it
        from merganser.flows.batch import answer_batch  # noqa: PLC0415 - only runs of this kind pay for it

        report = answer_batch(self.config, self._models, flow, self.selection)
        if report.failed_share > flow.spec.max_failed:
            raise BatchFailedError(report, flow.spec.max_failed)
        return report

    def _check_gate(self, rag: str, gate: Gate) -> None:
        from merganser.flows.evaluate import check_built  # noqa: PLC0415 - only runs of this kind pay for it

        checked = check_built(
            self.config, self._models, self.plan.flow.name, rag, gate, indexes=self._indexes
        )
        if checked is not None:
            self._gates.append(checked)
            self._add(checked.result())

    def _count_secrets(self, rag: str, most: int) -> None:
        from merganser.flows.evaluate import count_secrets  # noqa: PLC0415 - only runs of this kind pay for it

        if counted := count_secrets(self.config, rag, most, indexes=self._indexes):
            self._gates.append(counted)

    def _evaluate(self, flow: EvaluateFlow, rag: str) -> None:
        from merganser.flows.evaluate import evaluate  # noqa: PLC0415 - only runs of this kind pay for it

        self._add(evaluate(self.config, self._models, flow, rag, self.generation))

    def _add(self, assessment: Assessment) -> None:
        done = (*self._outcome.assessments, assessment)
        self._outcome = replace(self._outcome, assessments=done)
