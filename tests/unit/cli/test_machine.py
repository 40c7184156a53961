"""`up down status doctor`: what they print and how they end; what they do is tested where it is done."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from headrace.errors import Conflict
from headrace.roles import doctor, up

from .conftest import Terminal

STARTED = {
    "server": "https://127.0.0.1:6443",
    "kubeconfig": "/home/me/kubeconfig",
    "home": "/home/me",
    "pools": ["own", "cloud"],
    "seconds": 1.44,
    "warnings": ["Data is copied instead of mounted."],
}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path))
    return tmp_path


def test_up_says_where_it_is_and_what_to_try(headrace: Terminal, monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    asked: dict[str, Any] = {}

    def start(place: Any, **options: Any) -> Any:
        asked.update(options, root=place.root)
        options["progress"]("starting …")
        return STARTED

    monkeypatch.setattr(up, "start", start)
    said = headrace("up", "--own-cpu", "2", "--port", "7000")
    assert said.err == "starting …\n"
    assert said.lines() == [
        "Headrace is up: https://127.0.0.1:6443 · pools own, cloud · ready in 1.4 s",
        "  ! Data is copied instead of mounted.",
        "  kubeconfig  /home/me/kubeconfig",
        "  try         headrace run -- echo hello",
    ]
    assert (asked["root"], asked["port"], asked["own"].cpu, asked["cloud"].memory) == (home, 7000, "2", "64Gi")
    assert f"export HEADRACE_HOME={home / 'other'}" in headrace("up", "--home", str(home / "other")).out
    assert json.loads(headrace("up", "-o", "json").out) == STARTED


def test_up_that_fails(headrace: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(*_: Any, **__: Any) -> Any:
        raise Conflict("Port 6443 cannot be used: Address already in use.", hint="Choose another.")

    monkeypatch.setattr(up, "start", start)
    assert headrace("up") == (73, "", "Error: Port 6443 cannot be used: Address already in use.\n  → Choose another.\n")


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (PermissionError(13, "Permission denied", "/var/lib/headrace"), 74, "/var/lib/headrace: Permission denied."),
        (OSError(28, "No space left on device"), 74, "No space left on device."),
        (KeyboardInterrupt(), 130, "Interrupted; what has started goes on. Stop it: headrace down"),
    ],
)
def test_up_that_the_system_stops(
    headrace: Terminal, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, sentence: str
) -> None:
    def start(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr(up, "start", start)
    said = headrace("up")
    assert said.code == code
    assert sentence in said.err
    assert "Traceback" not in said.err


@pytest.mark.parametrize("words", [["--port", "70000"], ["--port", "x"], ["--cpu", "1"]])
def test_up_bad_words(headrace: Terminal, words: list[str]) -> None:
    assert headrace("up", *words).code == 2


def test_down(headrace: Terminal, monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    monkeypatch.setattr(up, "stop", lambda _: True)
    assert headrace("down").out == "Headrace is down.\n"
    monkeypatch.setattr(up, "stop", lambda _: False)
    assert headrace("down").out == "Headrace was not running.\n"
    assert headrace("down", "--purge").lines()[1] == f"{home} deleted."
    assert not home.exists()
    assert headrace("down", "--purge").lines()[1] == f"{home} was not there."
    assert json.loads(headrace("down", "-o", "json").out) == {"home": str(home), "wasRunning": False, "purged": False}


def test_status(headrace: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"name": "control", "pid": None, "state": "starting", "restarts": 2, "memory": "–"}]
    monkeypatch.setattr(up, "processes", lambda _: rows)
    said = headrace("status")
    assert said.code == 0
    assert said.lines()[1].split() == ["control", "–", "starting", "2", "–"]
    monkeypatch.setattr(up, "processes", lambda _: [])
    assert headrace("status") == (3, "Headrace is not running here. Start it: headrace up\n", "")
    assert headrace("status", "-o", "json") == (3, "[]\n", "")


def test_doctor_ends_with_1_for_errors_only(headrace: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    findings = [
        {"what": "Linux", "level": "ok", "cure": ""},
        {"what": "Limits are watched", "level": "warning", "cure": "Delegate a cgroup."},
    ]
    monkeypatch.setattr(doctor, "examine", lambda _: findings)
    said = headrace("doctor")
    assert said == (0, "✔ Linux\n! Limits are watched\n    → Delegate a cgroup.\n", "")
    findings.append({"what": "Disk full", "level": "error", "cure": "Free some."})
    assert headrace("doctor").code == 1
    assert json.loads(headrace("doctor", "-o", "json").out) == findings
