"""A node's own namespaces: a small machine within this one, that goes whole when its first process is killed.

Network, mounts, process numbers, host name and IPC are its own. So no network interface, mount, shim or container of a
node can outlive it, and what Kubernetes' parts write at fixed places (`/run`, `/var/lib`, `/var/log`) lies in the
cluster's directory. cgroups are not namespaced: see `cgroups.py`.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
from tests.kubernetes.cluster.processes import Processes

# kubelet sets these of the whole machine where they differ; it is shown what it wants to see instead.
KERNEL = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}
BORN_S = 10.0


class Namespaces:
    """The namespaces of one node, held by its first process, which is recorded as `name`."""

    def __init__(self, name: str, directory: Path, processes: Processes) -> None:
        self._name = name
        self._directory = directory
        self._processes = processes

    def make(self, first: Path) -> None:
        """Make them, with the program `first` as their first process, and put the directory's parts into place."""
        apart = ("--net", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc")
        self._processes.start(self._name, ["unshare", *apart, "--propagation", "private", first])
        end = time.monotonic() + BORN_S
        while (born := self._born()) is None:
            assert time.monotonic() < end, self._processes.log(self._name).read_text()
            time.sleep(0.01)
        # A namespace's first process is gone only after all the others, so whoever waits for it waits for all.
        self._processes.record(f"{self._name}-first", born)
        self._place_files()

    @property
    def pid(self) -> int:
        """The number of the first process, as the machine counts."""
        found = self._processes.find(f"{self._name}-first")
        assert found is not None, f"{self._name} does not run"
        return found.pid

    def command(self, *words: str | Path) -> list[str]:
        """Return the command line that runs a command within."""
        apart = ("--net", "--mount", "--uts", "--ipc", "--pid")
        return ["nsenter", "--target", str(self.pid), *apart, "--", *(str(word) for word in words)]

    def run(self, *words: str | Path) -> str:
        """Run a command within and return what it prints; raises with its errors when it fails."""
        done = subprocess.run(self.command(*words), capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{' '.join(str(word) for word in words)} in {self._name}: {done.stderr.strip()}")
        return done.stdout

    def _born(self) -> int | None:
        """Return the child of `unshare` once it has become the first program, which is after its /proc is mounted."""
        holder = self._processes.find(self._name)
        children: Sequence[psutil.Process] = holder.children() if holder else ()
        return next((child.pid for child in children if child.name() != "unshare"), None)

    def _place_files(self) -> None:
        self.run("hostname", self._name)
        self.run("mount", "--make-rshared", "/")
        self.run("mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", "/run")
        for where in ("/var/lib", "/var/log"):
            own = self._directory / where.removeprefix("/").replace("/", "-")
            own.mkdir(parents=True)
            self.run("mount", "--bind", own, where)
        kernel = self._directory / "kernel"
        kernel.mkdir()
        for name, value in KERNEL.items():
            shown = kernel / name.replace("/", ".")
            shown.write_text(f"{value}\n")
            self.run("mount", "--bind", shown, f"/proc/sys/{name}")
