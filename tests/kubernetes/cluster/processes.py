"""Processes of a cluster that outlive whoever starts them, and are found again by whoever ends them.

Each is recorded in a file with the moment it was started, so that another process which got its number later is never
taken for it.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import psutil

READY_S = 60.0
END_S = 10.0


class Recorded(msgspec.Struct, frozen=True):
    """What identifies a process for as long as the machine runs."""

    pid: int
    created: float


class Processes:
    """The processes recorded in `directory`: `<name>.json` is the record, `<name>.log` what it printed."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._children: list[subprocess.Popen[bytes]] = []

    def start(self, name: str, command: Sequence[str | Path], *, environment: dict[str, str] | None = None) -> int:
        """Start a process in a session of its own and record it; returns its number. One of that name must not run."""
        assert self.find(name) is None, f"{name} runs already"
        self._directory.mkdir(parents=True, exist_ok=True)
        with self.log(name).open("ab") as log:
            process = subprocess.Popen(
                [str(word) for word in command],
                env=_without_proxies() | (environment or {}),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._children.append(process)
        self.record(name, process.pid)
        return process.pid

    def record(self, name: str, pid: int) -> None:
        """Record a process that another one has started."""
        found = Recorded(pid, psutil.Process(pid).create_time())
        self._record(name).write_bytes(msgspec.json.encode(found))

    def log(self, name: str) -> Path:
        """Return the file that the process prints to."""
        return self._directory / f"{name}.log"

    def find(self, name: str) -> psutil.Process | None:
        """Return the process recorded as `name` if it still runs."""
        try:
            recorded = msgspec.json.decode(self._record(name).read_bytes(), type=Recorded)
            process = psutil.Process(recorded.pid)
            runs = process.create_time() == recorded.created and process.status() != psutil.STATUS_ZOMBIE
        except (FileNotFoundError, psutil.NoSuchProcess):
            return None
        return process if runs else None

    def names(self) -> list[str]:
        """Return the names of all that were started, in no order."""
        return sorted(path.stem for path in self._directory.glob("*.json"))

    def wait(self, name: str, is_ready: Callable[[], bool], *, deadline_s: float = READY_S) -> None:
        """Wait until `is_ready`; raises with the end of its log when the process ends before, or takes too long."""
        end = time.monotonic() + deadline_s
        while not is_ready():
            if self.find(name) is None or time.monotonic() > end:
                why = "did not become ready" if self.find(name) else "ended"
                last = "\n".join(self.log(name).read_text(errors="replace").splitlines()[-30:])
                raise RuntimeError(f"{name} {why}. The end of {self.log(name)}:\n{last}")
            time.sleep(0.05)

    def kill(self, name: str) -> list[str]:
        """Kill one process with all below it, and wait until it is gone; returns the words that start it again."""
        process = self.find(name)
        assert process is not None, f"{name} does not run"
        words = process.cmdline()
        family = [*process.children(recursive=True), process]
        for each in family:
            each.kill()
        psutil.wait_procs(family, timeout=END_S)
        self._reap()
        return words

    def kill_all(self) -> None:
        """End them all at once, and wait until they are gone. Nothing of theirs is kept, so none is asked first."""
        gone = {name: process for name in self.names() if (process := self.find(name))}
        for process in gone.values():
            process.kill()
        psutil.wait_procs(gone.values(), timeout=END_S)
        self._reap()
        left = [name for name in gone if self.find(name)]
        if left:
            raise RuntimeError(f"killed {END_S:g} s ago and still there: {', '.join(left)}")

    def _reap(self) -> None:
        for child in self._children:
            child.poll()

    def _record(self, name: str) -> Path:
        return self._directory / f"{name}.json"


def _without_proxies() -> dict[str, str]:
    """Return the environment without proxies: an API server would look for kubelets and webhooks through them."""
    return {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
