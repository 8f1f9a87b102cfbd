"""The worked example of docs/evaluation.md, with the files and the figures that stand there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from merganser.config.flow_definition import EvaluateFlow, IndexFlow, resolve_flow
from merganser.config.load import load_config
from merganser.config.rag_definition import resolve_rag
from merganser.evaluation.assess import Assessment, assess_published
from merganser.evaluation.present import assessment_lines, failure_lines
from merganser.indexing.run import index_once_async

if TYPE_CHECKING:
    from merganser.config.spec_evaluation import ThresholdSpec
    from merganser.models.ref import ModelRef, Role

PAGE = Path(__file__).parents[3] / "docs" / "evaluation.md"
_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def no_model(role: Role, model: ModelRef) -> None:
    del role, model


async def evaluate(folder: Path, thresholds: tuple[ThresholdSpec, ...]) -> Assessment:
    config = load_config(folder / "birds.yaml")
    (index,) = resolve_rag(config, "birds").indexes
    await index_once_async(index, None)
    queries = folder / "evals.jsonl"
    return await assess_published(config, "birds", queries, thresholds, find_model=no_model)


async def test_the_worked_example_gives_the_figures_of_the_page(tmp_path: Path):
    blocks = _FENCE.findall(PAGE.read_text(encoding="utf-8"))
    ducks, geese = (text for language, text in blocks if language == "markdown")
    queries = next(text for language, text in blocks if language == "json")
    config = next(text for language, text in blocks if language == "yaml")
    shown, failure = (text for language, text in blocks if language == "text")
    (tmp_path / "docs").mkdir()
    for name, text in {
        "docs/ducks.md": ducks,
        "docs/geese.md": geese,
        "evals.jsonl": queries,
        "birds.yaml": config,
    }.items():
        (tmp_path / name).write_text(text)
    loaded = load_config(tmp_path / "birds.yaml")
    quality, reindex = resolve_flow(loaded, "quality"), resolve_flow(loaded, "reindex")
    assert isinstance(quality, EvaluateFlow)
    assert isinstance(reindex, IndexFlow)

    good = await evaluate(tmp_path, quality.spec.metrics)
    (tmp_path / "docs" / "geese.md").write_text("# Geese\n\nThey fly south.\n")
    bad = await evaluate(tmp_path, reindex.gates[0].thresholds)

    printed = "\n".join(assessment_lines(good))
    assert re.sub(r", \d+\.\d s$", "", printed, flags=re.MULTILINE) == shown.rstrip()
    assert list(failure_lines(bad)) == failure.splitlines()[1:]
