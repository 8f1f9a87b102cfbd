"""YAML to values and positions."""

from __future__ import annotations

import json
import re
import string
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from merganser.config.yaml_source import (
    MAX_BYTES,
    Positions,
    parse_source,
    read_source,
    resolve_scalar,
)
from merganser.errors import SpecErrors

if TYPE_CHECKING:
    from collections.abc import Iterator

PATH = Path("file.yaml")

# Raw control characters are no YAML, and JSON escapes only some of them.
TEXTS = st.text(st.characters(exclude_categories=["C", "Z"]) | st.just(" "), max_size=20)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS
)
KEYS = st.text(string.ascii_letters + string.punctuation, min_size=1, max_size=8).filter(
    lambda key: key != "<<"
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=20,
)


def parse(text: str) -> Any:
    return parse_source(text, PATH).value


def problem_of(text: str) -> str:
    with pytest.raises(SpecErrors) as caught:
        parse_source(text, PATH)
    return str(caught.value.errors[0])


@given(VALUES)
def test_json_is_read_as_itself(value: Any):
    assert value == parse(json.dumps(value, ensure_ascii=False))


class Yaml12Dumper(yaml.SafeDumper):
    """Quotes words that YAML 1.2 reads as numbers, such as 0E0, and YAML 1.1 does not."""


Yaml12Dumper.add_implicit_resolver(  # pyright: ignore[reportUnknownMemberType]
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$"),
    list("-+.0123456789"),
)


@given(VALUES)
@example({"0E0": ["1e5", ".5e1"]})
def test_dumped_yaml_is_read_as_itself(value: Any):
    text = yaml.dump(value, Dumper=Yaml12Dumper, allow_unicode=True)

    assert value == parse(text)


@given(VALUES)
def test_every_position_lies_inside_the_text(value: Any):
    text = yaml.safe_dump(value, allow_unicode=True)

    source = parse_source(text, PATH)

    for node in walk(source.positions):
        for position in (node.value, node.key or node.value):
            assert 1 <= position.line <= len(source.lines)
            assert 1 <= position.column <= len(source.lines[position.line - 1]) + 1


def walk(node: Positions) -> Iterator[Positions]:
    yield node
    for child in node.children.values():
        yield from walk(child)


@given(st.text(alphabet="ab:-*&{}[]'\"#|>!%@`?,<~ \t\n\r\x85\u2028\x00\ufeff0", max_size=40))
def test_any_text_gives_a_value_or_positioned_errors(text: str):
    try:
        parse_source(text, PATH)
    except SpecErrors as errors:
        assert all(error.position for error in errors.errors)  # noqa: PT017 - either outcome is right


@given(st.binary(max_size=30))
def test_any_bytes_give_a_value_or_positioned_errors(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
):
    path = tmp_path_factory.mktemp("bytes") / "file.yaml"
    path.write_bytes(data)

    try:
        read_source(path)
    except SpecErrors as errors:
        assert all(error.position for error in errors.errors)  # noqa: PT017 - either outcome is right


def test_positions_are_those_of_keys_and_values():
    source = parse_source("a:\n  - b: 1\n    cé: [x, 'y']\n", PATH)

    node, found = source.positions.find(("a", 0, "cé", 1))

    assert found
    assert str(node.value) == "file.yaml:3:13"
    assert str(source.positions.find(("a", 0, "cé"))[0].key) == "file.yaml:3:5"


def test_a_missing_location_gives_its_nearest_ancestor():
    source = parse_source("a:\n  b: {c: 1}\n", PATH)

    node, found = source.positions.find(("a", "b", "x", 3))

    assert not found
    assert str(node.value) == "file.yaml:2:6"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", "yes"),
        ("on", "on"),
        ("No", "No"),
        ("12:30", "12:30"),
        ("2026-11-23", "2026-11-23"),
        ("1_000", "1_000"),
        ("0755", 755),
        ("0o17", 15),
        ("0x1F", 31),
        ("+5", 5),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("-.INF", float("-inf")),
        ("TRUE", True),
        ("~", None),
        ("", None),
        ("9" * 5000, "9" * 5000),
    ],
)
def test_scalars_follow_the_core_schema_of_yaml_1_2(text: str, value: object):
    resolved = resolve_scalar(text)

    assert value == resolved
    assert type(value) is type(resolved)


def test_quoted_scalars_are_text():
    assert parse("{a: '1', b: \"true\", c: !!str ~}") == {"a": "1", "b": "true", "c": "~"}


def test_keys_are_text():
    assert parse("1: 2\ntrue: 3") == {"1": 2, "true": 3}


def test_aliases_give_equal_values_and_stand_where_they_are_used():
    source = parse_source("a: &x {b: 1}\nc: *x\n", PATH)

    assert source.value["a"] == source.value["c"]
    assert source.value["a"] is not source.value["c"]
    assert str(source.positions.find(("c",))[0].value) == "file.yaml:2:4"
    assert str(source.positions.find(("c", "b"))[0].value) == "file.yaml:1:11"


def test_merge_keys_give_way_to_written_and_to_earlier_ones():
    text = "a: &a {x: 1, y: 1}\nb: &b {y: 2, z: 2}\nc: {<<: [*a, *b], z: 3}\n"

    assert parse(text)["c"] == {"x": 1, "y": 1, "z": 3}


def test_a_quoted_merge_key_is_a_plain_key():
    assert parse("'<<': {a: 1}") == {"<<": {"a": 1}}


def test_alias_bombs_are_refused_quickly():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]

    assert "more than 50,000 values once aliases are expanded" in problem_of("\n".join(lines))


def test_an_alias_inside_its_own_anchor_is_refused():
    assert "the alias *x stands inside its own anchor" in problem_of("a: &x [*x]")


@pytest.mark.parametrize("text", ["[" * 100_000, "- " * 100_000 + "x", "{a: " * 5000])
def test_deep_nesting_is_refused(text: str):
    assert "nested deeper than 64 levels" in problem_of(text)


def test_a_second_document_is_refused():
    assert "file.yaml:2:1: a second YAML document begins here" in problem_of("a: 1\n---\nb: 2")


@pytest.mark.parametrize("text", ["!!python/object:x {}", "!custom 1", "!!binary aGk=", "!!set {}"])
def test_other_tags_are_refused(text: str):
    assert "is not supported" in problem_of(text)


def test_all_repeated_keys_are_reported_at_once():
    with pytest.raises(SpecErrors) as caught:
        parse_source("a: 1\na: 2\nb: {c: 1, c: 2}\n", PATH)

    assert [str(e.position) for e in caught.value.errors] == ["file.yaml:2:1", "file.yaml:3:11"]


def test_a_control_character_is_reported_where_it_stands():
    assert "file.yaml:2:4: not valid YAML: the character U+0001" in problem_of("a: 1\nb: \x01")


def test_a_byte_order_mark_is_skipped(tmp_path: Path):
    path = tmp_path / "file.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\r\nb: 2\r\n")

    source = read_source(path)

    assert source.value == {"a": 1, "b": 2}
    assert f"{path}:2:1" == str(source.positions.children["b"].key)


@pytest.mark.parametrize(
    ("name", "problem"),
    [("none.yaml", "there is no such file"), (".", "is a directory, not a file")],
)
def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path, name: str, problem: str):
    with pytest.raises(SpecErrors, match=problem):
        read_source(tmp_path / name)


def test_a_huge_file_is_refused(tmp_path: Path):
    path = tmp_path / "huge.yaml"
    path.write_bytes(b"#" * (MAX_BYTES + 1))

    with pytest.raises(SpecErrors, match="larger than 4 MiB"):
        read_source(path)
