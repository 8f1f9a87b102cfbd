"""Reranking: a model that reads query and passage together reorders the best candidates.

A search never fails because of its reranker. Where the model is missing, cannot rerank or fails,
the order stays as fusion left it and the status says ``skipped (<reason>)``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from merganser.errors import InputTooLongError, MerganserError, TransientError
from merganser.models.ref import pull_command
from merganser.telemetry import span

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from merganser.config.rag_definition import RerankDefinition
    from merganser.models.probes import RerankProbe
    from merganser.models.ref import ScoreNormalization
    from merganser.models.wire import RerankScore, ServedModel

# A query and a passage must fit the engine's batch together, whose size the server does not tell
# beforehand. Halving four times brings the largest default chunk (4000 characters) to 250.
_MOST_HALVINGS = 4


class RerankRunner(Protocol):
    """What reranking needs of a model server; ``merganser.models.client.ModelRunner`` is one."""

    async def model(self, ref: str) -> ServedModel | None:
        """Look a model up; None when it is not local."""
        ...

    async def probe_reranking(self, ref: str) -> RerankProbe:
        """Check whether a model reranks."""
        ...

    async def rerank(self, ref: str, query: str, documents: Sequence[str]) -> list[RerankScore]:
        """Score documents against a query."""
        ...

    def normalize(self, ref: str, raw: Sequence[float], mode: ScoreNormalization) -> list[float]:
        """Bring raw scores of a model to [0, 1] where that is possible."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Reranked:
    """The candidates in their new order.

    Attributes:
        order: Indexes into the candidates, best first: the reranked ones, then, unless a threshold
            was applied, the rest in their old order.
        scores: Per reranked candidate: in [0, 1] where the scale is known, otherwise raw.
        dropped: Per candidate that is not in ``order``, the reason.
        status: ``applied`` or ``skipped (<reason>)``.
        notes: What the reader must know.
    """

    order: tuple[int, ...]
    scores: Mapping[int, float] = field(default_factory=dict[int, float])
    dropped: Mapping[int, str] = field(default_factory=dict[int, str])
    status: str = "applied"
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Readiness:
    problem: str = ""
    scale: Literal["probability", "logit", ""] = ""
    notes: tuple[str, ...] = ()


class Reranker:
    """A configured reranker. Whether its model reranks at all is checked once.

    Args:
        runner: The model server's client, or None where there is no server.
        definition: What the config says; ``top_k`` is how many candidates are scored.

    >>> import asyncio
    >>> from merganser.config.rag_definition import RerankDefinition
    >>> from merganser.models.ref import ModelRef
    >>> model = ModelRef(name="order", provider="dmr", model="ai/qwen3-reranker")
    >>> definition = RerankDefinition(model=model, top_k=10, threshold=None, criteria=None)
    >>> reranked = asyncio.run(Reranker(None, definition).rerank("ducks", ["Geese.", "Ducks."]))
    >>> reranked.order, reranked.status
    ((0, 1), "skipped (the model 'ai/qwen3-reranker' is not ready)")
    """

    def __init__(self, runner: RerankRunner | None, definition: RerankDefinition) -> None:
        self._runner = runner
        self._definition = definition
        self._readiness: _Readiness | None = None

    async def rerank(self, query: str, texts: Sequence[str]) -> Reranked:
        """Sort candidates by their relevance to the query.

        Only the first ``top_k`` are scored. A threshold applies only to scores of a known scale;
        then candidates without a score are dropped too, because they may not reach it.

        Args:
            query: The question.
            texts: The candidates' texts, best first by what came before.

        Returns:
            The new order, or the old one with the reason; a failing server raises nothing.
        """
        if not texts:
            return Reranked(order=(), status="skipped (nothing was found)")
        with span("rerank", {"merganser.candidates": len(texts)}) as reranking:
            reranked = await self._rerank(query, texts)
            reranking.set_attributes(
                {
                    "merganser.rerank": reranked.status.partition(" ")[0],
                    "merganser.scored": len(reranked.scores),
                }
            )
        return reranked

    async def _rerank(self, query: str, texts: Sequence[str]) -> Reranked:
        try:
            ready = await self._prepare()
            if ready.problem:
                return _unchanged(len(texts), ready.problem)
            return await self._score(query, texts, ready)
        except MerganserError as error:
            return _unchanged(len(texts), _first_line(error))

    async def _score(self, query: str, texts: Sequence[str], ready: _Readiness) -> Reranked:
        definition = self._definition
        count = min(definition.top_k, len(texts)) if definition.top_k > 0 else len(texts)
        raw, cut_note = await self._ask(query, texts[:count])
        assert self._runner is not None, "an absent runner is not ready"
        mode = definition.model.score_normalization
        normal = self._runner.normalize(definition.model.model, raw, mode)
        known = mode != "none" or ready.scale == "probability"
        notes = [*ready.notes, *cut_note]
        scores = dict(enumerate(normal))
        # Stable: equal scores keep the order that fusion gave them.
        order = sorted(scores, key=lambda index: -scores[index])
        dropped: dict[int, str] = {}
        threshold = definition.threshold
        if threshold is not None and not known:
            notes.append(
                f"rerank threshold {threshold:g} not applied: the scores of "
                f"{definition.model.model!r} are raw, on no known scale"
            )
        elif threshold is not None:
            dropped = _below(threshold, scores, len(texts))
        kept = [index for index in (*order, *range(count, len(texts))) if index not in dropped]
        return Reranked(
            order=tuple(kept),
            scores=scores,
            dropped=dropped,
            notes=tuple(notes),
        )

    async def _ask(self, query: str, texts: Sequence[str]) -> tuple[list[float], list[str]]:
        """Score in one request; halve the length of passages as long as one is too long."""
        assert self._runner is not None, "an absent runner is not ready"
        characters = max(len(text) for text in texts)
        notes: list[str] = []
        for halvings in range(_MOST_HALVINGS + 1):
            try:
                answer = await self._runner.rerank(
                    self._definition.model.model, query, [text[:characters] for text in texts]
                )
            except InputTooLongError:
                if halvings == _MOST_HALVINGS:
                    raise
                characters //= 2
                notes = [f"rerank: passages were cut to {characters} characters to fit the model"]
            else:
                raw = {one.index: one.score for one in answer}
                return [raw[index] for index in range(len(texts))], notes
        raise AssertionError("the last round returns or raises")

    async def _prepare(self) -> _Readiness:
        """Check once whether the model is there and reranks; a transient failure is tried again."""
        if self._readiness is not None:
            return self._readiness
        if self._runner is None:
            return _Readiness(f"the model {self._definition.model.model!r} is not ready")
        ref = self._definition.model.model
        served = await self._runner.model(ref)
        if served is None:
            return _Readiness(f"{ref!r} is not on the server; get it with `{pull_command(ref)}`")
        try:
            probe = await self._runner.probe_reranking(ref)
        except TransientError:
            raise
        except MerganserError as error:
            self._readiness = _Readiness(_first_line(error))
            return self._readiness
        stands_in = f", which stands in for {ref!r}," if served.alias_of else ""
        if not probe.trusted:
            name = served.alias_of or ref
            problem = f"{name!r}{stands_in} is no reranker: it failed the test questions"
            self._readiness = _Readiness(problem)
        else:
            notes = [f"rerank: {served.alias_of!r} stands in for {ref!r}"] if stands_in else []
            if self._definition.criteria:
                notes.append("rerank: `criteria` is not used, a native reranker takes no prompt")
            self._readiness = _Readiness(scale=probe.scale, notes=tuple(notes))
        return self._readiness


def _below(threshold: float, scores: Mapping[int, float], candidates: int) -> dict[int, str]:
    """Return the candidates that a threshold drops, with the reason."""
    low = {
        index: f"rerank score {score:.4f} is below the threshold {threshold:g}"
        for index, score in scores.items()
        if score < threshold
    }
    why = f"not reranked (top_k is {len(scores)}) while a threshold is in force"
    return low | dict.fromkeys(range(len(scores), candidates), why)


def _unchanged(count: int, reason: str) -> Reranked:
    return Reranked(
        order=tuple(range(count)),
        status=f"skipped ({reason})",
        notes=(f"rerank: skipped ({reason})",),
    )


def _first_line(error: MerganserError) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
