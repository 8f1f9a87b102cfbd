"""What orchestration costs a batch: ``python benchmarks/bench_batch.py [--questions 200]``.

The same questions are answered by ``merganser batch`` (a Prefect flow, history on a running server)
and by the same core call without Prefect, in turns and in fresh processes. The chat model is
``slotted_chat.py``: so many slots, each answer a fixed time. Wall and CPU are of the whole command;
"kept" is how full the server's slots were from the first start to the last one, counted there. A
command also starts Python and Prefect, which no batch is long enough to hide: "answering" is what
the command and the core spend between the first question and the last answer.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import httpx
from free_runner import served
from measuring import print_table, run_measured
from slotted_chat import QUESTION

from merganser.services.prefect_server import ensure_server

CONFIG = """\
models:
  chat: {{provider: dmr, model: ai/smollm2, supports_tools: false,
          provider_opts: {{runtime_flags: ["--parallel", "{slots}"]}}}}
agents:
  root: {{model: chat, instruction: Answer from the sources., rag: [docs], rag_mode: context}}
rag:
  docs: {{docs: [./docs], strategies: [{{type: bm25}}]}}
flows:
  index: {{type: index}}
  faq: {{type: batch, agent: root, input: q.jsonl, output: flow.jsonl}}
"""

CORE = """\
import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from merganser.batch.journal import AnswerJournal
from merganser.batch.selection import SHARD_QUESTIONS, Selection, plan_batch
from merganser.batch.session import open_session
from merganser.config.flow_definition import DataTable
from merganser.config.load import load_config
from merganser.config.flow_definition import batch_concurrency, resolve_flow
from merganser.models.address import resolve_address
from merganser.models.client import ModelRunner
from merganser.retrieval.opening import ModelPlace
config = load_config("batch.yaml")
flow = replace(resolve_flow(config, "faq"), output=DataTable(Path("core.jsonl").absolute()))
async def find():
    address = await resolve_address()
    async with ModelRunner(address) as runner:
        return ModelPlace(address, await runner.model("ai/smollm2"))
place = asyncio.run(find())
find_model = lambda role, model: place if role == "chat" else None
plan = plan_batch(config, flow, Selection())
with (AnswerJournal(flow.output, plan) as journal,
      open_session(config, flow, plan.keys, find_model) as session):
    with ThreadPoolExecutor(batch_concurrency(config, flow) // SHARD_QUESTIONS + 2) as pool:
        list(pool.map(lambda shard: session.answer(shard, journal), plan.shards))
assert not journal.report().failed, journal.report().failed
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--slots", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=1.0, help="an answer takes")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    script = Path(__file__).with_name("slotted_chat.py")
    ensure_server()
    seen: dict[str, list[dict[str, float]]] = {"core": [], "flow": []}
    with (
        tempfile.TemporaryDirectory() as name,
        served(str(script), str(options.slots), str(options.seconds)) as (url, _),
    ):
        folder, os.environ["MODEL_RUNNER_HOST"] = Path(name), url
        _write(folder, options.questions, options.slots)
        merganser = [sys.executable, "-P", "-m", "merganser"]
        run_measured([*merganser, "index", "batch.yaml"], folder=folder)
        words = {
            "core": [sys.executable, "-c", CORE],
            "flow": [*merganser, "batch", "batch.yaml", "faq"],
        }
        for _ in range(options.rounds):
            for kind, command in words.items():
                (folder / f"{kind}.jsonl").unlink(missing_ok=True)
                measured = run_measured(command, folder=folder)
                kept: dict[str, float] = httpx.get(f"{url}/kept", trust_env=False).json()
                assert kept["chats"] == options.questions, kept
                rows = [json.loads(r) for r in (folder / f"{kind}.jsonl").read_text().splitlines()]
                assert [row["outcome"] for row in rows] == ["answered"] * options.questions
                seen[kind].append({"wall": measured.wall, "cpu": measured.cpu, **kept})
    _print(seen, options)


def _write(folder: Path, questions: int, slots: int) -> None:
    (folder / "batch.yaml").write_text(CONFIG.format(slots=slots))
    (folder / "docs").mkdir()
    for number in range(200):
        text = f"# Duck {number}\n\nDuck number {number} dives {number} metres deep at noon.\n"
        (folder / "docs" / f"duck{number}.md").write_text(text)
    rows = [{"question": f"{QUESTION} {n} dive?"} for n in range(questions)]
    (folder / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def _print(seen: dict[str, list[dict[str, float]]], options: Any) -> None:
    ideal = options.questions * options.seconds / options.slots
    print(
        f"{options.questions} questions, {options.slots} slots, {options.seconds} s an answer:"
        f" at least {ideal:.1f} s; median of {options.rounds}\n"
    )
    columns = ("wall", "answering", "cpu", "kept")
    found = {
        kind: {name: statistics.median(row[name] for row in rows) for name in columns}
        for kind, rows in seen.items()
    }
    print_table(("", *columns), [(k, *(row[c] for c in columns)) for k, row in found.items()])
    ratio = {name: found["flow"][name] / found["core"][name] for name in columns}
    print(f"\nanswering x{ratio['answering']:.3f}, wall x{ratio['wall']:.3f}")
    print(f"CPU +{found['flow']['cpu'] - found['core']['cpu']:.2f} s")


if __name__ == "__main__":
    main()
