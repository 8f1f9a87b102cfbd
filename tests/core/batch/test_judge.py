import json

import pytest

from merganser.batch.judge import EXAMPLES, Judged, judge_answer, require_judge
from merganser.errors import PlanError
from merganser.models.client import ModelRunner
from tests.doubles import FaultyRunner

RIGHT = [json.dumps({"verdict": "yes" if example.verdict else "no"}) for example in EXAMPLES]
CASE = Judged("What does it eat?", "Fish.", ("A merganser eats fish.",))


def test_the_examples_are_balanced():
    assert len(EXAMPLES) == 8
    for aspect in ("grounded", "relevant"):
        assert sorted(e.verdict for e in EXAMPLES if e.aspect == aspect) == [False] * 2 + [True] * 2


@pytest.mark.models
async def test_a_model_that_cannot_judge_is_refused(runner: FaultyRunner):
    async with ModelRunner(runner.url) as client:
        with pytest.raises(PlanError, match=r"got \d of 8 labelled examples right and needs 7"):
            await require_judge(client, "ai/smollm2")


async def test_one_wrong_verdict_is_allowed_and_two_are_not(runner: FaultyRunner):
    async with ModelRunner(runner.url) as client:
        # All eight are asked at once, so the script gives the same verdict to each.
        runner.faults.script_chat([RIGHT[0]] * 8)
        with pytest.raises(PlanError, match="got 4 of 8"):
            await require_judge(client, "ai/smollm2")


async def test_a_judge_gives_both_verdicts_and_leaves_out_what_it_left_open(runner: FaultyRunner):
    async with ModelRunner(runner.url) as client:
        runner.faults.script_chat(['{"verdict": "yes"}'] * 2)
        assert await judge_answer(client, "ai/smollm2", CASE) == {"grounded": 1.0, "relevant": 1.0}
        runner.faults.script_chat(['{"verdict": "perh'] * 2)
        assert await judge_answer(client, "ai/smollm2", CASE) == {}
