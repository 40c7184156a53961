"""A supervisor's table: completed, or refused with what is wrong in it."""

import json
from pathlib import Path
from typing import Any

import pytest

from headrace.sandbox import table
from headrace.sandbox.wire import Refusal

ONE: dict[str, Any] = {"name": "one", "argv": ["true"], "log": "/l/one"}


def write(path: Path, processes: list[dict[str, Any]], **more: Any) -> str:
    path.write_text(
        json.dumps({"directory": "/d", "lock": "/d/lock", "socket": "/d/s", "processes": processes, **more})
    )
    return str(path)


def test_it_is_completed(tmp_path: Path) -> None:
    read = table.read(write(tmp_path / "t", [ONE, {**ONE, "name": "two", "after": ["one"], "ready": {"file": "/f"}}]))
    assert read["unprivileged"] == {"reach": [], "own": []}
    assert read["processes"][0] == {
        **ONE,
        "env": {},
        "after": [],
        "beside": [],
        "ready": None,
        "ready_within_s": 15.0,
        "stop_within_s": 10.0,
    }
    assert read["processes"][1]["ready"] == {"file": "/f"}


@pytest.mark.parametrize(
    ("processes", "sentence"),
    [
        ([ONE, ONE], "two processes named one"),
        ([{**ONE, "after": ["one"]}], "one comes after 'one', which is not listed before it"),
        ([{**ONE, "beside": ["two"]}], "one comes beside 'two', which is not listed before it"),
        ([{**ONE, "ready": {"port": 1}}], "ready of one must name either a socket or a file"),
        ([{**ONE, "name": "a/b"}], "must not hold a slash"),
        ([{**ONE, "argv": []}], "argv must be a list"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, processes: list[dict[str, Any]], sentence: str) -> None:
    with pytest.raises(Refusal, match=sentence):
        table.read(write(tmp_path / "t", processes))


def test_files_that_are_no_table(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="cannot be read"):
        table.read(str(tmp_path / "missing"))
    (tmp_path / "t").write_text("[]")
    with pytest.raises(Refusal, match="must be an object with a list of processes"):
        table.read(str(tmp_path / "t"))
