"""CRI logs: whole lines, parts, two streams, rotation, and a disk that is full."""

import os
import re
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.sandbox.logs import LogWriter

RECORD = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z (stdout|stderr) ([FP]) (.*)")


def read(path: Path) -> list[tuple[bytes, bytes, bytes]]:
    found = []
    for line in path.read_bytes().split(b"\n")[:-1]:
        match = RECORD.fullmatch(line)
        assert match, line
        found.append((match.group(1), match.group(2), match.group(3)))
    return found


def test_lines_are_written_when_they_are_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "log"
    log = LogWriter(str(path))
    log.write("stdout", b"one\ntw")
    log.write("stderr", b"oops\n")
    assert read(path) == [(b"stdout", b"F", b"one"), (b"stderr", b"F", b"oops")]
    log.write("stdout", b"o\n\n")
    log.write("stdout", b"end")
    log.close()
    assert [text for _, _, text in read(path)] == [b"one", b"oops", b"two", b"", b"end"]


@settings(max_examples=30)
@given(st.lists(st.binary(max_size=100).map(lambda piece: piece * 400), max_size=6))
def test_parts_join_to_what_was_written(tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes]) -> None:
    path = tmp_path_factory.mktemp("log") / "log"
    log = LogWriter(str(path))
    for piece in pieces:
        log.write("stdout", piece)
    log.close()
    text = b"".join(part + (b"\n" if tag == b"F" else b"") for _, tag, part in read(path))
    whole = b"".join(pieces)
    assert text.removesuffix(b"\n") == whole.removesuffix(b"\n")
    assert all(len(part) <= 16 * 1024 for _, _, part in read(path))


def test_files_are_rotated_between_records(tmp_path: Path) -> None:
    log = LogWriter(str(tmp_path / "log"), max_bytes=500, max_files=3)
    for number in range(100):
        log.write("stdout", b"line %03d\n" % number)
    log.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "log.1", "log.2"]
    kept = [text for name in ("log.2", "log.1", "log") for _, _, text in read(tmp_path / name)]
    assert kept == [b"line %03d" % number for number in range(100 - len(kept), 100)]
    assert all(path.stat().st_size <= 500 for path in tmp_path.iterdir())


def test_one_file_is_begun_anew(tmp_path: Path) -> None:
    log = LogWriter(str(tmp_path / "log"), max_bytes=200, max_files=1)
    log.write("stdout", b"x\n" * 100)
    log.close()
    assert [path.name for path in tmp_path.iterdir()] == ["log"]
    assert (tmp_path / "log").stat().st_size <= 200


def test_an_existing_log_is_continued(tmp_path: Path) -> None:
    for text in (b"before\n", b"after\n"):
        log = LogWriter(str(tmp_path / "log"))
        log.write("stdout", text)
        log.close()
    assert [text for _, _, text in read(tmp_path / "log")] == [b"before", b"after"]


def test_a_full_disk_loses_lines_and_says_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log = LogWriter(str(tmp_path / "log"))

    def full(_fd: int, _data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    log.write("stdout", b"lost\n")
    log.write("stdout", b"lost too\n")
    monkeypatch.undo()
    log.write("stdout", b"kept\n")
    log.close()
    assert [text for _, _, text in read(tmp_path / "log")] == [b"kept"]
    assert capsys.readouterr().err.count("lines are lost") == 1


def test_a_record_of_which_half_fits_leaves_no_half_and_where_to_complain_may_be_full_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = LogWriter(str(tmp_path / "log"))
    write = os.write

    def half(fd: int, data: bytes) -> int:
        if len(data) < 20:
            raise OSError(28, "No space left on device")
        return write(fd, data[: len(data) // 2])

    class Full:
        def write(self, _text: str) -> int:
            raise OSError(28, "No space left on device")

        def flush(self) -> None:
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(os, "write", half)
        disk.setattr(sys, "stderr", Full())
        log.write("stdout", b"lost\n")
    log.write("stdout", b"kept\n")
    log.close()
    assert [text for _, _, text in read(tmp_path / "log")] == [b"kept"]
