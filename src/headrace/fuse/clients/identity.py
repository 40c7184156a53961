"""Which uid a client has for the kernel's FUSE, and how it can have the same for itself.

A sidecar in a user namespace may be 65534 inside and 0 in the namespace that mounts. A client that says "this is
mine" with its own number then names nobody. JuiceFS does so with its `.config`, which its watchdog reads: refused, it
tries again without a pause (measured on 1.4.2: a core, and 3,000 log lines a second). Where the numbers differ, such a
client gets one more user namespace in which it has the number that it has outside, and no capability.
"""

from __future__ import annotations

import ctypes
import os

_CLONE_NEWUSER = 0x10000000
_PR_CAPBSET_DROP, _PR_SET_SECUREBITS = 24, 28
_NO_ROOT_LOCKED = 0b11  # SECBIT_NOROOT and its lock: uid 0 gains nothing by exec
_MOST_CAPABILITIES = 64


def owner_outside() -> tuple[int, int]:
    """Return this process's uid and gid as the user namespace around ours knows them."""
    return _outside("uid_map", os.getuid()), _outside("gid_map", os.getgid())


def is_other_outside() -> bool:
    """Tell whether the namespace around ours knows this process by other numbers."""
    return owner_outside() != (os.getuid(), os.getgid())


def be_as_outside() -> None:
    """In a child about to exec: take the numbers that we have outside, and give up every capability.

    Where making user namespaces is forbidden nothing changes; the client works all the same.
    """
    uid, gid = owner_outside()
    inside_uid, inside_gid = os.getuid(), os.getgid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(ctypes.c_int(_CLONE_NEWUSER)) != 0:
        return
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{uid} {inside_uid} 1"),
        ("gid_map", f"{gid} {inside_gid} 1"),
    ):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)
    for capability in range(_MOST_CAPABILITIES):
        libc.prctl(_PR_CAPBSET_DROP, ctypes.c_ulong(capability), 0, 0, 0)
    libc.prctl(_PR_SET_SECUREBITS, ctypes.c_ulong(_NO_ROOT_LOCKED), 0, 0, 0)


def _outside(name: str, inside: int) -> int:
    with open(f"/proc/self/{name}") as file:
        for line in file:
            first, outside, length = map(int, line.split())
            if first <= inside < first + length:
                return outside + inside - first
    return inside
