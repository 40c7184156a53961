"""Who called the stand-in: the client's process, and the container it is in, as the broker sees them in /proc.

A client that is killed while one of its threads waits in its own mount never ends: its descriptor stays open until
that thread returns, and the thread waits for the descriptor's last close (seen with JuiceFS, whose watchdog reads its
own mount). Then neither the container ends nor the connection. So the broker looks whether anybody of the container
still lives, and ends the connection when nobody does. Standard library only.
"""

from __future__ import annotations

import os
import signal
import socket
import struct
from dataclasses import dataclass


@dataclass(frozen=True)
class Caller:
    """A process, and its PID namespace.

    Args:
        started: clock ticks since boot; tells a process from another one that got its number later.
        namespace: as the link in /proc says it, such as `pid:[4026532500]`.
    """

    pid: int
    started: int
    namespace: str

    def is_gone(self) -> bool:
        """Tell whether nobody is left of the container, or of the process where it shares our PID namespace.

        What is exiting counts as gone, though it may be kept from ending by the very connection.
        """
        if start_ticks(self.pid) == self.started and _is_alive(str(self.pid)):
            return False
        return not self.all_pids()

    def all_pids(self) -> list[int]:
        """Return all living processes of its container; itself alone where it shares our PID namespace."""
        if self.namespace == pid_namespace("self"):
            return [self.pid] if start_ticks(self.pid) == self.started and _is_alive(str(self.pid)) else []
        names = [name for name in os.listdir("/proc") if name.isdecimal()]
        return [int(name) for name in names if pid_namespace(name) == self.namespace and _is_alive(name)]


def caller_of(peer: socket.socket) -> Caller | None:
    """Return who called the stand-in at the other end of a socket, None where that cannot be known."""
    credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid = int(struct.unpack("3i", credentials)[0])
    parent = int((_stat_fields(str(pid)) or ["", "0"])[1])
    namespace = pid_namespace(str(parent))
    return Caller(parent, start_ticks(parent), namespace) if parent > 0 and namespace else None


def pid_namespace(process: str) -> str:
    """Return the PID namespace of a process; empty when it has ended."""
    try:
        return os.readlink(f"/proc/{process}/ns/pid")
    except OSError:
        return ""


def start_ticks(pid: int) -> int:
    """Return when a process was started, 0 when there is none of this number."""
    return int((_stat_fields(str(pid)) or ["0"] * 20)[19])


def _is_alive(process: str) -> bool:
    """Tell whether a process still has memory and may go on running.

    A zombie has no memory, nor has one that exits and waits for its threads. One whose first thread is the one that
    waits in the kernel keeps it, but will run no more once it has been killed.
    """
    try:
        os.readlink(f"/proc/{process}/exe")
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return not _is_killed(process)


def _is_killed(process: str) -> bool:
    """Tell whether SIGKILL is pending. Source: proc(5), SigPnd and ShdPnd of /proc/PID/status."""
    try:
        with open(f"/proc/{process}/status", encoding="utf-8", errors="replace") as file:
            pending = [line.split()[1] for line in file if line.startswith(("SigPnd:", "ShdPnd:"))]
    except OSError:
        return False
    return any(int(mask, 16) & 1 << signal.SIGKILL - 1 for mask in pending)


def _stat_fields(process: str) -> list[str] | None:
    """Return the fields of /proc/PID/stat after the command's name: state, parent, …"""
    try:
        with open(f"/proc/{process}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()
    except OSError:
        return None
