"""``merganser eval`` and a gate that fails, then passes, as a user meets them."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .conftest import Ran

pytestmark = pytest.mark.timeout(600)

FLOWS = """
flows:
  reindex:
    type: index
    gate: {queries: ./evals.jsonl, metric: recall@5, min: 0.9}
"""
COUPON = (
    '{"id": "coupon", "query": "which coupon saves most", "path": "src/shop/discount.py", '
    '"quote": "def best_discount"}\n'
)
REFUND = '{"id": "refund", "query": "refunds", "path": "src/README.md", "lines": "3-5"}\n'
GONE = '{"id": "gone", "query": "vouchers", "path": "src/shop/voucher.py"}\n'


@pytest.fixture
def gated(project: Path) -> Path:
    (project / "shop.yaml").write_text((project / "shop.yaml").read_text() + FLOWS)
    (project / "evals.jsonl").write_text(COUPON + REFUND + GONE)
    return project


def test_a_gate_holds_an_index_back_until_it_finds_what_it_should(
    merganser: Callable[..., Ran], gated: Path
) -> None:
    plan = merganser("plan", "shop.yaml", "reindex", cwd=gated)
    assert "gate code with evals.jsonl: recall@5 at least 0.9; else publish nothing" in plan.out

    refused = merganser("index", "shop.yaml", cwd=gated)
    assert refused.code == 1
    assert "recall@5 is 0.6667, 0.2333 below the least, 0.9" in refused.err
    assert "'vouchers': nothing found of src/shop/voucher.py" in refused.err
    assert "Traceback" not in refused.err
    unserved = merganser("search", "shop.yaml", "coupon", cwd=gated)
    assert (unserved.code, "nothing has been indexed" in unserved.err) == (1, True)

    (gated / "src/shop/voucher.py").write_text("def redeem_vouchers(vouchers):\n    return 1\n")
    passed = merganser("index", "shop.yaml", "--json", cwd=gated)
    (report,) = passed.json["indexes"]
    assert (passed.code, report["status"], report["texts_embedded"]) == (0, "published", 1)

    junit = gated / "report.xml"
    found = merganser("eval", "shop.yaml", "--junit", str(junit), "--json", cwd=gated)
    (evaluation,) = found.json["evaluations"]
    assert (found.code, evaluation["passed"], evaluation["stale"]) == (0, True, [])
    assert [one["metric"] for one in evaluation["metrics"]] == ["recall@5"]
    suite = ET.parse(junit).getroot()[0]  # noqa: S314 - written by us a moment ago
    assert (suite.get("tests"), suite.get("failures")) == ("4", "0")

    (gated / "other.jsonl").write_text(COUPON.replace("def best_discount", "def worst"))
    missed = merganser(
        *("eval", "shop.yaml", "--queries", "other.jsonl", "--per-query"),
        *("--require", "recall@5>=0.5", "--min-precision@1=1"),
        cwd=gated,
    )
    assert missed.code == 1
    assert "recall@5 is 0.0000, 0.5000 below the least, 0.5" in missed.err
    assert "precision@1 is 0.0000" in missed.err
    assert "stale label, counted as not found: coupon" in missed.out
    assert "not found" in missed.out


def test_wrong_usage_of_eval_says_what_is_right(merganser: Callable[..., Ran], gated: Path) -> None:
    metric = merganser("eval", "shop.yaml", "--min-recal@5", "0.8", cwd=gated)
    number = merganser("eval", "shop.yaml", "--max-drop-recall@5", cwd=gated)
    form = merganser("eval", "shop.yaml", "--require", "recall@5=0.8", cwd=gated)
    flow = merganser("eval", "shop.yaml", "ask-root", cwd=gated)
    (gated / "evals.jsonl").write_text('{"query": "x"}\n{"query": "y", "path": 3}\n')
    lines = merganser("eval", "shop.yaml", "--ephemeral", cwd=gated)

    assert (metric.code, "write recall@5" in metric.err) == (2, True)
    assert (number.code, "a number from 0 to 1" in number.err) == (2, True)
    assert (form.code, "write recall@5>=0.8 or" in form.err) == (2, True)
    assert (flow.code, "neither evaluates nor has a gate" in flow.err) == (1, True)
    assert lines.code == 1
    assert "evals.jsonl:1:1: says nothing of what is to be found" in lines.err
    assert "evals.jsonl:2:16: path must be a text that is not empty, got 3" in lines.err
