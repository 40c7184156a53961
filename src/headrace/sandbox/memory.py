"""A memory limit where no cgroup can hold one: looks how much a container uses, and says when that is too much.

Counted is what a cgroup would count (kubelet calls it the working set): private and shared pages of all its processes,
and what it keeps in its tmpfs. Resident set sizes are quick to read but count shared pages once a process, and pages of
a tmpfs once more, so only when their sum is above the limit the exact proportional sizes are asked for. RLIMIT_AS would
break CUDA and Go, which reserve far more than they use.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import NamedTuple

from headrace.sandbox.loop import Loop

_OFTEN_S = 0.1
_SELDOM_S = 1.0
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")

FILE_SYSTEMS = ("/dev/shm", "/tmp", "/")
"""Where a container may have a tmpfs of its own, whatever its order says."""


class Share(NamedTuple):
    """The memory of one process, with pages that several use divided among them.

    Attributes:
        shmem_bytes: those of `bytes` that belong to files in memory, with or without a name: tmpfs, memfd, System V.
    """

    bytes: int
    shmem_bytes: int


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
        members, files_bytes = list(self._members()), sum(map(tmpfs_bytes, self._file_systems))
        most = sum(map(resident_bytes, members)) + files_bytes
        if most > self._limit_bytes and working_set_bytes(map(share, members), files_bytes) > self._limit_bytes:
            self._over()
            return
        self._loop.later(_OFTEN_S if most > self._limit_bytes / 2 else _SELDOM_S, self.look)


def working_set_bytes(shares: Iterable[Share], files_bytes: int) -> int:
    """Return what processes use together that keep `files_bytes` in their tmpfs.

    Files in memory that are mapped, as those which data loaders pass on, are in both figures and counted once. Where
    processes have memfds beside a full tmpfs that nobody maps, only the larger of both is seen.
    """
    all_bytes = shmem_bytes = 0
    for one in shares:
        all_bytes += one.bytes
        shmem_bytes += one.shmem_bytes
    return all_bytes - shmem_bytes + max(shmem_bytes, files_bytes)


def own_tmpfs(places: Iterable[str], process: str = "self") -> list[str]:
    """Return those of `places` that are a tmpfs of a process's own: a volume on disk may lie over one of them."""
    shown: dict[str, bool] = {}
    with open(f"/proc/{process}/mountinfo") as file:
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


def share(pid: int) -> Share:
    """Return the memory of a process with shared pages divided, nothing for one that is gone.

    It walks the process's page tables: about 0.1 ms for small ones, 10 ms for a gigabyte in small pages.
    """
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            return parse_share(file.read())
    except PermissionError:  # setuid programs are nobody's to look into; how much they have is no secret
        return Share(resident_bytes(pid), 0)
    except OSError:
        return Share(0, 0)


def parse_share(rollup: bytes) -> Share:
    """Return what the text of `/proc/PID/smaps_rollup` says; it is empty for a kernel thread or a zombie."""
    values = {b"Pss": 0, b"Pss_Shmem": 0}
    for line in rollup.splitlines():
        name, _, rest = line.partition(b":")
        if name in values:
            values[name] = int(rest.split()[0]) * 1024
    return Share(values[b"Pss"], values[b"Pss_Shmem"])


def tmpfs_bytes(path: str) -> int:
    """Return what is kept in the tmpfs at `path`, 0 when there is none any more."""
    try:
        usage = os.statvfs(path)
    except OSError:
        return 0
    return (usage.f_blocks - usage.f_bfree) * usage.f_frsize
