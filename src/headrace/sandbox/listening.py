"""Which of several addresses leads to a pod, at one port: the machine's network is shared, so this takes a proof.

A connection to a pod's address also reaches whoever listens on all addresses, and a port of 127.0.0.1 may be anybody's.
So an address is given out only when every socket the kernel could hand a connection to belongs to a process of the pod.
Sockets of pods that listen on 127.0.0.1 only are found the same way, and are just as safe.
Source: Linux `net/ipv4/inet_hashtables.c` (`__inet_lookup_listener`: the sockets of exactly this address come first,
then those of all addresses, and IPv6 ones of all addresses among them), proc(5) `/proc/net/tcp`.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from collections.abc import Collection, Iterable
from typing import NamedTuple

_LISTEN = "0A"
_SOCKET = "socket:["
_IPV4_IN_IPV6 = bytes(10) + b"\xff\xff"


class Listener(NamedTuple):
    """A socket that listens at the port in question; its address has 4 bytes or 16, 4 for IPv4 in IPv6."""

    address: bytes
    inode: int


def parse(text: str, port: int) -> list[Listener]:
    """Return who listens at `port` by the text of `/proc/net/tcp` or `/proc/net/tcp6`."""
    found = []
    for line in text.splitlines()[1:]:
        fields = line.split()
        host, _, number = fields[1].partition(":")
        if fields[3] == _LISTEN and int(number, 16) == port:
            found.append(Listener(_address(host), int(fields[9])))
    return found


def _address(text: str) -> bytes:
    """Return an address that the kernel printed as words of its own byte order."""
    words = (int(text[at : at + 8], 16) for at in range(0, len(text), 8))
    return b"".join(word.to_bytes(4, sys.byteorder) for word in words).removeprefix(_IPV4_IN_IPV6)


def answering(listeners: Iterable[Listener], address: bytes) -> set[int]:
    """Return the inodes of the sockets of which one would get a connection to `address`; empty for a refusal."""
    listeners = list(listeners)
    exact = {listener.inode for listener in listeners if listener.address == address}
    # An IPv6 socket of all addresses takes IPv4 too unless told otherwise, which /proc does not tell.
    lengths = {4, 16} if len(address) == 4 else {16}
    general = {one.inode for one in listeners if not any(one.address) and len(one.address) in lengths}
    return exact or general


class Choice(NamedTuple):
    """`address` is empty where none leads to the pod; `is_foreign` tells that somebody else would have answered."""

    address: str
    is_foreign: bool


def choose(listeners: Iterable[Listener], own: Collection[int], addresses: Iterable[str]) -> Choice:
    """Return the first of `addresses` at which only sockets answer whose inodes are among `own`.

    Between this and a connection the pod may stop to listen; who may make pods could connect to whoever comes next
    from within one anyway.
    """
    listeners = list(listeners)
    is_foreign = False
    for address in addresses:
        sockets = answering(listeners, _packed(address))
        if sockets and sockets <= set(own):
            return Choice(address, False)
        is_foreign = is_foreign or bool(sockets)
    return Choice("", is_foreign)


def _packed(address: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def listeners_at(port: int) -> list[Listener]:
    """Return who listens at `port` on this machine."""
    found = []
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(FileNotFoundError), open(f"/proc/self/net/{name}") as file:  # without IPv6: no tcp6
            found += parse(file.read(), port)
    return found


def sockets_of(processes: Iterable[int]) -> set[int]:
    """Return the inodes of the sockets that processes hold; those of one that is gone or closed to us are left out."""
    inodes = set()
    for process in processes:
        with contextlib.suppress(OSError):
            for fd in os.listdir(f"/proc/{process}/fd"):
                with contextlib.suppress(OSError):
                    target = os.readlink(f"/proc/{process}/fd/{fd}")
                    if target.startswith(_SOCKET):
                        inodes.add(int(target[len(_SOCKET) : -1]))
    return inodes


def processes_beside(pids: Iterable[int]) -> list[int]:
    """Return every process that lives in the PID namespace of one of `pids`, those included."""
    namespaces = {namespace for pid in pids if (namespace := namespace_of(pid))}
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and namespace_of(int(name)) in namespaces]


def pid_of(pidfd: int) -> int:
    """Return the process behind a pidfd as this /proc numbers it, -1 when it is gone."""
    with open(f"/proc/self/fdinfo/{pidfd}") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Pid:"))


def namespace_of(pid: int) -> int:
    """Return the number of a process's PID namespace, 0 where it is gone or not ours to see."""
    try:
        return os.stat(f"/proc/{pid}/ns/pid").st_ino
    except OSError:
        return 0
