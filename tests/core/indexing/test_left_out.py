"""What a run leaves out is told by reason, what is new of it once, and before the first run too."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from merganser.cli import main
from merganser.config.flow_definition import resolve_flows
from merganser.config.load import load_config
from merganser.config.rag_definition import resolve_rag
from merganser.errors import SourcePosition
from merganser.indexing.forecast import forecast_plans
from merganser.indexing.run import index_once
from merganser.planning.contents import Contents, describe_contents
from merganser.planning.explain import describe_work, explain_plan
from merganser.planning.plan import build_plan
from tests.core.conftest import HashEmbedder

if TYPE_CHECKING:
    from pathlib import Path

    from merganser.indexing.run_report import IndexReport
    from merganser.planning.explain import IndexWork
    from tests.core.conftest import Corpus

NOWHERE = "http://127.0.0.1:9/engines/v1"
CONFIG = """\
version: "2"
rag:
  notes:
    docs: [./notes]
    strategies:
      - type: chunked-embeddings
        embedding_model: dmr/ai/embeddinggemma
        chunking: {size: 100, overlap: 0}
"""


def news(report: IndexReport) -> tuple[str, list[str]]:
    return report.status, list(report.new_skips)


def test_what_is_left_out_is_new_once_in_runs_that_publish(corpus: Corpus):
    corpus.write("src/blob.py", "\0\1")
    corpus.write("src/more.py", "text")
    assert news(corpus.index()) == ("published", [])  # of a first run, all is

    corpus.write("src/other.py", "\0\2")
    corpus.write("src/more.py", "texts")
    assert news(corpus.index()) == ("published", ["src/other.py"])
    corpus.write("src/more.py", "text again")
    assert news(corpus.index()) == ("published", [])


def test_what_is_left_out_is_new_once_in_runs_that_publish_nothing(small: Corpus):
    small.index()
    small.write("src/blob.py", "\0\1")
    small.write("src/empty.py", "")

    assert news(small.index()) == ("unchanged", ["src/blob.py", "src/empty.py"])
    assert news(small.index()) == ("unchanged", [])
    small.write("src/empty.py", " ")  # another detail of the same reason
    assert news(small.index()) == ("unchanged", [])
    small.write("src/blob.py", "")
    assert news(small.index()) == ("unchanged", ["src/blob.py"])  # another reason


def test_thousands_of_new_ones_are_noted_at_once(small: Corpus):
    small.index()
    for number in range(3000):
        small.write(f"src/many/{number}.py", "")

    assert len(small.index().new_skips) == 3000
    assert news(small.index()) == ("unchanged", [])


def test_an_entry_of_docs_that_gives_nothing_is_told_with_its_place(small: Corpus):
    small.write("pictures/a.png", "x")
    small.write("pictures/b.png", "x")
    small.write("void/.gitkeep", "").unlink()
    at = SourcePosition(small.root / "agent.yaml", 7, 12)
    small.change(docs=("src", "pictures", "void"), docs_positions=(None, at, None))

    told = small.index().notes

    assert told == (
        f"{at}: docs: 'pictures' gives nothing: all of it is left out: 2 binary",
        "docs: 'void' gives nothing: there is no file in it",
    )
    assert small.index().notes == told  # of an unchanged run too


def forecast(root: Path, *, config: str = CONFIG) -> IndexWork:
    path = root / "notes.yaml"
    path.write_text(config, "utf-8")
    loaded = load_config(path)
    plans = [build_plan(loaded, flow) for flow in resolve_flows(loaded)]
    state = asyncio.run(forecast_plans(plans, base_url=NOWHERE))
    assert "no model server answers" in explain_plan(plans[0], state)
    return state.indexes["notes"]


def test_a_plan_without_a_model_counts_files_chunks_and_what_is_left_out(tmp_path: Path):
    notes = tmp_path / "notes"
    notes.mkdir()
    (notes / "a.py").write_text("".join(f"x{n} = {n}\n" for n in range(40)))
    (notes / "same.py").write_text("".join(f"x{n} = {n}\n" for n in range(40)))
    (notes / "blob.txt").write_bytes(b"\0\1\2")
    (notes / "logo.png").write_bytes(b"x")

    work = forecast(tmp_path)

    assert (work.problem, work.added) == (None, ("notes/a.py", "notes/same.py"))
    assert work.chunks == 2 * (work.texts_to_embed or 0) > 0
    assert {(one.path, one.reason) for one in work.skipped_files} == {
        ("notes/blob.txt", "binary"),
        ("notes/logo.png", "binary"),
    }
    assert work.contents.languages == {"python": 2}


@pytest.mark.parametrize("entry", ["./gone", "./notes/**/*.rst", "./gone/*.md"])
def test_a_plan_of_docs_that_name_nothing_ends_with_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], entry: str
):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes.yaml").write_text(CONFIG.replace("./notes", f'"{entry}"'), "utf-8")

    with pytest.raises(SystemExit) as ended:
        main(["plan", str(tmp_path / "notes.yaml"), "--base-url", NOWHERE, "--json"])

    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert ended.value.code == 1
    assert "notes.yaml:4:12: " in told["plans"][0]["indexes"]["notes"]["problem"]


def test_a_run_and_a_plan_count_what_the_files_are_and_name_replaced_secrets(corpus: Corpus):
    corpus.write("src/a.py", "x = 1\n")
    token = "ghp_" + "aB3dE5gH" * 4 + "kLmN"
    corpus.write("src/b.py", f"y = 2\ntoken = {token!r}\n")
    corpus.write("src/c.md", "").write_bytes("Überall Vögel.\n".encode("utf-16"))

    contents = corpus.index().contents

    assert contents.languages == {"python": 2, "markdown": 1}
    assert sum(contents.kinds.values()) == 3
    assert contents.encodings["utf-8"] == 2
    assert [(path, line) for path, line, _ in contents.redactions] == [("src/b.py", 2)]
    told = list(describe_contents(contents))
    assert "languages: 2 python, 1 markdown" in told
    assert any(line.startswith("  src/b.py:2 (") for line in told)
    assert any(line.startswith("encodings: 2 utf-8, 1 utf-16") for line in told)


def test_files_that_were_read_otherwise_are_named():
    contents = Contents(remarks=tuple((f"{n}.go", "cut as text") for n in range(7)))

    assert list(describe_contents(contents)) == [
        "read otherwise: 7 files",
        *(f"  {n}.go (cut as text)" for n in range(5)),
        "  and 2 more",
    ]


def test_a_plan_without_a_model_takes_it_for_the_one_of_the_snapshot(tmp_path: Path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.py").write_text("".join(f"x{n} = {n}\n" for n in range(40)))
    (tmp_path / "notes.yaml").write_text(CONFIG, "utf-8")
    (index,) = resolve_rag(load_config(tmp_path / "notes.yaml"), "notes").indexes
    index_once(index, HashEmbedder())

    work = forecast(tmp_path)
    assert (work.has_work, work.texts_to_embed, work.served) == (False, 0, 1)
    (note,) = work.notes
    assert note.endswith("does not answer: counted as if it were the model of the served snapshot")

    work = forecast(tmp_path, config=CONFIG.replace("size: 100", "size: 80"))
    assert work.reasons == ("the chunking changed",)
    assert work.texts_to_embed == work.chunks
    assert "snapshot 1 is served until that is done" in list(describe_work(work))
