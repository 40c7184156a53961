"""This machine as a node: `headrace node` as a process, and what is seen of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.interruption import LONGEST_RUN_S
from tests.kubernetes.access import Access
from tests.kubernetes.roles import gone, until

from headrace.spec.kind import Json


@dataclass
class Machine:
    """One joined node, while its command runs or after it."""

    access: Access
    home: Path
    name: str
    log: Path
    process: subprocess.Popen[bytes]

    @property
    def path(self) -> str:
        return f"/api/v1/nodes/{self.name}"

    @property
    def node(self) -> Json:
        return self.access.call("GET", self.path)

    def told(self) -> str:
        """Return what the command has printed, and the end of its agent's log."""
        agent = self.home / "logs" / "node.log"
        return self.log.read_text() + (agent.read_text()[-3000:] if agent.is_file() else "")

    def pid(self, process: str) -> int:
        """Return the pid of one of its processes: `node` (the agent) or `world-node`."""
        return int(json.loads((self.home / "run" / f"{process}.json").read_text())["pid"])

    def await_ready(self) -> None:
        until(lambda: "Ready:" in self.log.read_text() or self._fail_if_ended(), f"{self.name} is ready", self.told)

    def _fail_if_ended(self) -> bool:
        assert self.process.poll() is None, f"ended with {self.process.returncode}: {self.told()}"
        return False

    def interrupt(self, number: int = signal.SIGINT) -> int:
        """End the command as Ctrl-C does; returns its exit code."""
        self.process.send_signal(number)
        return self.process.wait(90)


def headrace(kubeconfig: Path | None, *words: str | Path) -> list[str]:
    chosen = ["--kubeconfig", str(kubeconfig)] if kubeconfig else []
    return [sys.executable, "-m", "headrace.cli", *chosen, *map(str, words)]


def begin(access: Access, home: Path, name: str, *options: str | Path, joins: bool = True) -> Machine:
    """Start `headrace node`; it need not be ready yet."""
    log = home.parent / f"{home.name}.log"
    kubeconfig = access.kubeconfig if joins else None
    words = headrace(kubeconfig, "node", "--home", home, *options)
    environment = {key: value for key, value in os.environ.items() if key != "KUBECONFIG"}
    with open(log, "wb") as out:
        process = subprocess.Popen(
            ["timeout", "--foreground", "--kill-after=90", str(LONGEST_RUN_S), *words],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env=environment,
        )
    return Machine(access, home, name, log, process)


@contextmanager
def joined(access: Access, home: Path, name: str, pool: str, *options: str | Path) -> Iterator[Machine]:
    """Have this machine be a node for as long as the context lasts."""
    machine = begin(access, home, name, "--name", name, "--pool", pool, *options)
    try:
        machine.await_ready()
        yield machine
    finally:
        if machine.process.poll() is None:
            machine.interrupt()
        leave(machine)


def leave(machine: Machine) -> str:
    """Take the node out of the cluster with everything of it; returns what the command printed."""
    words = headrace(
        machine.access.kubeconfig, "node", "--home", machine.home, "--name", machine.name, "--leave", "--force"
    )
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    gone(machine.access, machine.path)
    return done.stdout
