from pathlib import Path

import pytest

from merganser.agent.questions import Question, read_questions, read_rows
from merganser.errors import SpecErrors


def write(folder: Path, text: str) -> Path:
    path = folder / "questions.jsonl"
    path.write_text(text, "utf-8")
    return path


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
        read_questions(tmp_path / "none.jsonl")


def test_a_file_in_another_encoding_is_an_error(tmp_path: Path):
    path = tmp_path / "latin.jsonl"
    path.write_bytes('{"question": "café"}'.encode("latin-1"))

    with pytest.raises(SpecErrors, match="UTF-8"):
        read_questions(path)


def test_rows_cut_off_by_a_kill_are_passed_over(tmp_path: Path):
    path = tmp_path / "answers.jsonl"
    path.write_text('{"id": "1"}\n[2]\n{"id": "3", "ans')

    assert list(read_rows(path)) == [{"id": "1"}]
    assert list(read_rows(tmp_path / "none.jsonl")) == []
