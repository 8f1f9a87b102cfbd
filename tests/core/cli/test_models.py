"""``merganser models`` against the embedded runner: a real store, real pulls, real removals."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

from merganser.cli import EXIT_DEGRADED, EXIT_FAILED, main

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.doubles import FaultyRunner
    from tests.doubles.model_server import Double

Models: TypeAlias = "Callable[..., tuple[int, str, str]]"


@pytest.fixture
def models(capsys: pytest.CaptureFixture[str]) -> Models:
    """Return a function that runs ``merganser models WORDS`` at a server: code, stdout, stderr."""

    def run(*words: str, at: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(["models", *words, "--base-url", at])
        told = capsys.readouterr()
        return int(ended.value.code or 0), told.out, told.err

    return run


def test_a_model_is_pulled_with_progress_listed_and_removed(
    models: Models, make_runner: Callable[..., FaultyRunner]
):
    at = make_runner().url

    code, out, err = models("pull", "ai/all-minilm", at=at)
    assert (code, "pulled ai/all-minilm: " in out) == (0, True)
    assert "downloading ai/all-minilm: 91.3 MB of 91.3 MB" in err

    (listed,) = json.loads(models("list", "--json", at=at)[1])
    assert listed["tags"] == ["docker.io/ai/all-minilm:latest"]
    assert listed["size"].endswith("MiB")
    assert listed["id"][7:19] in models("list", at=at)[1]

    (removed,) = json.loads(models("rm", "ai/all-minilm", "--json", at=at)[1])
    assert removed["deleted"] == [listed["id"]]
    assert json.loads(models("list", "--json", at=at)[1]) == []


def test_one_model_that_fails_does_not_stop_the_others(
    models: Models, make_runner: Callable[..., FaultyRunner]
):
    at = make_runner(pulled=["ai/all-minilm"]).url

    code, out, err = models("rm", "ai/no-such-model", "ai/all-minilm", "--json", at=at)

    missing, removed = json.loads(out)
    assert code == EXIT_DEGRADED
    assert "is not local" in missing["error"]
    assert missing["error"] in err
    assert removed["untagged"] == ["docker.io/ai/all-minilm:latest"]


def test_an_id_with_two_names_needs_force(models: Models, make_runner: Callable[..., FaultyRunner]):
    at = make_runner(pulled=["ai/all-minilm", "ai/embeddinggemma"]).url
    (listed,) = json.loads(models("list", "--json", at=at)[1])

    code, _, err = models("rm", listed["id"], at=at)
    assert (code, "or with --force" in err) == (EXIT_FAILED, True)

    (removed,) = json.loads(models("rm", listed["id"], "--force", "--json", at=at)[1])
    assert removed["deleted"] == [listed["id"]]
    assert len(removed["untagged"]) == 2


def test_a_bare_name_removes_no_other_organisations_model(models: Models, double: Double):
    double.add_model("other/qwen3")

    code, _, err = models("rm", "qwen3", at=double.url)

    assert (code, "is not local" in err) == (EXIT_FAILED, True)
    assert [seen for seen in double.seen if seen.method == "DELETE"] == []


def test_status_shows_engines_and_what_runs(models: Models, double: Double):
    double.engines = [{"backend_name": "llama.cpp", "model_name": "ai/qwen3", "mode": "completion"}]

    state: dict[str, Any] = json.loads(models("status", "--json", at=double.url)[1])
    shown = models("status", at=double.url)[1]

    assert (state["version"], state["disk"]["models_bytes"]) == ("v1.2.6", 1000)
    assert state["running"][0]["model"] == "ai/qwen3"
    assert "ai/qwen3 for completion: idle" in shown


def test_a_server_of_another_kind_says_that_it_pulls_nothing(models: Models, double: Double):
    double.managed = False

    code, out, _ = models("pull", "ai/qwen3", "--json", at=double.url)

    assert code == EXIT_FAILED
    assert "cannot pull models" in json.loads(out)["error"]
