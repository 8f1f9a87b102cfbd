from __future__ import annotations

from typing import Any

import pytest

from merganser.runner.settings import (
    FlagError,
    InvalidRequestError,
    format_keep_alive,
    parse_configure,
)


def _parse(**fields: Any) -> Any:
    return parse_configure({"model": "ai/x", **fields}, backend="llama.cpp")


def test_listed_flags_win_over_raw_ones() -> None:
    command = _parse(
        **{"runtime-flags": ["--ubatch-size", "1024"], "raw-runtime-flags": "--ubatch-size 256"}
    )

    assert command.settings.ubatch_tokens == 1024


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], 512),
        (["-ub", "2048", "-b", "2048"], 2048),
        (["--ubatch-size", "1024"], 1024),
        (["-b", "256"], 256),
        (["-ub", "4096"], 2048),
    ],
)
def test_physical_batch_never_exceeds_the_logical_one(flags: list[str], expected: int) -> None:
    assert _parse(**{"runtime-flags": flags}).settings.ubatch_tokens == expected


def test_mode_is_embedding_only_when_the_flags_say_so() -> None:
    assert _parse().mode == "completion"
    assert _parse(**{"runtime-flags": ["--embeddings"]}).mode == "embedding"
    assert _parse(mode="reranking").mode == "reranking"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--foo"], 'runtime flag "--foo" is not allowed for backend "llama.cpp"'),
        (["--chat-template", "/etc/passwd"], "paths are not allowed"),
        (["--temp=-x"], 'invalid flag "--temp=-x": value cannot start'),
        (["--seed", "-1"], 'runtime flag "-1" is not allowed'),
    ],
)
def test_flags_outside_the_list_are_refused(flags: list[str], message: str) -> None:
    with pytest.raises(FlagError, match=message):
        _parse(**{"runtime-flags": flags})


@pytest.mark.parametrize(
    "fields",
    [
        {"mode": "chat"},
        {"keep_alive": 5},
        {"keep_alive": "soon"},
        {"context-size": "8k"},
        {"runtime-flags": "--jinja"},
        {"speculative": []},
        {"model": 3},
    ],
)
def test_wrong_types_are_invalid_requests(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError):
        _parse(**fields)


@pytest.mark.parametrize(
    ("text", "seconds", "shown"),
    [
        ("5m", 300.0, "5m0s"),
        ("1h30m", 5400.0, "1h30m0s"),
        ("45s", 45.0, "45s"),
        ("0", 0.0, "0s"),
        ("-1", float("inf"), "-1"),
    ],
)
def test_keep_alive_is_a_go_duration(text: str, seconds: float, shown: str) -> None:
    assert _parse(keep_alive=text).settings.keep_alive_seconds == seconds
    assert format_keep_alive(seconds) == shown


def test_equal_settings_are_equal() -> None:
    fields: dict[str, Any] = {
        "context-size": 4096,
        "speculative": {"draft_model": "ai/y", "num_tokens": 16, "min_acceptance_rate": 0.8},
    }

    assert _parse(**fields).settings == _parse(**fields).settings
    assert _parse(**fields).settings != _parse().settings
