"""How the command line ends, whichever command it was."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

import pytest
from pydantic import BaseModel, model_serializer

from merganser.cli import EXIT_FAILED, group, main


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
def test_a_text_that_begins_like_an_option_is_told_how_to_be_given(
    command: str, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit) as ended:
        main([command, "any.yaml", "--no-verify"])

    assert ended.value.code == 2
    assert "goes after --" in capsys.readouterr().err


def test_a_query_may_be_the_name_of_an_option(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        main(["search", str(tmp_path / "absent.yaml"), "--", "--debug"])

    assert ended.value.code == EXIT_FAILED  # with a traceback, had it been taken for the option
    assert "there is no such file" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["search", "run"])
def test_what_is_no_text_is_refused_before_a_model_gets_it(
    command: str, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit) as ended:
        main([command, "any.yaml", "caf\udcff retry"])

    assert ended.value.code == 2
    assert "is no UTF-8 text, at character 4" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "code", "said"),
    [
        (b"pump failed\n" * 60_000, 1, "the question is too long"),
        (b"caf\xe9 retry", 2, "no UTF-8 text, at byte 4"),
        (b"\xef\xbb\xbf \n", 1, "the question is empty"),
    ],
)
def test_what_is_piped_in_is_judged_before_anything_starts(
    given: bytes,
    code: int,
    said: str,
    *,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(given)))

    with pytest.raises(SystemExit) as ended:
        main(["run", "absent.yaml", "-"])

    told = capsys.readouterr().err
    assert ended.value.code == code
    assert said in told
    assert len(told) < 500


def test_an_interrupt_inside_a_serializer_is_an_interrupt(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def interrupted(**_: object) -> str:
        return Interrupted().model_dump_json()

    monkeypatch.setattr(group, "main", interrupted)

    with pytest.raises(SystemExit) as ended:
        main(["check", "any.yaml"])

    assert ended.value.code == 130
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

    with pytest.raises(SystemExit) as ended:
        main(["plan", str(config), "--base-url", "http://127.0.0.1:9"])

    told = capsys.readouterr().out
    assert ended.value.code == 0
    assert "no model server answers; `merganser doctor`" in told
    assert "21 bytes to read: 1 chunks, 1 to embed" in told


def run(
    *words: str, cwd: Path, stdout: IO[str] | int = subprocess.PIPE, **env: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "merganser", *words],
        cwd=cwd,
        env={**os.environ, **env},
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is full")
@pytest.mark.parametrize("words", [["check", "birds.yaml"], ["check", "birds.yaml", "--json"]])
def test_output_that_cannot_be_written_is_an_error_in_a_line(words: list[str], tmp_path: Path):
    (tmp_path / "birds.yaml").write_text("agents:\n  root: {model: dmr/ai/qwen3}\n")

    with Path("/dev/full").open("w") as full:
        done = run(*words, cwd=tmp_path, stdout=full)

    assert done.returncode == EXIT_FAILED
    assert done.stderr.splitlines() == [
        (
            "error: what this command prints, or a file of it, cannot be written: "
            "No space left on device"
        )
    ]


def test_a_folder_that_was_removed_is_named_as_such(tmp_path: Path):
    (tmp_path / "birds.yaml").write_text("agents:\n  root: {model: dmr/ai/qwen3}\n")
    gone = tmp_path / "gone"
    gone.mkdir()
    program = (
        "import os; os.rmdir(os.getcwd()); from merganser.cli import main; "
        f"main(['check', {str(tmp_path / 'birds.yaml')!r}])"
    )

    done = subprocess.run(
        [sys.executable, "-P", "-c", program],
        cwd=gone,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode == EXIT_FAILED
    assert done.stderr.splitlines() == [
        "error: the folder that this command runs in was removed: change to one that exists"
    ]


def test_a_home_that_cannot_be_written_is_named_with_the_way_out(tmp_path: Path):
    (tmp_path / "file").touch()
    home = tmp_path / "file" / "home"

    done = run("server", cwd=tmp_path, MERGANSER_HOME=str(home))

    assert done.returncode == EXIT_FAILED
    assert done.stderr.splitlines() == [
        (
            f"error: the prefect server keeps its state in {home}, which cannot be written "
            "(Not a directory): set MERGANSER_HOME to a folder that can"
        )
    ]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PermissionError(13, "Permission denied", "/srv/a.yaml"), "Permission denied: '/srv/a"),
        (MemoryError(), "not enough memory"),
        (TimeoutError(), "TimeoutError"),
    ],
)
def test_what_the_machine_refuses_ends_in_a_line(
    error: Exception, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def refused(**_: object) -> None:
        raise error

    monkeypatch.setattr(group, "main", refused)

    with pytest.raises(SystemExit) as ended:
        main(["check", "any.yaml"])
    with pytest.raises(type(error)):
        main(["check", "any.yaml", "--debug"])

    told = capsys.readouterr().err
    assert ended.value.code == EXIT_FAILED
    assert told.startswith("error: ")
    assert said in told
