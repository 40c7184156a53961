"""A memory limit where no cgroup can hold one: looks how much a container uses, and says when that is too much.

Counted is what a cgroup would count: private and shared pages of all its processes, and what it keeps in its tmpfs.
Resident set sizes are quick to read but count shared pages once a process, so only when their sum is above the limit
the exact proportional sizes are asked for. RLIMIT_AS would break CUDA and Go, which reserve far more than they use.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

from headrace.sandbox.loop import Loop

_OFTEN_S = 0.1
_SELDOM_S = 1.0
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Watch:
    """Looks again and again, the more often the closer it is; calls `over` once when the limit is passed.

    Args:
        members: returns the processes to be counted.
        file_systems: where tmpfs of theirs may be mounted; those that are none are left out.
    """

    def __init__(
        self,
        loop: Loop,
        limit_bytes: int,
        members: Callable[[], Iterable[int]],
        over: Callable[[], None],
        file_systems: Iterable[str] = (),
    ) -> None:
        self._loop = loop
        self._members = members
        self._file_systems = own_tmpfs(file_systems)
        self._limit_bytes = limit_bytes
        self._over = over

    def look(self) -> None:
        """Look now, and from now on."""
        used = self._used_bytes(resident_bytes)
        if used > self._limit_bytes and self._used_bytes(proportional_bytes) > self._limit_bytes:
            self._over()
            return
        self._loop.later(_OFTEN_S if used > self._limit_bytes / 2 else _SELDOM_S, self.look)

    def _used_bytes(self, of_process: Callable[[int], int]) -> int:
        return sum(map(of_process, self._members())) + sum(map(_tmpfs_bytes, self._file_systems))


def own_tmpfs(places: Iterable[str]) -> list[str]:
    """Return those of `places` that are a tmpfs of the caller's own: a volume on disk may lie over one of them."""
    shown: dict[str, bool] = {}
    with open("/proc/self/mountinfo") as file:
        for line in file:
            mount, _, source = line.partition(" - ")
            root, target = mount.split(" ")[3:5]
            shown[target] = root == "/" and source.split(" ")[0] == "tmpfs"  # a later one covers an earlier one
    return [place for place in places if shown.get(place)]


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
