"""Flags of the engine: every spelling that people use, in the words that a server takes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merganser.models.runtime_flags import ALLOWED, find_refused, reason_in, translate, words_of

LOAD_FAILED = (
    "http://x answered 500: unable to load runner: error waiting for runner to be ready: llama.cpp "
    "terminated unexpectedly: llama.cpp failed: warning: no usable GPU found\n"
)


@pytest.mark.parametrize(
    ("items", "words"),
    [
        (("--ngl=33", "--threads=8"), ("-ngl", "33", "--threads", "8")),
        (("--n_gpu_layers", "33"), ("--n-gpu-layers", "33")),
        (("-threads 8 --ub=64",), ("--threads", "8", "-ub", "64")),
        (("--threads = 8",), ("--threads", "8")),
        (("-t", "8", "-C", "0xff"), ("-t", "8", "-C", "0xff")),
        (("--top-n-sigma=2", "--typical-p", "1"), ("--top-nsigma", "2", "--typical", "1")),
        (("--mlock=true", "--mmap=false", "--jinja", "on"), ("--mlock", "--no-mmap", "--jinja")),
        (
            ('--chat-template-kwargs={"enable_thinking": false, "a": "b=c"}',),
            ("--chat-template-kwargs", '{"enable_thinking": false, "a": "b=c"}'),
        ),
        (("--control-vector-layer-range", "1", "2"), ("--control-vector-layer-range", "1", "2")),
    ],
)
def test_every_spelling_becomes_the_words_that_server_and_engine_take(
    items: tuple[str, ...], words: tuple[str, ...]
):
    assert words_of(items) == words
    assert not [flag.problem for flag in translate(items) if flag.problem]


@pytest.mark.parametrize(
    ("items", "problem"),
    [
        (("--thread", "3"), "did you mean '--threads'?"),
        (("--model", "x"), "not among the flags"),
        (("--seed=-1",), "negative value"),
        (("--seed", "-1"), "negative value"),
        (("--grammar", "a/b"), "holds a path"),
        (("--threads", "8", "9"), "follows no flag"),
        (("8",), "follows no flag"),
        (("--mlock=maybe",), "takes no value"),
        (("--seed=--log-file",), "not among the flags"),
    ],
)
def test_what_the_server_will_refuse_is_known_without_it(items: tuple[str, ...], problem: str):
    assert problem in translate(items)[-1].problem


def test_each_flag_knows_where_it_was_written():
    flags = translate(("-np", "2", "--threads=8", "--ngl 3 -fa on"))

    assert [(flag.first, flag.written, flag.is_translated) for flag in flags] == [
        (0, ("-np", "2"), False),
        (2, ("--threads=8",), True),
        (3, ("--ngl 3 -fa on",), True),
        (3, ("--ngl 3 -fa on",), True),
    ]


_ITEMS = st.lists(
    st.one_of(
        st.sampled_from(sorted(ALLOWED)),
        st.text('-=_ ab1/"{}', max_size=9),
        st.builds("{}={}".format, st.sampled_from(sorted(ALLOWED)), st.text("-=ab1 ", max_size=5)),
    ),
    max_size=6,
)


@given(_ITEMS)
def test_translating_twice_changes_nothing(items: list[str]):
    words = words_of(items)

    assert words_of(words) == words


@given(_ITEMS)
def test_no_allowed_flag_keeps_its_value_in_its_own_word(items: list[str]):
    for flag in translate(items):
        if not flag.problem:
            assert flag.words[0] in ALLOWED
            assert not any(word.startswith("-") for word in flag.words[1:])


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ('runtime flag "--foo" is not allowed for backend "llama.cpp"', ["--foo"]),
        ('runtime flag "-1" is not allowed for backend "llama.cpp"', ["--seed"]),
        ('invalid runtime flag "a/b": paths are not allowed', ["--grammar"]),
        ('invalid flag "--x=-l": value cannot start', ["--x=-l"]),
        (LOAD_FAILED + 'error while handling argument "--threads": stoi\n\nusage:', ["--threads"]),
        (LOAD_FAILED + "error: invalid argument: 8; `docker model logs` has it", ["8"]),
        (LOAD_FAILED + "error: invalid argument: --fooo", []),
        ("failed to load model --threads 8", []),
    ],
)
def test_an_error_names_the_flag_that_it_is_about(said: str, expected: list[str]):
    flags = translate(
        ("--foo", "1", "--seed=-1", "--grammar", "a/b", "--x=-l", "--threads=8", "--mlock", "8")
    )

    assert [flag.words[0] for flag in find_refused(flags, said)] == expected


def test_the_reason_is_one_line_of_the_error():
    said = LOAD_FAILED + 'error while handling argument "-t": stoi\n\nusage:\n-t N'

    assert reason_in(said) == 'error while handling argument "-t": stoi'
