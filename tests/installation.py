"""A whole Headrace in a directory of its own, started and stopped as people do, and checked for leftovers."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import psutil
from tests.interruption import uninterrupted

I = TypeVar("I", bound="Installation")  # noqa: E741
HEADRACE = [str(Path(sys.executable).parent / "headrace")]


class Installation:
    """One state directory and the commands on it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.env = {**os.environ, "HEADRACE_HOME": str(home)}
        self._port = 0

    def run(self, *words: str, check: bool = True, timeout_s: float = 200) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*HEADRACE, *words], env=self.env, capture_output=True, text=True, timeout=timeout_s, cwd=self.home.parent
        )
        if check and done.returncode:
            raise AssertionError(
                f"headrace {' '.join(words)} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
            )
        return done

    def json(self, *words: str) -> Any:
        return json.loads(self.run(*words, "-o", "json").stdout)

    def up(self, *more: str) -> None:
        """Start it on a port of its own: the usual one is taken by whoever starts at the same time."""
        self._port = self._port or free_port()
        own, cloud = ("--own-cpu", "2", "--own-memory", "2Gi"), ("--cloud-cpu", "4", "--cloud-memory", "8Gi")
        self.run("up", "--port", str(self._port), *own, *cloud, *more)

    def pid(self, name: str) -> int:
        return next(int(row["pid"]) for row in self.json("status") if row["name"] == name)

    def processes(self) -> list[psutil.Process]:
        """Return every process that has this installation's directory in its environment or its arguments."""
        found = []
        for process in psutil.process_iter():
            try:
                words = [*process.cmdline(), process.environ().get("HEADRACE_HOME", "")]
            except (psutil.AccessDenied, psutil.NoSuchProcess, psutil.ZombieProcess):
                continue
            if any(str(self.home) in word for word in words):
                found.append(process)
        return [process for process in found if process.pid != os.getpid()]

    def mounts(self) -> list[str]:
        return [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(self.home) in line]


def free_port() -> int:
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])


@contextmanager
def installed(base: Path) -> Iterator[Installation]:
    """Give an installation beneath `base`, not yet started; end it, and check that nothing of it is left."""
    base.chmod(0o755)
    with ending(Installation(base / "h")) as made:
        yield made


@contextmanager
def ending(made: I) -> Iterator[I]:
    """End an installation, and check that nothing of it is left."""
    try:
        yield made
    finally:
        with uninterrupted():
            made.run("down", check=False)
        left = made.processes()
        for process in left:
            process.kill()
        assert not left, f"down left {[process.cmdline() for process in left]}"
        assert made.mounts() == []
