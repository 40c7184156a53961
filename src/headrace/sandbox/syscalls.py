"""The system calls that Python 3.11 lacks, by name, each raising OSError with a sentence about what was tried.

`os.unshare` and `os.setns` appear only in 3.12, mounting not at all. Needs Linux 5.12 (`mount_setattr`, and `setns`
on a pidfd); `probe.py` tells when the kernel is older.
"""

from __future__ import annotations

import ctypes
import os

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000

MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_BIND = 0x1000
MS_MOVE = 0x2000
MS_REC = 0x4000
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20

MNT_FORCE = 0x1
MNT_DETACH = 0x2
UMOUNT_NOFOLLOW = 0x8

_PR_SET_DUMPABLE = 4
_PR_SET_NAME = 15
_PR_CAPBSET_DROP = 24
_PR_SET_SECUREBITS = 28
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_SECBIT_NOROOT_LOCKED = 0b11
_CAPABILITY_VERSION_3 = 0x20080522
_EINVAL = 22

# The same numbers on every architecture since Linux 5.1 unified the table (asm-generic/unistd.h).
_SYS_OPEN_TREE = 428
_SYS_MOVE_MOUNT = 429
_SYS_CLOSE_RANGE = 436
_SYS_OPENAT2 = 437
_SYS_MOUNT_SETATTR = 442

_AT_FDCWD = -100
_AT_EMPTY_PATH = 0x1000
_AT_RECURSIVE = 0x8000
_OPEN_TREE_CLONE = 0x1
_MOVE_MOUNT_FROM_EMPTY_PATH = 0x4
_MOUNT_ATTR_RDONLY = 0x1
_RESOLVE_NO_MAGICLINKS = 0x2
_RESOLVE_BENEATH = 0x8
_RESOLVE_IN_ROOT = 0x10

_libc = ctypes.CDLL(None, use_errno=True)


class _MountAttr(ctypes.Structure):
    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def unshare(flags: int) -> None:
    """Leave the namespaces named by `flags`; a new PID namespace is entered by the next child only."""
    _check(_libc.unshare(ctypes.c_int(flags)), f"unshare({flags:#x})")


def setns(fd: int, flags: int) -> None:
    """Enter the namespace behind `fd`, or those of the process behind a pidfd (then `flags` says which)."""
    _check(_libc.setns(ctypes.c_int(fd), ctypes.c_int(flags)), f"setns({flags:#x})")


def mount(source: str, target: str, fstype: str = "", flags: int = 0, data: str = "") -> None:
    """mount(2)."""
    _check(
        _libc.mount(
            os.fsencode(source),
            os.fsencode(target),
            fstype.encode() or None,
            ctypes.c_ulong(flags),
            data.encode() or None,
        ),
        f"mount {fstype or 'bind'} {source} on {target}",
    )


def umount(target: str, flags: int = 0) -> None:
    """umount2(2)."""
    _check(_libc.umount2(os.fsencode(target), ctypes.c_int(flags)), f"unmount {target}")


def pivot_root(new: str, old: str) -> None:
    """pivot_root(2): `new` becomes `/`, and what was `/` is found at `old`."""
    _check(_libc.pivot_root(os.fsencode(new), os.fsencode(old)), f"pivot_root to {new}")


def change_mount(fd: int, *, read_only: bool = False, propagation: int = 0, recursive: bool = False) -> None:
    """Make the mount whose root is open at `fd` read-only and set its propagation; all other flags stay as they are.

    mount_setattr(2) rather than a remount: a remount in a user namespace must repeat every locked flag (nosuid, nodev,
    noexec) of every mount beneath, walks to each by path (and hangs in one that nobody serves), and is not atomic.

    Args:
        propagation: `MS_PRIVATE`, `MS_SLAVE`, `MS_SHARED`, or 0 to leave it.
    """
    attributes = _MountAttr(attr_set=_MOUNT_ATTR_RDONLY if read_only else 0, propagation=propagation)
    _check(
        _libc.syscall(
            ctypes.c_long(_SYS_MOUNT_SETATTR),
            ctypes.c_int(fd),
            b"",
            ctypes.c_uint(_AT_EMPTY_PATH | (_AT_RECURSIVE if recursive else 0)),
            ctypes.byref(attributes),
            ctypes.c_size_t(ctypes.sizeof(attributes)),
        ),
        "mount_setattr",
    )


def clone_mounts(path: str) -> int:
    """Return a descriptor of a copy of what is mounted at `path` and beneath it, attached nowhere yet (open_tree(2)).

    The copy is gone when the descriptor is closed before `attach_mounts`. Asks no file system anything.
    """
    flags = _OPEN_TREE_CLONE | _AT_RECURSIVE | os.O_CLOEXEC
    fd = int(
        _libc.syscall(ctypes.c_long(_SYS_OPEN_TREE), ctypes.c_int(_AT_FDCWD), os.fsencode(path), ctypes.c_uint(flags))
    )
    if fd < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"open_tree: {os.strerror(number)}", path)
    return fd


def attach_mounts(fd: int, target: str) -> None:
    """Mount the copy behind `fd`, from `clone_mounts`, on `target` (move_mount(2))."""
    _check(
        _libc.syscall(
            ctypes.c_long(_SYS_MOVE_MOUNT),
            ctypes.c_int(fd),
            b"",
            ctypes.c_int(_AT_FDCWD),
            os.fsencode(target),
            ctypes.c_uint(_MOVE_MOUNT_FROM_EMPTY_PATH),
        ),
        f"move_mount on {target}",
    )


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def open_beneath(directory: int, path: str, flags: int) -> int:
    """Open `path`, which may lead nowhere but beneath `directory`: a link that leaves it raises OSError (EXDEV)."""
    return _openat2(directory, path, flags, _RESOLVE_BENEATH)


def open_in_root(directory: int, path: str, flags: int) -> int:
    """Open `path` as if `directory` were `/`: absolute links begin there, and `..` leads no higher."""
    return _openat2(directory, path, flags, _RESOLVE_IN_ROOT)


def _openat2(directory: int, path: str, flags: int, resolve: int) -> int:
    how = _OpenHow(flags=flags | os.O_CLOEXEC, resolve=resolve | _RESOLVE_NO_MAGICLINKS)
    fd = int(
        _libc.syscall(
            ctypes.c_long(_SYS_OPENAT2),
            ctypes.c_int(directory),
            os.fsencode(path),
            ctypes.byref(how),
            ctypes.c_size_t(ctypes.sizeof(how)),
        )
    )
    if fd < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
    return fd


def sync_file_system(fd: int) -> None:
    """syncfs(2): put everything of the file system that `fd` is on to disk."""
    _check(_libc.syncfs(ctypes.c_int(fd)), "syncfs")


def close_range(first: int, last: int) -> None:
    """Close the descriptors `first` to `last`, both included, whether open or not."""
    if first <= last:
        _check(_libc.syscall(_SYS_CLOSE_RANGE, ctypes.c_uint(first), ctypes.c_uint(last), 0), "close_range")


def _prctl(option: int, value: int = 0) -> int:
    zero = ctypes.c_ulong(0)
    return int(_libc.prctl(ctypes.c_int(option), ctypes.c_ulong(value), zero, zero, zero))


def set_name(name: str) -> None:
    """Be called `name` (15 bytes at most) in process lists; the command line stays that of the first of us."""
    buffer = ctypes.create_string_buffer(name.encode()[:15])
    _libc.prctl(_PR_SET_NAME, buffer, 0, 0, 0)


def set_dumpable(value: bool) -> None:
    """Allow or forbid other processes of the same user to look into this one until its next exec."""
    _check(_prctl(_PR_SET_DUMPABLE, int(value)), "prctl(PR_SET_DUMPABLE)")


def set_child_subreaper() -> None:
    """Become the parent of descendants whose own parent ends."""
    _check(_prctl(_PR_SET_CHILD_SUBREAPER, 1), "prctl(PR_SET_CHILD_SUBREAPER)")


def set_no_new_privileges() -> None:
    """No exec from now on gives any privilege: setuid programs run as who calls them."""
    _check(_prctl(_PR_SET_NO_NEW_PRIVS, 1), "prctl(PR_SET_NO_NEW_PRIVS)")


class _CapHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _CapData(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def drop_capabilities() -> None:
    """Give up every capability for good: ambient, bounding, effective, permitted, inheritable, and uid 0's share."""
    zero = ctypes.c_ulong(0)
    _libc.prctl(_PR_CAP_AMBIENT, ctypes.c_ulong(_PR_CAP_AMBIENT_CLEAR_ALL), zero, zero, zero)
    _prctl(_PR_SET_SECUREBITS, _SECBIT_NOROOT_LOCKED)  # EPERM for a process that has no capability: nothing to lock
    for capability in range(64):
        if _prctl(_PR_CAPBSET_DROP, capability) != 0 and ctypes.get_errno() == _EINVAL:
            break  # beyond the kernel's last one
    header = _CapHeader(version=_CAPABILITY_VERSION_3, pid=0)
    data = (_CapData * 2)()
    _check(_libc.capset(ctypes.byref(header), ctypes.byref(data)), "capset")
