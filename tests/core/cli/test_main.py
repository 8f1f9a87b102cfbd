"""How the command line ends, whichever command it was."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, model_serializer

from merganser.cli import EXIT_FAILED, EXIT_INTERRUPTED, group, main


class Interrupted(BaseModel):
    """A model during whose serialisation somebody presses Ctrl-C."""

    @model_serializer
    def write(self) -> dict[str, Any]:
        raise KeyboardInterrupt


def test_json_is_one_document_even_for_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        main(["plan", str(tmp_path / "absent.yaml"), "--json"])

    told = capsys.readouterr()
    assert ended.value.code == EXIT_FAILED
    assert "there is no such file" in json.loads(told.out)["error"]
    assert "there is no such file" in told.err


@pytest.mark.parametrize("command", ["search", "run"])
def test_what_is_no_text_is_refused_before_a_model_gets_it(
    command: str, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit) as ended:
        main([command, "any.yaml", "caf\udcff retry"])

    assert ended.value.code == 2
    assert "is no UTF-8 text, at character 4" in capsys.readouterr().err


def test_an_interrupt_inside_a_serializer_is_an_interrupt(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def interrupted(**_: object) -> str:
        return Interrupted().model_dump_json()

    monkeypatch.setattr(group, "main", interrupted)

    with pytest.raises(SystemExit) as ended:
        main(["check", "any.yaml"])

    assert ended.value.code == EXIT_INTERRUPTED
    assert "interrupted" in capsys.readouterr().err


def test_plan_without_a_model_server_says_where_to_look_next(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "a.md").write_text("The merganser dives.\n")
    config = tmp_path / "birds.yaml"
    config.write_text(
        "rag:\n  birds:\n    docs: [a.md]\n    strategies:\n"
        "      - {type: chunked-embeddings, embedding_model: dmr/ai/embeddinggemma}\n"
    )

    with pytest.raises(SystemExit):
        main(["plan", str(config), "--base-url", "http://127.0.0.1:9"])

    told = capsys.readouterr().out
    assert "no model server answers; `merganser doctor`" in told
    assert "unknown until 'ai/embeddinggemma' is there" in told
