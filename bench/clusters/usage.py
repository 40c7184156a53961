"""What processes cost: CPU seconds and memory, read from /proc. Only this machine's; others are not counted."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import NamedTuple

import psutil


class Cost(NamedTuple):
    """What one process used between two looks."""

    cpu_s: float
    memory_mib: float
    """Resident now."""
    peak_mib: float
    """The most that was resident since the first look."""


class Meter:
    """Looks at processes twice: when made, and when `read`.

    Args:
        idle_s: watch for so long what they use while nothing is asked of them, and take that off.
    """

    def __init__(self, processes: Mapping[str, psutil.Process], *, idle_s: float = 0.0) -> None:
        self._processes = processes
        self._idle = dict.fromkeys(processes, 0.0)
        if idle_s:
            before = {name: _cpu_s(process) for name, process in processes.items()}
            time.sleep(idle_s)
            self._idle = {name: (_cpu_s(process) - before[name]) / idle_s for name, process in processes.items()}
        for process in processes.values():
            _forget_peak(process.pid)
        self._before = {name: _cpu_s(process) for name, process in processes.items()}
        self._began_s = time.monotonic()

    def read(self) -> dict[str, Cost]:
        took_s = time.monotonic() - self._began_s
        return {
            name: Cost(
                _cpu_s(process) - self._before[name] - self._idle[name] * took_s,
                _status_mib(process.pid, "VmRSS"),
                _status_mib(process.pid, "VmHWM"),
            )
            for name, process in self._processes.items()
        }


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _status_mib(pid: int, key: str) -> float:
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith(f"{key}:"))


def _forget_peak(pid: int) -> None:
    """Have VmHWM begin anew (proc(5), clear_refs); without the right to, it is the peak of the whole life."""
    try:
        with open(f"/proc/{pid}/clear_refs", "w") as file:
            file.write("5")
    except OSError:
        return
