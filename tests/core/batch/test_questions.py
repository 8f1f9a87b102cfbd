from pathlib import Path

import duckdb
import pytest

from merganser.batch.questions import Question, read_questions
from merganser.batch.tables import read_rows
from merganser.config.flow_definition import DataTable
from merganser.errors import SpecErrors
from merganser.store.filters import Filter


def write(folder: Path, text: str, name: str = "questions.jsonl") -> DataTable:
    path = folder / name
    path.write_text(text, "utf-8")
    return DataTable(path)


def test_questions_keep_their_order_and_get_their_line_as_id(tmp_path: Path):
    path = write(
        tmp_path, '\ufeff{"question": "Why?"}\r\n\n{"id": "b", "question": "How?", "expected": 1}\n'
    )

    assert (
        Question("1", "Why?", 1),
        Question("b", "How?", 3, expected=1),
    ) == read_questions(path)


def test_every_wrong_line_is_reported_at_its_place(tmp_path: Path):
    path = write(
        tmp_path,
        '{"question": "Why?"\n'
        "[1]\n"
        '{"question": " "}\n'
        '{"question": "a", "answer": "b"}\n'
        '{"id": true, "question": "a"}\n'
        '{"id": "x", "question": "a"}\n'
        '{"id": "x", "question": "b"}\n',
    )

    with pytest.raises(SpecErrors) as caught:
        read_questions(path)

    assert [
        f"{path}:1:20: is no JSON: Expecting ',' delimiter",
        f"{path}:2:1: must be an object, got [1]",
        f"{path}:3:2: question must be a text that is not empty, got ' '",
        f"{path}:4:19: unknown key 'answer'",
        f"{path}:5:2: id must be a text or a number, got True",
        f"{path}:7:2: the id 'x' is taken by line 6",
    ] == [str(error).split("\n", 1)[0] for error in caught.value.errors]


def test_a_line_separator_inside_a_question_does_not_break_the_line(tmp_path: Path):
    path = write(tmp_path, '{"question": "one\u2028two"}\n')

    assert read_questions(path)[0].question == "one\u2028two"


@pytest.mark.parametrize("text", ["", "\n \n"])
def test_a_file_without_questions_is_an_error(tmp_path: Path, text: str):
    with pytest.raises(SpecErrors, match="holds no question"):
        read_questions(write(tmp_path, text))


def test_a_missing_file_is_an_error(tmp_path: Path):
    with pytest.raises(SpecErrors, match="cannot be read"):
        read_questions(DataTable(tmp_path / "none.jsonl"))


def test_a_file_in_another_encoding_is_an_error(tmp_path: Path):
    path = tmp_path / "latin.jsonl"
    path.write_bytes('{"question": "café"}'.encode("latin-1"))

    with pytest.raises(SpecErrors, match="UTF-8"):
        read_questions(DataTable(path))


def test_rows_cut_off_by_a_kill_are_passed_over(tmp_path: Path):
    path = tmp_path / "answers.jsonl"
    path.write_text('{"id": "1"}\n[2]\n{"id": "3", "ans')

    assert read_rows(DataTable(path)) == [{"id": "1"}]
    assert read_rows(DataTable(tmp_path / "none.jsonl")) == []


CSV = 'id,question,expected,filters,owner\na,"Why, and\nhow?",because,,ann\n'


def test_a_csv_has_questions_filters_and_columns_of_its_own(tmp_path: Path):
    table = write(tmp_path, CSV + 'b,How?,,"{""path"": ""docs/""}",bob\n', "questions.csv")

    assert (
        Question("a", "Why, and\nhow?", 3, expected="because"),
        Question("b", "How?", 4, where=Filter(paths=("docs/",))),
    ) == read_questions(table)


def test_every_wrong_row_of_a_csv_is_reported_with_its_line(tmp_path: Path):
    table = write(tmp_path, CSV + "a,How?,,\nc,,,\nd,Who?,,docs/\n", "questions.csv")

    with pytest.raises(SpecErrors) as caught:
        read_questions(table)

    assert [
        f"{table}:4:1: the id 'a' is taken by line 3",
        f"{table}:5:1: question must be a text that is not empty, got None",
        (
            f"{table}:6:1: filters must map path, language, symbol, kind to patterns, got "
            "{'': 'docs/'}"
        ),
    ] == [str(error).split("\n", 1)[0] for error in caught.value.errors]


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("text", "'text'"),
        ("Question;Expected", "'Question;Expected'"),
        ("Question,Expected", "'Question', 'Expected'"),
        (",".join(f"c{n}" for n in range(30)), "'c19' and 10 more"),
        ("x" * 5000, "'" + "x" * 79 + "…"),
    ],
)
def test_a_csv_without_the_column_is_one_error_with_its_columns(
    tmp_path: Path, header: str, found: str
):
    table = write(tmp_path, f"{header}\n" + "Why?\n" * 2000, "questions.csv")

    with pytest.raises(SpecErrors) as caught:
        read_questions(table)

    (error,) = caught.value.errors
    assert "there is no column question; the columns found are" in error.problem
    assert error.problem.endswith(found)


def test_columns_of_a_file_that_is_called_a_csv_are_not_shown(tmp_path: Path):
    (tmp_path / "secret").write_text("mallard:x:0\nWhy?\n")
    (tmp_path / "q.csv").symlink_to("secret")

    with pytest.raises(SpecErrors) as caught:
        read_questions(DataTable(tmp_path / "q.csv"))

    assert "mallard" not in str(caught.value)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_csv_is_read_as_spreadsheets_write_it(
    tmp_path: Path, separator: str, encoding: str, end: str
):
    lines = ("", "id; question".replace("; ", separator), f'a{separator}"Why, {end}and; how?"', "")
    (tmp_path / "q.csv").write_bytes(end.join(lines).encode(encoding))

    (found,) = read_questions(DataTable(tmp_path / "q.csv"))

    assert (found.id, found.question) == ("a", f"Why, {end}and; how?")


@pytest.mark.parametrize("name", ["q.csv", "q.jsonl"])
@pytest.mark.parametrize("encoding", ["cp1252", "gb18030", "shift_jis"])
def test_a_table_in_another_encoding_is_one_error(tmp_path: Path, name: str, encoding: str):
    text = "question\n" + "ö 動物?\n".encode(encoding, "replace").decode(encoding)
    (tmp_path / name).write_bytes(text.encode(encoding))

    with pytest.raises(SpecErrors) as caught:
        read_questions(DataTable(tmp_path / name))

    assert len(caught.value.errors) == 1


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"question": "a", "expected": NaN}', "NaN is no number"),
        ('{"question": "a", "expected": -Infinity}', "-Infinity is no number"),
        ('{"question": "a", "expected": ' + "1" * 5000 + "}", "too long"),
        ('{"question": "a", "expected": ' + "[" * 100_000, "nested too deeply"),
        ('{"question": "a \\ud83d b"}', "question has half a character"),
        ('{"question": "a", "id": "\\udc80"}', "id has half a character"),
        ('{"question": ["a"]}', "must be a text"),
        ('{"question": "a", "id": 1.5}', "must be a text or a number"),
        ('{"question": "a", "filters": {"path": [1]}}', "filters must map"),
        ('"' + "x" * 700_000 + '"', "must be an object"),
        ('{"question": 5, "expected": "' + "x" * 700_000 + '"}', "must be a text"),
    ],
)
def test_an_odd_value_is_one_short_error(tmp_path: Path, line: str, said: str):
    with pytest.raises(SpecErrors, match=said) as caught:
        read_questions(write(tmp_path, line + "\n"))

    assert len(caught.value.errors) == 1
    assert len(str(caught.value)) < 700


def test_a_mistake_of_every_line_is_not_repeated_without_end(tmp_path: Path):
    with pytest.raises(SpecErrors, match="2,000 lines are wrong") as caught:
        read_questions(write(tmp_path, '{"qustion": "Why?"}\n' * 2000))

    assert len(caught.value.errors) == 21


@pytest.mark.parametrize("name", ["q.parquet", "q.duckdb#faq"])
def test_parquet_and_duckdb_tables_are_read(tmp_path: Path, name: str):
    path, _, table = name.partition("#")
    rows = "FROM (VALUES (7, 'Why?', NULL), (8, 'How?', ['so', 'thus'])) t(id, question, expected)"
    with duckdb.connect(str(tmp_path / path) if table else ":memory:") as connection:
        target = (
            f"CREATE TABLE {table} AS {rows}" if table else f"COPY ({rows}) TO '{tmp_path / path}'"
        )
        connection.execute(target)

    assert (
        Question("7", "Why?", 1),
        Question("8", "How?", 2, expected=["so", "thus"]),
    ) == read_questions(DataTable(tmp_path / path, table))


def test_a_table_that_is_not_there_is_an_error_with_those_that_are(tmp_path: Path):
    with duckdb.connect(str(tmp_path / "q.duckdb")) as connection:
        connection.execute("CREATE TABLE faq (question VARCHAR)")

    with pytest.raises(SpecErrors, match="has no table 'fag'; it has faq"):
        read_questions(DataTable(tmp_path / "q.duckdb", "fag"))


def test_a_file_that_is_no_database_is_an_error_and_stays(tmp_path: Path):
    (tmp_path / "q.duckdb").write_text("not a database")

    with pytest.raises(SpecErrors, match="cannot read"):
        read_questions(DataTable(tmp_path / "q.duckdb", "faq"))

    assert (tmp_path / "q.duckdb").read_text() == "not a database"


def test_a_filter_takes_kinds_of_documents_and_no_others(tmp_path: Path):
    row = '{"question": "How?", "filters": {"kind": ["docs", "tests"]}}\n'

    (question,) = read_questions(write(tmp_path, row))

    assert question.where == Filter(kinds=("docs", "tests"))
    with pytest.raises(SpecErrors, match="there is no kind 'doc'"):
        read_questions(write(tmp_path, row.replace('"docs"', '"doc"')))
