from __future__ import annotations

import pytest

from merganser.errors import (
    InputTooLongError,
    ModelNotFoundError,
    RequestRejectedError,
    RunnerUnavailableError,
    TransientError,
)
from merganser.models.server_errors import ToolTemplateError, error_for, read_message

URL = "http://h:1/engines/v1/embeddings"


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("model not found\n", "model not found"),
        ('{"error":{"code":500,"message":"boom","type":"server_error"}}', "boom"),
        ('{"error":"boom"}', "boom"),
        ('{"type":"error","code":null,"message":"boom","param":null}', "boom"),
        ('{"detail":"Not Found"}', "Not Found"),
        ("[1]", "[1]"),
        ("", ""),
    ],
)
def test_both_dialects_of_errors_are_read(body: str, text: str):
    assert text == read_message(body).text


@pytest.mark.parametrize(
    ("status", "body", "tokens", "limit"),
    [
        (
            500,
            (
                "input (602 tokens) is too large to process. increase the physical batch size "
                "(current batch size: 512)"
            ),
            602,
            512,
        ),
        (500, "input is too large to process. increase the physical batch size", None, None),
        (
            400,
            "input (1682 tokens) is larger than the max context size (1024 tokens). skipping",
            1682,
            1024,
        ),
        (
            400,
            (
                '{"error":{"code":400,"message":"request (602 tokens) exceeds the available '
                'context size (512 tokens), try increasing it","type":"exceed_context_size_error",'
                '"n_prompt_tokens":602,"n_ctx":512}}'
            ),
            602,
            512,
        ),
        (
            400,
            (
                '{"error":{"code":400,"message":"too long","type":"exceed_context_size_error",'
                '"n_prompt_tokens":9,"n_ctx":4}}'
            ),
            9,
            4,
        ),
        (400, "request too large\n", None, None),
    ],
)
def test_an_input_that_is_too_long_is_told_with_its_numbers(
    status: int, body: str, tokens: int | None, limit: int | None
):
    error = error_for(status, read_message(body), url=URL)

    assert isinstance(error, InputTooLongError)
    assert not isinstance(error, TransientError)
    assert (tokens, limit) == (error.tokens, error.limit)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (429, "slow down"),
        (502, ""),
        (503, "backend installer not started"),
        (504, ""),
        (500, "unable to load runner: context canceled"),
        (500, "unable to load runner: backend loading disabled"),
        (
            500,
            (
                "unable to load runner: error waiting for runner to be ready: inference backend "
                "took too long to initialize"
            ),
        ),
        (500, '{"type":"error","message":"llama.cpp terminated unexpectedly: x"}'),
    ],
)
def test_what_may_vanish_by_itself_is_transient(status: int, body: str):
    error = error_for(status, read_message(body), url=URL)

    assert isinstance(error, RunnerUnavailableError)


@pytest.mark.parametrize(
    ("status", "body", "hint"),
    [
        (500, 'runtime flag "--foo" is not allowed for backend "llama.cpp"', "--foo"),
        (
            500,
            (
                "unable to load runner: error waiting for runner to be ready: llama.cpp terminated "
                "unexpectedly: llama.cpp failed: x"
            ),
            "docker model logs",
        ),
        (
            500,
            "unable to load runner: not enough GPU memory to load the model (CUDA)",
            "docker model unload",
        ),
        (400, "Pooling type 'none' is not OAI compatible. Please use another", "--pooling"),
        (401, "no", "token_key"),
        (412, 'backend "vllm" is not installed; run: docker model install-runner', "install"),
        (500, "", "(empty answer)"),
    ],
)
def test_every_other_500_is_final_and_says_what_to_do(status: int, body: str, hint: str):
    error = error_for(status, read_message(body), url=URL)

    assert type(error) is RequestRejectedError
    assert hint in str(error)


def test_a_missing_model_names_the_command_that_pulls_it():
    body = "error while getting model: get model '\"ai/foo\"': model not found\n"

    error = error_for(404, read_message(body), url=URL, model="foo")

    assert isinstance(error, ModelNotFoundError)
    assert "`docker model pull ai/foo`" in str(error)


def test_another_404_is_no_missing_model():
    error = error_for(404, read_message("backend not found\n"), url=URL, model="foo")

    assert isinstance(error, RequestRejectedError)


def test_a_template_that_cannot_render_tools_is_told_apart():
    error = error_for(500, read_message("Jinja: Value is not callable"), url=URL, model="m")

    assert isinstance(error, ToolTemplateError)


@pytest.mark.parametrize(
    ("header", "lowest", "highest"),
    [("7", 7, 7), ("Wed, 21 Oct 2015 07:28:00 GMT", 0, 0), ("0.5", 0.5, 0.5)],
)
def test_retry_after_is_read_in_both_of_its_forms(header: str, lowest: float, highest: float):
    error = error_for(503, read_message(""), url=URL, retry_after=header)

    assert isinstance(error, TransientError)
    assert error.retry_after_seconds is not None
    assert lowest <= error.retry_after_seconds <= highest


def test_a_retry_after_that_is_no_time_is_ignored():
    error = error_for(503, read_message(""), url=URL, retry_after="soon")

    assert isinstance(error, TransientError)
    assert error.retry_after_seconds is None
