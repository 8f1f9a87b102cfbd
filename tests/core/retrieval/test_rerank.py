# ruff: noqa: ARG002 - the runner's protocol names the arguments
from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest

from merganser.config.rag_definition import RerankDefinition
from merganser.errors import InputTooLongError, ModelRunnerError, RunnerUnavailableError
from merganser.models.client import ModelRunner
from merganser.models.inference import normalize_scores
from merganser.models.probes import RerankProbe
from merganser.models.ref import ModelRef
from merganser.models.wire import RerankScore, ServedModel
from merganser.retrieval.rerank import Reranker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from merganser.models.ref import ScoreNormalization
    from tests.doubles import FaultyRunner

SERVED = ServedModel(ref="ai/reranker", canonical="ai/reranker:latest", id="sha256:1", tags=())
TRUSTED = RerankProbe(ordered=True, margin=2.0, scale="probability")
DEFINITION = RerankDefinition(
    model=ModelRef(name="reranker", provider="dmr", model="ai/reranker"),
    top_k=10,
    threshold=None,
    criteria=None,
)


@dataclass
class ScoringRunner:
    """Scores a document by the number at its end; no package ships a reranker to do it for us."""

    served: ServedModel | None = SERVED
    probe: RerankProbe | ModelRunnerError = TRUSTED
    _: KW_ONLY
    failure: ModelRunnerError | None = None
    most_characters: int = 10_000
    asked: list[list[str]] = field(default_factory=list[list[str]])
    probes: int = 0

    async def model(self, ref: str) -> ServedModel | None:
        return self.served

    async def probe_reranking(self, ref: str) -> RerankProbe:
        self.probes += 1
        if isinstance(self.probe, ModelRunnerError):
            raise self.probe
        return self.probe

    async def rerank(self, ref: str, query: str, documents: Sequence[str]) -> list[RerankScore]:
        if self.failure is not None:
            raise self.failure
        if max(map(len, documents)) > self.most_characters:
            raise InputTooLongError("too long", status=500)
        self.asked.append(list(documents))
        scores = [float(text.split()[0]) for text in documents]
        ranked = [RerankScore(index, score) for index, score in enumerate(scores)]
        return sorted(ranked, key=lambda one: -one.score)

    def normalize(self, ref: str, raw: Sequence[float], mode: ScoreNormalization) -> list[float]:
        logits = isinstance(self.probe, RerankProbe) and self.probe.scale == "logit"
        return normalize_scores(raw, mode, known_logits=logits)


def with_normalization(mode: str) -> RerankDefinition:
    model: Any = replace(DEFINITION.model, score_normalization=mode)
    return replace(DEFINITION, model=model, threshold=0.5)


async def test_scores_decide_the_order():
    reranked = await Reranker(ScoringRunner(), DEFINITION).rerank("q", ["0.1", "0.9", "0.5"])

    assert (reranked.status, reranked.order) == ("applied", (1, 2, 0))
    assert reranked.scores == {0: 0.1, 1: 0.9, 2: 0.5}


async def test_equal_scores_keep_the_old_order():
    reranked = await Reranker(ScoringRunner(), DEFINITION).rerank("q", ["0.5", "0.9", "0.5"])

    assert reranked.order == (1, 0, 2)


async def test_tail_beyond_top_k_stays_below_in_its_old_order():
    runner = ScoringRunner()
    definition = replace(DEFINITION, top_k=2)

    reranked = await Reranker(runner, definition).rerank("q", ["0.1", "0.2", "0.9", "0.8"])

    assert reranked.order == (1, 0, 2, 3)
    assert runner.asked == [["0.1", "0.2"]]


async def test_threshold_drops_low_scores_and_what_nobody_scored():
    definition = replace(DEFINITION, top_k=2, threshold=0.5)

    reranked = await Reranker(ScoringRunner(), definition).rerank("q", ["0.1", "0.9", "0.9"])

    assert reranked.order == (1,)
    assert set(reranked.dropped) == {0, 2}


async def test_probabilities_are_not_squeezed_before_the_threshold():
    reranked = await Reranker(ScoringRunner(), with_normalization("auto")).rerank("q", ["0.2"])

    assert reranked.order == ()


async def test_logits_go_through_a_sigmoid_before_the_threshold():
    runner = ScoringRunner(probe=replace(TRUSTED, scale="logit"))

    reranked = await Reranker(runner, with_normalization("auto")).rerank("q", ["-1", "0.2"])

    assert reranked.order == (1,)
    assert reranked.scores[1] == pytest.approx(1 / (1 + math.exp(-0.2)))


async def test_threshold_is_not_applied_to_raw_logits():
    runner = ScoringRunner(probe=replace(TRUSTED, scale="logit"))

    reranked = await Reranker(runner, with_normalization("none")).rerank("q", ["-3", "-1"])

    assert reranked.order == (1, 0)
    assert any("threshold 0.5 not applied" in note for note in reranked.notes)


@pytest.mark.parametrize(
    ("server", "reason"),
    [
        (None, "is not ready"),
        (ScoringRunner(served=None), "docker model pull"),
        (ScoringRunner(probe=replace(TRUSTED, ordered=False)), "failed the test questions"),
        (ScoringRunner(probe=replace(TRUSTED, margin=1e-20)), "failed the test questions"),
        (ScoringRunner(probe=ModelRunnerError("no rerank here", status=501)), "no rerank here"),
        (ScoringRunner(failure=RunnerUnavailableError("busy", status=503)), "busy"),
    ],
)
async def test_reranker_that_cannot_leaves_the_order_and_says_why(
    server: ScoringRunner | None, reason: str
):
    reranked = await Reranker(server, DEFINITION).rerank("q", ["0.1", "0.9"])

    assert reranked.order == (0, 1)
    assert reranked.scores == {}
    assert reranked.status.startswith("skipped (")
    assert reason in reranked.status
    assert reranked.notes == (f"rerank: {reranked.status}",)


async def test_probe_is_asked_once_but_again_after_a_passing_failure():
    runner = ScoringRunner(probe=RunnerUnavailableError("loading", status=503))
    reranker = Reranker(runner, DEFINITION)
    first = await reranker.rerank("q", ["0.1", "0.9"])
    runner.probe = TRUSTED

    second = await reranker.rerank("q", ["0.1", "0.9"])
    await reranker.rerank("q", ["0.1", "0.9"])

    assert (first.order, second.order, runner.probes) == ((0, 1), (1, 0), 2)


async def test_long_passages_are_cut_until_they_fit():
    runner = ScoringRunner(most_characters=300)

    reranked = await Reranker(runner, DEFINITION).rerank("q", ["0.1 " + "x" * 996, "0.9"])

    assert reranked.order == (1, 0)
    assert [len(text) for text in runner.asked[0]] == [250, 3]
    assert reranked.notes == ("rerank: passages were cut to 250 characters to fit the model",)


async def test_passages_that_never_fit_are_not_reranked():
    runner = ScoringRunner(most_characters=10)

    reranked = await Reranker(runner, DEFINITION).rerank("q", ["0.1 " + "x" * 996, "0.9"])

    assert reranked.status == "skipped (too long)"


async def test_criteria_are_named_as_unused():
    definition = replace(DEFINITION, criteria="prefer recent files")

    reranked = await Reranker(ScoringRunner(), definition).rerank("q", ["0.1"])

    assert any("`criteria` is not used" in note for note in reranked.notes)


async def test_nothing_to_rerank_asks_nobody():
    runner = ScoringRunner()

    reranked = await Reranker(runner, DEFINITION).rerank("q", [])

    assert (reranked.order, runner.probes) == ((), 0)


async def test_real_chat_model_in_the_place_of_a_reranker_is_found_out(runner: FaultyRunner):
    model = ModelRef(name="chat", provider="dmr", model="ai/smollm2")
    async with ModelRunner(runner.url) as client:
        reranked = await Reranker(client, replace(DEFINITION, model=model)).rerank("q", ["a", "b"])

    assert reranked.order == (0, 1)
    assert reranked.status.startswith("skipped (")
