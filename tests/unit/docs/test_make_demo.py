"""`make demo` goes to a cluster only where the command line names one: an exported KUBECONFIG is make's variable too."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture
def venv(tmp_path: Path) -> str:
    """An installed virtual environment whose shell tells what it was asked to run; relative, as make has it."""
    (tmp_path / ".demo").touch()
    (tmp_path / "bin").mkdir()
    shell = tmp_path / "bin" / "sh"
    shell.write_text('#!/bin/sh\nprintf "<%s>" "$@"\n')
    shell.chmod(0o755)
    return os.path.relpath(tmp_path, REPOSITORY)


def demo(venv: str, *words: str, kubeconfig: str = "") -> str:
    environment = {key: value for key, value in os.environ.items() if key not in {"MAKEFLAGS", "KUBECONFIG"}}
    if kubeconfig:
        environment["KUBECONFIG"] = kubeconfig
    command = ["make", "--no-print-directory", "-C", str(REPOSITORY), "demo", f"VENV={venv}", *words]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout


def test_it_is_on_this_machine(venv: str) -> None:
    assert demo(venv) == "<examples/digits/demo.sh>"


def test_an_exported_kubeconfig_is_not_meant(venv: str) -> None:
    assert demo(venv, kubeconfig="/home/ann/production") == "<examples/digits/demo.sh>"


def test_one_on_the_command_line_is(venv: str) -> None:
    said = demo(venv, "KUBECONFIG=/home/ann/my lab.conf", kubeconfig="/home/ann/production")
    assert said == "<examples/digits/demo.sh><--kubeconfig></home/ann/my lab.conf>"
