"""A full disk: what cannot be kept is refused with a sentence, nothing dies, and all goes on when there is space again."""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.installation import HEADRACE, Installation, ending
from tests.integration.stack.stack import eventually, processes_with

from headrace.sandbox.testing import missing_features

_SIZE = "64m"
_NOTES = 25
_TOLD = f"ends when it is told {secrets.token_hex(4)}"
_UNTIL_TOLD = f"trap 'echo nobody may keep this line; exit 0' USR1; while :; do sleep 0.1; done # {_TOLD}"
_FILL = """
import sys
with open(sys.argv[1], "wb", buffering=0) as file:
    for size in (1 << 20, 4096, 1):
        try:
            while True:
                file.write(b"x" * size)
        except OSError:
            continue
"""


class Small(Installation):
    """An installation on a small file system of its own, which only a mount namespace sees.

    Args:
        enter: words before a command that is to run in that namespace.
    """

    def __init__(self, home: Path, enter: list[str]) -> None:
        super().__init__(home)
        self._enter = enter

    def run(self, *words: str, check: bool = True, timeout_s: float = 90) -> subprocess.CompletedProcess[str]:
        return self.command(*HEADRACE, *words, check=check, timeout_s=timeout_s)

    def command(self, *argv: str, check: bool = True, timeout_s: float = 90) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*self._enter, *argv], env=self.env, capture_output=True, text=True, timeout=timeout_s, cwd=self.home.parent
        )
        assert not check or done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
        return done


@contextmanager
def small_file_system(place: Path) -> Iterator[list[str]]:
    """Mount a small tmpfs at `place` in a namespace of its own; yields what enters it."""
    is_root = os.geteuid() == 0
    who = [] if is_root else ["--user", "--map-current-user", "--keep-caps"]
    script = f'mount -t tmpfs -o size={_SIZE},mode=755 tmpfs "$0" && echo mounted && exec sleep 600'
    argv = ["unshare", *who, "--mount", "--propagation", "private", "sh", "-c", script, str(place)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stderr is not None
            if holder.stdout.readline() != "mounted\n":
                pytest.skip(f"NO SMALL FILE SYSTEM HERE, A FULL DISK IS NOT TESTED: {holder.stderr.read()}")
            user = [] if is_root else ["--user", "--preserve-credentials"]
            yield ["nsenter", "--target", str(holder.pid), "--mount", *user, "--"]
        finally:
            holder.kill()


@pytest.fixture
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Small]:
    if os.geteuid() != 0 and "userns" in missing_features():
        pytest.skip(f"NO USER NAMESPACES, A FULL DISK IS NOT TESTED: {missing_features()['userns']}")
    base = tmp_path_factory.mktemp("i")
    with small_file_system(base) as enter, ending(Small(base / "h", enter)) as installation:
        yield installation


def test_a_write_is_refused_and_all_heals(small: Small, tmp_path: Path) -> None:
    small.up()
    before = {row["name"]: row["pid"] for row in small.json("status")}
    notes = tmp_path / "notes.json"
    notes.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": [note(i) for i in range(_NOTES)]}))
    small.command(sys.executable, "-c", _FILL, str(small.home / "fill"))

    refused = small.run("apply", "-f", str(notes), check=False)
    assert refused.returncode == 69, refused
    assert "The change was not saved" in refused.stderr
    assert "Free space there" in refused.stderr
    assert "Traceback" not in refused.stderr
    kept = [item["metadata"]["name"] for item in small.json("get", "configmaps", "-l", "note")["items"]]
    assert kept == re.findall(r"configmap/(\S+) created", refused.stdout), "what was refused has not happened"
    assert {row["name"]: row["pid"] for row in small.json("status")} == before, "nobody died"

    small.command("rm", str(small.home / "fill"))
    assert small.run("apply", "-f", str(notes)).stdout.count("\n") == _NOTES
    done = small.run("run", "--name", "after", "--memory", "64Mi", "--", "echo", "all is well")
    assert "all is well" in done.stdout
    assert small.json("usage", "--replay")["equal"] is True
    assert {row["name"]: row["pid"] for row in small.json("status")} == before


def test_a_job_that_ends_meanwhile_has_ended_and_is_billed(small: Small) -> None:
    small.up()
    submitted = time.monotonic()
    small.run("run", "--name", "during", "--memory", "64Mi", "--detach", "--", "sh", "-c", _UNTIL_TOLD)
    small.run("wait", "trainjob/during", "--for", "phase=Running", "--timeout", "30s")
    ran = time.monotonic()
    small.command(sys.executable, "-c", _FILL, str(small.home / "fill"))
    for process in processes_with(_TOLD):
        process.send_signal(signal.SIGUSR1)
    eventually(lambda: not processes_with(_TOLD), "the job has ended")
    ended = time.monotonic()
    time.sleep(1)
    small.command("rm", str(small.home / "fill"))
    small.run("wait", "trainjob/during", "--for", "phase=Succeeded", "--timeout", "60s")
    job = small.json("get", "trainjob", "during")
    assert len(job["status"]["attempts"]) == 1
    (row,) = small.json("usage", "--by", "span", "--job", "during")["rows"]
    assert ended - ran - 1 <= row["seconds"] <= ended - submitted + 1
    assert small.json("usage", "--replay")["equal"] is True


def note(number: int) -> dict[str, object]:
    """Return an object of 200 kB: some of them are more than what SQLite's files have to spare."""
    meta = {"name": f"note-{number:02}", "labels": {"note": ""}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"text": "x" * 200_000}}
