"""A plan in words: for ``merganser plan``, the plan artifact and the description of a flow.

``merganser.flows.execute`` runs the same stages.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, assert_never

from merganser.documents.skipping import NAMED_FILES, describe_skipped
from merganser.humanize import visible_name
from merganser.planning.contents import Contents, describe_contents
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

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from merganser.config.index_definition import IndexDefinition
    from merganser.documents.scanning import Skipped
    from merganser.planning.plan import Plan, Stage


@dataclass(frozen=True, slots=True)
class IndexWork:
    """What a run would do to one index; its fields are the keys of ``merganser plan --json``.

    Attributes:
        added: Paths of new files.
        changed: Paths of files with other content, or all known paths when there are reasons.
        moved: Pairs of old and new path.
        removed: Paths of files that are gone.
        unchanged: Number of files that stay.
        skipped: Number of files that are not indexed, by reason.
        skipped_files: Each of them, by path.
        new_skips: Paths of those that the last run did not leave out.
        failed: Files that cannot be read, with the reason.
        contents: What the files to be read are made of.
        served: The snapshot that is served until the run is done, or None.
        reasons: Why unchanged files are indexed again.
        pending_bytes: Size of the files to be read.
        chunks: Chunks of those files; None when they were not read.
        texts_to_embed: Texts that have no vector yet; None when they were not counted.
        seconds: Estimated time of embedding at the last run's rate, or None.
        notes: Entries of ``docs`` that give nothing, and what is assumed of an absent model.
        problem: Why it is unknown, or None; the other fields mean nothing then.
    """

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    moved: tuple[tuple[str, str], ...] = ()
    removed: tuple[str, ...] = ()
    unchanged: int = 0
    skipped: Mapping[str, int] = field(default_factory=dict[str, int])
    skipped_files: tuple[Skipped, ...] = ()
    new_skips: tuple[str, ...] = ()
    failed: tuple[Skipped, ...] = ()
    contents: Contents = field(default_factory=Contents)
    served: int | None = None
    reasons: tuple[str, ...] = ()
    pending_bytes: int = 0
    chunks: int | None = None
    texts_to_embed: int | None = None
    seconds: float | None = None
    notes: tuple[str, ...] = ()
    problem: str | None = None

    @property
    def has_work(self) -> bool:
        """Whether a run would publish anything."""
        return bool(self.added or self.changed or self.moved or self.removed or self.reasons)


@dataclass(frozen=True, slots=True)
class PlanState:
    """What is known when a plan is shown, and not in it.

    Attributes:
        models: The state of each model in words, by its name at the server.
        indexes: What a run would do, by the index's name.
        shortages: What is said of servers that cannot keep all models of a flow, by its name.
    """

    models: Mapping[str, str] = field(default_factory=dict[str, str])
    indexes: Mapping[str, IndexWork] = field(default_factory=dict[str, IndexWork])
    shortages: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])


def describe_plan(plan: Plan) -> str:
    """Return the stages as a numbered markdown list."""
    lines = [f"{number}. {describe_stage(stage)}" for number, stage in enumerate(plan.stages, 1)]
    return "\n".join(lines)


def describe_stage(stage: Stage) -> str:
    """Return in one line what a stage does."""
    match stage:
        case CheckModel(use):
            return f"check that the {use.role} model `{use.model.model}` is local"
        case PullModel(use):
            return f"pull `{use.model.model}` if it is missing"
        case ConfigureModel(use):
            return f"configure and load `{use.model.model}` for {use.role}"
        case SurveySources(index):
            return _survey(index)
        case EmbedShards(index, runner, _):
            where = f" ({index.chunking.describe()})"
            where += f", on {runner}" if runner else ""
            if index.embedding is None:
                return f"chunk what changed in `{index.name}` (no embeddings){where}"
            model = index.embedding.model.model
            return f"chunk and embed what changed in `{index.name}` with `{model}`{where}"
        case BuildSnapshot(index):
            return f"build a snapshot of `{index.name}` beside the served one"
        case CountSecrets(rag, most):
            return f"gate `{rag}`: at most {most:,} secrets in its files; else publish nothing"
        case EvaluateSnapshot(rag, gate):
            held = ", ".join(map(str, gate.thresholds))
            return f"gate `{rag}` with `{gate.queries.name}`: {held}; else publish nothing"
        case PublishSnapshot(index, keep_snapshots):
            kept = f"the last {keep_snapshots} are kept"
            return f"publish the snapshot of `{index.name}` in one step ({kept})"
        case EvaluateRag(flow, rag):
            held = ", ".join(map(str, flow.spec.metrics))
            return f"evaluate `{rag}` with `{flow.queries.name}`: {held}"
        case TakeTurn(agent, rags):
            return f"let `{agent}` answer" + (f", searching {_names(rags)}" if rags else "")
        case AnswerQuestions(flow, rags):
            where = f", searching {_names(rags)}" if rags else ""
            return f"let `{flow.agent}` answer `{flow.input.path.name}`{where}"
        case _:
            assert_never(stage)


def _survey(index: IndexDefinition) -> str:
    named = [f"`{entry}`" for entry in index.docs]
    named += [f"`{one.shown}` as `{one.label}`" for one in index.repositories]
    cloned = any(one.url for one in index.repositories)
    do = "bring clones up to date and survey" if cloned else "survey"
    return f"{do} {', '.join(named)} for `{index.name}`"


def explain_plan(plan: Plan, state: PlanState) -> str:
    """Return the stages with what is known of models and indexes, for a terminal."""
    return "\n".join(_explained(plan, state))


def plan_as_json(plan: Plan, state: PlanState) -> dict[str, Any]:
    """Return the same as ``explain_plan`` for scripts."""
    return {
        "flow": plan.flow.name,
        "fingerprint": plan.fingerprint,
        "stages": [
            {"stage": type(stage).__name__, "does": describe_stage(stage).replace("`", "")}
            for stage in plan.stages
        ],
        "models": dict(state.models),
        "indexes": {
            name: {**asdict(work), "has_work": work.has_work}
            for name, work in state.indexes.items()
        },
        "notes": list(state.shortages.get(plan.flow.name, ())),
    }


def _explained(plan: Plan, state: PlanState) -> Iterator[str]:
    yield f"{plan.flow.name} (plan {plan.fingerprint[:12]})"
    for stage in plan.stages:
        yield f"  {describe_stage(stage).replace('`', '')}"
        match stage:
            case CheckModel(use) if known := state.models.get(use.model.model):
                yield f"      {known}"
            case SurveySources(index) if work := state.indexes.get(index.name):
                yield from (f"      {line}" for line in describe_work(work))
            case _:
                pass
    yield from (f"  note: {text}" for text in state.shortages.get(plan.flow.name, ()))


def describe_work(work: IndexWork) -> Iterator[str]:
    """Return what a run would do to an index, one fact a line."""
    if work.problem:
        yield work.problem
        return
    if not work.has_work:
        yield f"nothing to do: {work.unchanged} files unchanged"
    yield from (f"everything again: {reason}" for reason in work.reasons)
    yield from _listed("added", work.added)
    yield from _listed("changed", work.changed)
    yield from _listed("moved", tuple(f"{old} -> {new}" for old, new in work.moved))
    yield from _listed("removed", work.removed)
    if work.has_work and work.unchanged:
        yield f"unchanged: {work.unchanged} files"
    yield from describe_contents(work.contents)
    if work.chunks is not None:
        embed = "" if work.texts_to_embed is None else f", {work.texts_to_embed:,} to embed"
        time = "" if work.seconds is None else f", about {work.seconds:.0f} s at the last rate"
        yield f"{work.pending_bytes:,} bytes to read: {work.chunks:,} chunks{embed}{time}"
    if work.served is not None and work.reasons:
        yield f"snapshot {work.served} is served until that is done"
    yield from (f"note: {note}" for note in work.notes)
    yield from (f"cannot be read: {visible_name(f.path)} ({f.detail})" for f in work.failed)
    yield from describe_skipped(work.skipped_files, {*work.new_skips})


def _listed(kind: str, paths: tuple[str, ...]) -> Iterator[str]:
    if paths:
        named = ", ".join(map(visible_name, paths[:NAMED_FILES]))
        more = f" and {len(paths) - NAMED_FILES:,} more" if len(paths) > NAMED_FILES else ""
        yield f"{kind}: {len(paths):,} ({named}{more})"


def _names(rags: tuple[str, ...]) -> str:
    return ", ".join(f"`{rag}`" for rag in rags)
