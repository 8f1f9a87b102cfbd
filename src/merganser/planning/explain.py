"""Say what a plan will do: for ``merganser plan``, the plan artifact and a flow's description.

The stages are those that ``merganser.flows.execute`` runs; here they only become words.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, assert_never

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
    from collections.abc import Iterator, Mapping

    from merganser.indexing import Changes
    from merganser.planning.plan import Plan, Stage

_NAMED_PATHS = 5
"""Paths shown by name for each kind of change; the rest is counted."""


@dataclass(frozen=True, slots=True)
class IndexWork:
    """What a run would do to one index.

    Attributes:
        added: Paths of new files.
        changed: Paths of files with other content, or all when there are reasons.
        moved: Pairs of old and new path.
        removed: Paths that are gone.
        unchanged: Number of files that stay.
        skipped: Number of files that are not indexed, by reason.
        reasons: Why unchanged files are done again.
        pending_bytes: Size of the files to be read.
        chunks: Chunks of those files, or None when they were not read.
        texts_to_embed: Texts that no snapshot has had yet, or None.
        seconds: Estimated time of embedding at the last run's rate, or None.
        problem: Why it cannot be told; the other fields mean nothing then.
    """

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    moved: tuple[tuple[str, str], ...] = ()
    removed: tuple[str, ...] = ()
    unchanged: int = 0
    skipped: Mapping[str, int] = field(default_factory=dict[str, int])
    reasons: tuple[str, ...] = ()
    pending_bytes: int = 0
    chunks: int | None = None
    texts_to_embed: int | None = None
    seconds: float | None = None
    problem: str = ""

    @property
    def has_work(self) -> bool:
        """Whether a run would publish anything."""
        return bool(self.added or self.changed or self.moved or self.removed or self.reasons)


@dataclass(frozen=True, slots=True)
class World:
    """What is known of the world when a plan is shown.

    Attributes:
        models: What is known of a model, in words, by its name at the server.
        indexes: What a run would do, by the index's name.
    """

    models: Mapping[str, str] = field(default_factory=dict[str, str])
    indexes: Mapping[str, IndexWork] = field(default_factory=dict[str, IndexWork])


def describe_plan(plan: Plan) -> str:
    """Give the stages as a numbered markdown list."""
    lines = [f"{number}. {describe_stage(stage)}" for number, stage in enumerate(plan.stages, 1)]
    return "\n".join(lines)


def describe_stage(stage: Stage) -> str:
    """Say in one line what a stage does."""
    match stage:
        case CheckModel(use):
            return f"check that the {use.role} model `{use.model.model}` is local"
        case PullModel(use):
            return f"pull `{use.model.model}` if it is missing"
        case ConfigureModel(use):
            return f"configure and load `{use.model.model}` for {use.role}"
        case SurveySources(index):
            return f"survey {', '.join(f'`{entry}`' for entry in index.docs)} for `{index.name}`"
        case EmbedShards(index, runner, _):
            where = f", on {runner}" if runner else ""
            if index.embedding is None:
                return f"chunk what changed in `{index.name}` (no embeddings){where}"
            model = index.embedding.model.model
            return f"chunk and embed what changed in `{index.name}` with `{model}`{where}"
        case BuildSnapshot(index):
            return f"build a snapshot of `{index.name}` beside the served one"
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


def explain_plan(plan: Plan, world: World) -> str:
    """Give the stages with what is known of the world, for a terminal or an artifact."""
    return "\n".join(_explained(plan, world))


def plan_as_json(plan: Plan, world: World) -> dict[str, Any]:
    """Give the same as ``explain_plan`` for scripts."""
    return {
        "flow": plan.flow.name,
        "fingerprint": plan.fingerprint,
        "stages": [
            {"stage": type(stage).__name__, "does": describe_stage(stage).replace("`", "")}
            for stage in plan.stages
        ],
        "models": dict(world.models),
        "indexes": {
            name: {
                "added": list(work.added),
                "changed": list(work.changed),
                "moved": [list(pair) for pair in work.moved],
                "removed": list(work.removed),
                "unchanged": work.unchanged,
                "skipped": dict(work.skipped),
                "reasons": list(work.reasons),
                "pending_bytes": work.pending_bytes,
                "chunks": work.chunks,
                "texts_to_embed": work.texts_to_embed,
                "seconds": work.seconds,
                "problem": work.problem or None,
                "has_work": work.has_work,
            }
            for name, work in world.indexes.items()
        },
    }


def _explained(plan: Plan, world: World) -> Iterator[str]:
    yield f"{plan.flow.name} (plan {plan.fingerprint[:12]})"
    for stage in plan.stages:
        yield f"  {describe_stage(stage).replace('`', '')}"
        match stage:
            case CheckModel(use) if known := world.models.get(use.model.model):
                yield f"      {known}"
            case SurveySources(index) if work := world.indexes.get(index.name):
                yield from (f"      {line}" for line in describe_work(work))
            case _:
                pass


def work_of(found: Changes) -> IndexWork:
    """Return the work that a run would do for some changes."""
    return IndexWork(
        added=tuple(document.path for document in found.added),
        changed=tuple(document.path for document in found.changed),
        moved=tuple((move.origin, move.document.path) for move in found.moved),
        removed=found.removed,
        unchanged=found.unchanged,
        skipped=Counter(skipped.reason for skipped in found.skipped),
        reasons=found.reasons,
        pending_bytes=sum(document.size_bytes for document in found.pending),
    )


def describe_work(work: IndexWork) -> Iterator[str]:
    """Say what a run would do to an index, a line a fact."""
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
    if work.skipped:
        counts = ", ".join(f"{count} {reason}" for reason, count in sorted(work.skipped.items()))
        yield f"skipped: {counts}"
    if work.chunks is not None:
        embed = "" if work.texts_to_embed is None else f", {work.texts_to_embed:,} to embed"
        time = "" if work.seconds is None else f", about {work.seconds:.0f} s at the last rate"
        yield f"{work.pending_bytes:,} bytes to read: {work.chunks:,} chunks{embed}{time}"


def _listed(kind: str, paths: tuple[str, ...]) -> Iterator[str]:
    if paths:
        named = ", ".join(paths[:_NAMED_PATHS])
        more = f" and {len(paths) - _NAMED_PATHS} more" if len(paths) > _NAMED_PATHS else ""
        yield f"{kind}: {len(paths)} ({named}{more})"


def _names(rags: tuple[str, ...]) -> str:
    return ", ".join(f"`{rag}`" for rag in rags)
