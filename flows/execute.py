"""Run a plan: its stages, in order, as tasks of one flow run.

The other consumer of a plan is ``merganser.planning.explain``, which only tells what happens here.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Any, assert_never

from prefect import get_run_logger

from merganser.agent.resume import prune_turns
from merganser.batch.selection import Selection
from merganser.config.flow_definition import EvaluateFlow, IndexFlow
from merganser.flows.index import IndexStages
from merganser.flows.models import ModelPolicy, ModelStages
from merganser.flows.task_batches import DEFAULT_WORKERS
from merganser.planning.plan import (
    AnswerQuestions,
    BuildSnapshot,
    CheckModel,
    ConfigureModel,
    EmbedShards,
    EvaluateRag,
    EvaluateSnapshot,
    PublishSnapshot,
    PullModel,
    SurveySources,
    TakeTurn,
)

if TYPE_CHECKING:
    from prefect.futures import PrefectFuture

    from merganser.agent.answer import Answer
    from merganser.agent.events import EventSink
    from merganser.batch.journal import BatchReport
    from merganser.config.flow_definition import BatchFlow
    from merganser.config.index_definition import IndexDefinition
    from merganser.config.load import Config
    from merganser.config.spec_agents import RequestedMode
    from merganser.evaluation.assess import Assessment
    from merganser.flows.evaluate import EvaluationStages
    from merganser.indexing.run_report import IndexReport
    from merganser.planning.plan import Plan, Stage


@dataclass(frozen=True, slots=True)
class Question:
    """What an ask flow is asked.

    Attributes:
        text: Not empty.
        turn_id: The same one resumes the turn.
        rag_mode: Instead of the agent's own.
        on_event: Told what happens, in this process.
    """

    text: str
    turn_id: str
    rag_mode: RequestedMode | None = None
    on_event: EventSink | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a flow run did; which parts are there depends on the kind of flow.

    Attributes:
        notes: What users should know of the models: aliases, above all.
        reports: One for each index.
        answer: Of an ask flow.
        batch: Of a batch flow.
        assessments: Of an evaluate flow, one for each rag, or of the gates of an index flow.
        embed_seconds: Wall time of the embedding stages.
    """

    notes: tuple[str, ...] = ()
    _: KW_ONLY
    reports: tuple[IndexReport, ...] = ()
    answer: Answer | None = None
    batch: BatchReport | None = None
    assessments: tuple[Assessment, ...] = ()
    embed_seconds: float = 0.0

    @property
    def problems(self) -> tuple[str, ...]:
        """What failed in a run that reached its end all the same."""
        found = [f"{len(r.failed)} files of {r.name} failed" for r in self.reports if r.failed]
        if self.batch is not None and self.batch.failed:
            found.append(f"{len(self.batch.failed)} of {self.batch.questions} questions failed")
        return tuple(found)


@dataclass(slots=True)
class Execution:
    """One run of a plan, stage by stage.

    Attributes:
        config: The plan's config.
        policy: How models are found and pulled.
        full: Index everything anew.
        question: Of an ask flow.
        generation: The kept snapshot that an evaluate flow looks at, or None for the served one.
        selection: Of a batch flow: which questions to ask now.
    """

    config: Config
    policy: ModelPolicy
    _: KW_ONLY
    full: bool = False
    question: Question | None = None
    generation: int | None = None
    selection: Selection = field(default_factory=Selection)
    _models: ModelStages = field(init=False)
    _indexes: dict[str, IndexStages] = field(init=False, default_factory=dict[str, IndexStages])
    _answer: Answer | None = field(init=False, default=None)
    _batch: BatchReport | None = field(init=False, default=None)
    _evaluation: EvaluationStages | None = field(init=False, default=None)
    _gates: list[PrefectFuture[Any]] = field(init=False, default_factory=list["PrefectFuture[Any]"])
    _flow: str = field(init=False, default="")
    _workers: int = field(init=False, default=DEFAULT_WORKERS)

    def __post_init__(self) -> None:
        self._models = ModelStages(self.policy)

    def run(self, plan: Plan) -> Outcome:
        """Run all stages; what was begun and not published is given up.

        Raises:
            MerganserError: The first thing that went wrong; what was finished is kept.
        """
        self._flow = plan.flow.name
        if isinstance(plan.flow, IndexFlow):
            self._workers = plan.flow.spec.concurrency or DEFAULT_WORKERS
            if plan.flow.spec.runner is not None:
                from merganser.flows.remote import require_runner  # noqa: PLC0415 - few need it

                require_runner(plan.flow.spec.runner)
        try:
            for stage in plan.stages:
                self._run_stage(stage)
            if isinstance(plan.flow, EvaluateFlow):
                self._evaluating().require()
        except BaseException as error:
            for stages in self._indexes.values():
                stages.give_up(str(error) or type(error).__name__)
            raise
        # Turns end with the snapshots that they searched, which this run may have replaced.
        if pruned := prune_turns():
            get_run_logger().info("removed what was kept to resume %d turns", pruned)
        reports = tuple(stages.report for stages in self._indexes.values() if stages.report)
        return Outcome(
            self._models.notes,
            reports=reports,
            answer=self._answer,
            batch=self._batch,
            assessments=self._evaluation.assessments if self._evaluation else (),
            embed_seconds=sum(stages.embed_seconds for stages in self._indexes.values()),
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
            case EvaluateSnapshot(rag, gate):
                self._gates += self._evaluating().hold_gate(self._flow, rag, gate, self._indexes)
            case PublishSnapshot(index, keep_snapshots):
                self._indexes[index.name].publish(keep_snapshots, after=self._gates)
            case EvaluateRag(flow, rag):
                self._evaluating().evaluate(flow, rag, self.generation)
            case TakeTurn(agent):
                self._answer = self._take_turn(agent)
            case AnswerQuestions(flow):
                self._batch = self._answer_questions(flow)
            case _:
                assert_never(stage)

    def _begin(self, index: IndexDefinition) -> IndexStages:
        embedding = index.embedding
        model = self._models.ready("embedding", embedding.model) if embedding else None
        return IndexStages(index, model, full=self.full, workers=self._workers)

    # An index run, the most frequent one, must not pay for importing agents.
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
            on_event=self.question.on_event,
        )

    def _evaluating(self) -> EvaluationStages:
        if self._evaluation is None:
            from merganser.flows.evaluate import EvaluationStages  # noqa: PLC0415 - only runs of this kind pay for it

            self._evaluation = EvaluationStages(self.config, self._models)
        return self._evaluation

    def _answer_questions(self, flow: BatchFlow) -> BatchReport:
        from merganser.batch.journal import BatchFailedError  # noqa: PLC0415 - only runs of this kind pay for it
        from merganser.flows.batch import answer_batch  # noqa: PLC0415 - only runs of this kind pay for it

        report = answer_batch(self.config, self._models, flow, self.selection)
        if report.failed_share > flow.spec.max_failed:
            raise BatchFailedError(report, flow.spec.max_failed)
        return report
