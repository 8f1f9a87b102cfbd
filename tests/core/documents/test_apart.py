"""What a process that reads files may cost: time, memory and itself, never the run."""

from __future__ import annotations

import os
import signal
import threading
import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from merganser.documents import apart, pdf_text
from merganser.documents.apart import ReaderProcess
from merganser.errors import SkipDocument
from tests.core.documents.test_pdf import make_pdf

if TYPE_CHECKING:
    from collections.abc import Iterator

READER = """
import os, socket, sys, time
from merganser.documents import apart
from merganser.documents.extracted import Extracted
from merganser.errors import SkipDocument

apart.CPU_SECONDS = 1
apart._IDLE_SECONDS = 1.0
files = 0

def read(data):
    global files
    files += 1
    match data.split():
        case [b"spin"]:
            while True: pass
        case [b"wait"]:
            time.sleep(3600)
        case [b"eat"]:
            bytearray(3 << 30)
        case [b"crash"]:
            os.abort()
        case [b"crash-used"] if files > 1:
            os.abort()
        case [b"leave"]:
            os._exit(3)
        case [b"recurse"]:
            read(data)
        case [b"skip"]:
            raise SkipDocument("empty", "nothing in it")
        case [b"chatter"]:
            print("noise" * 10_000, flush=True)
            os.write(2, b"noise")
        case [b"fetch"]:
            socket.create_connection(("127.0.0.1", 9))
        case [b"run"]:
            os.system("true")
        case [b"write"]:
            with open(__file__ + ".out", "w") as file: file.write("x" * 100)
    return Extracted(f"{os.getpid()} {files}")
"""


class Reader:
    """The odd reader below, with what it answers: its process and how many files that had."""

    def __init__(self) -> None:
        self._process = ReaderProcess()
        self.close = self._process.close

    def read(self, data: bytes) -> list[str]:
        return self._process.read("odd_reader:read", data).text.split()


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reader]:
    (tmp_path / "odd_reader.py").write_text(READER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    process = Reader()
    yield process
    process.close()


@pytest.mark.parametrize(
    ("file", "why"),
    [
        (b"spin", "took longer than"),
        (b"eat", "MemoryError"),
        (b"crash", "broke (SIGABRT; it may take 1,024 MB)"),
        (b"leave", "broke (exit code 3;"),
        (b"recurse", "RecursionError"),
        (b"fetch", "may not do socket."),
        (b"run", "may not do os.system"),
        (b"write", "File too large"),
    ],
)
def test_a_file_that_harms_its_reader_fails_alone(reader: Reader, file: bytes, why: str):
    with pytest.raises(SkipDocument) as failed:
        reader.read(file)

    assert failed.value.reason == "unreadable"
    assert why in failed.value.detail
    assert len(reader.read(b"next")) == 2


def test_a_reader_that_waits_is_ended_by_the_clock(reader: Reader, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(apart, "WALL_SECONDS", 0.5)

    with pytest.raises(SkipDocument, match="took longer"):
        reader.read(b"wait")


def test_the_process_is_kept_for_the_next_files(reader: Reader):
    first = reader.read(b"a")

    with pytest.raises(SkipDocument, match="nothing in it"):
        reader.read(b"skip")
    assert reader.read(b"chatter") == [first[0], "3"]
    assert int(first[0]) != os.getpid()


def test_what_files_before_did_to_the_process_is_no_fault_of_the_next(reader: Reader):
    reader.read(b"a")

    assert reader.read(b"crash-used")[1] == "1"


def test_a_process_that_went_is_started_again(reader: Reader):
    first, _ = reader.read(b"a")
    os.kill(int(first), signal.SIGKILL)

    assert reader.read(b"b" * 1_000_000)[0] != first


def test_an_answer_that_nobody_took_is_not_that_of_the_next_file(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
):
    def fail(*_: object) -> None:
        raise MemoryError

    first, _ = reader.read(b"a")
    with monkeypatch.context() as patch:
        patch.setattr(apart, "_receive", fail)
        with pytest.raises(MemoryError):
            reader.read(b"b")

    pid, files = reader.read(b"c")
    assert (pid != first, files) == (True, "1")


def test_a_process_that_nobody_asks_ends(reader: Reader):
    first, _ = reader.read(b"a")

    while _is_running(int(first)):
        time.sleep(0.1)
    assert reader.read(b"b")[1] == "1"


def _is_running(pid: int) -> bool:
    """Tell whether our child lives; one that ended stays listed until it is waited for."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def test_threads_take_turns(reader: Reader):
    found: list[str] = []
    threads = [
        threading.Thread(target=lambda: found.append(reader.read(b"x" * 300_000)[1]))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(found, key=int) == [str(number) for number in range(1, 9)]


@pytest.mark.slow
def test_a_page_that_unpacks_to_gigabytes_costs_that_file():
    bomb = zlib.compress(b"BT /F1 12 Tf (a) Tj ET\n" * 40_000_000, 9)
    plain = make_pdf([["Ducks"]])
    start = plain.index(b"5 0 obj\n") + len(b"5 0 obj\n")
    end = plain.index(b"endobj", start)
    header = f"<< /Length {len(bomb)} /Filter /FlateDecode >>\nstream\n".encode()
    file = plain[:start] + header + bomb + b"\nendstream\n" + plain[end:]

    with pytest.raises(SkipDocument) as failed:
        pdf_text.read_pdf(file)

    assert failed.value.reason in {"unreadable", "too large", "empty"}
    assert pdf_text.read_pdf(plain).text == "Ducks\n"


def test_a_file_with_too_much_text_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pdf_text, "MAX_CHARACTERS", 100)

    with pytest.raises(SkipDocument, match="more than 100 characters"):
        pdf_text.read_pages(make_pdf([["Ducks dive."]] * 20))
