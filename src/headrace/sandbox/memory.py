"""A memory limit where no cgroup can hold one: looks how much a container uses, and says when that is too much.

Counted is what a cgroup would count: private and shared pages of all its processes, and what it keeps in its tmpfs.
Resident set sizes are quick to read but count shared pages once a process, so only when their sum is above the limit
the exact proportional sizes are asked for. RLIMIT_AS would break CUDA and Go, which reserve far more than they use.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from headrace.sandbox.loop import Loop

_OFTEN_S = 0.1
_SELDOM_S = 1.0
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_MEMORY_FILE_SYSTEMS = ("/dev/shm", "/tmp")


class Watch:
    """Looks again and again, the more often the closer it is; calls `over` once when the limit is passed.

    Runs in a container's pid 1, whose /proc shows the container's processes only.
    """

    def __init__(self, loop: Loop, limit_bytes: int, over: Callable[[], None]) -> None:
        self._loop = loop
        self._limit_bytes = limit_bytes
        self._over = over

    def look(self) -> None:
        """Look now, and from now on."""
        used = _used_bytes(resident_bytes)
        if used > self._limit_bytes and _used_bytes(proportional_bytes) > self._limit_bytes:
            self._over()
            return
        self._loop.later(_OFTEN_S if used > self._limit_bytes / 2 else _SELDOM_S, self.look)


def _used_bytes(of_process: Callable[[int], int]) -> int:
    processes = sum(of_process(int(name)) for name in os.listdir("/proc") if name.isdigit() and name != "1")
    return processes + sum(map(_tmpfs_bytes, _MEMORY_FILE_SYSTEMS))


def resident_bytes(pid: int) -> int:
    """Return the resident set size of a process, 0 for one that is gone."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * _PAGE_BYTES
    except (OSError, IndexError):
        return 0


def proportional_bytes(pid: int) -> int:
    """Return the memory of a process with shared pages divided among those who share them, 0 for one that is gone."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            for line in file:
                if line.startswith(b"Pss:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        return 0
    return 0


def _tmpfs_bytes(path: str) -> int:
    try:
        usage = os.statvfs(path)
    except OSError:
        return 0
    return (usage.f_blocks - usage.f_bfree) * usage.f_frsize
