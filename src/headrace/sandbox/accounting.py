"""Whose processes are whose, and what they used of the processor: the arithmetic of `usage.py`. Pure.

A process that has ended and was waited for is in the figures of the one that waited (proc(5), `cutime` and `cstime`), and
so on upwards. So what everybody beneath a process ever used is what those who live used themselves and took over. An
exception is the kernel's own (times(2)): who ignores the end of children takes nothing over.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

Owner = tuple[str, str]
"""A pod's name and a container's; the container's is empty for what belongs to the pod only, both are for the world's."""

WORLD: Owner = ("", "")

_TICK_NS = 10**9 // os.sysconf("SC_CLK_TCK")


class Process(NamedTuple):
    """One process; zombies count until they are waited for.

    Attributes:
        namespace: of PIDs, as a number; 0 where that cannot be seen.
        own_ns, taken_ns: used by itself, and by those beneath it who have ended.
    """

    parent: int
    namespace: int
    own_ns: int
    taken_ns: int


class Firsts(NamedTuple):
    """The processes that everybody else descends from: the world itself, and pods' and containers' pid 1s.

    Attributes:
        owners: whose pid 1 each is.
        namespaces: containers' PID namespaces, for what was sent into one from outside by `exec`.
    """

    owners: Mapping[int, Owner]
    namespaces: Mapping[int, Owner]


def parse_stat(text: bytes, namespace: int) -> Process:
    """Return what `/proc/PID/stat` says, in whole clock ticks; the command, in parentheses, may hold anything."""
    fields = text.rpartition(b")")[2].split()
    own, taken = int(fields[11]) + int(fields[12]), int(fields[13]) + int(fields[14])
    return Process(int(fields[1]), namespace, own * _TICK_NS, taken * _TICK_NS)


def owners(processes: Mapping[int, Process], firsts: Firsts) -> dict[int, Owner]:
    """Return whom each process belongs to; those that are nobody's here are left out."""
    found: dict[int, Owner | None] = dict(firsts.owners)

    def owner(pid: int) -> Owner | None:
        if pid not in found:
            found[pid] = None  # processes are read one after the other: ids may have been used again, even in a ring
            one = processes.get(pid)
            if one is not None:
                found[pid] = firsts.namespaces.get(one.namespace) or owner(one.parent)
        return found[pid]

    return {pid: whose for pid in processes if (whose := owner(pid)) is not None}


def used_ns(processes: Mapping[int, Process], belongs: Mapping[int, Owner], firsts: Firsts) -> dict[Owner, int]:
    """Return what each container, pod and the world ever used.

    A container's pid 1 is ours and writes its log: what it uses itself is the pod's, as a pause container would be, and
    what it took over is the container's. A pod's figure has its containers' in it, those that have ended too, and the
    world's all pods'.
    """
    sums = dict.fromkeys(firsts.owners.values(), 0)
    sums[WORLD] = 0
    for pid, owner in belongs.items():
        one = processes[pid]
        everything = one.own_ns + one.taken_ns
        sums[WORLD] += everything
        if owner == WORLD:
            continue
        sums[owner[0], ""] += everything
        if owner[1]:
            sums[owner] += one.taken_ns if pid in firsts.owners else everything
    return sums


class Counter:
    """Processor time that never falls, whatever is read.

    Figures are read one process after the other while those end and are waited for, so that one may be missed or be
    counted twice for a moment. A counter stands still then until the truth has caught up: no error stays.
    """

    def __init__(self) -> None:
        self._told_ns = 0
        self.elsewhere_ns = 0
        """Used by commands that were waited for outside of the container."""

    def tell(self, measured_ns: int) -> int:
        """Return what is to be told."""
        self._told_ns = max(self._told_ns, measured_ns + self.elsewhere_ns)
        return self._told_ns
