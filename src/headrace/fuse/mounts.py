"""Mounting, stacking and aborting FUSE, and reading mountinfo. Standard library only: the broker stands on it.

What works where (all tried on Linux 6.18 as uid 65534 inside a user namespace of its own):

- `mount(2)` of FUSE is allowed where /dev/fuse was opened in the same user namespace.
- The control file system (`/sys/fs/fuse/connections/N/abort`) cannot be *mounted* in a user namespace (EPERM). Where
  the machine has it mounted, as systemd does, its files belong to the uid that mounted FUSE, so writing works.
- `umount2(MNT_FORCE)` aborts the connection before it looks whether the mount is busy. A descriptor held on the mount
  makes it busy, so the connection is aborted and the mount stays. Kernels that ask the first user namespace for
  CAP_SYS_ADMIN here refuse with EPERM.
- Nothing here waits for a FUSE client: paths are opened with O_PATH | O_DIRECTORY, which the kernel answers alone.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MNT_FORCE = 0x1
MNT_DETACH = 0x2
UMOUNT_NOFOLLOW = 0x8

RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08

CONNECTIONS = "/sys/fs/fuse/connections"
DEVICE = "/dev/fuse"

# The same number on every architecture (asm-generic/unistd.h).
_SYS_OPENAT2 = 437
_ESCAPE = re.compile(r"\\([0-7]{3})")
_UNSAFE = re.compile(r"[^A-Za-z0-9._:/@+=-]")
_LONGEST_NAME = 200
_LEAST_READ_BYTES, _MOST_READ_BYTES = 4096, 1 << 20

_libc = ctypes.CDLL(None, use_errno=True)


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of mountinfo (proc_pid_mountinfo(5))."""

    id: int
    parent: int
    device: str
    root: str
    point: str
    options: str
    type: str
    source: str
    super_options: str

    @property
    def is_fuse(self) -> bool:
        """Whether a FUSE client serves it; the control file system is not one."""
        return self.type in ("fuse", "fuseblk") or self.type.startswith(("fuse.", "fuseblk."))

    @property
    def connection(self) -> int:
        """The number of the FUSE connection, as directories of the control file system are called."""
        return int(self.device.partition(":")[2])

    @property
    def is_read_only(self) -> bool:
        return "ro" in self.options.split(",") or "ro" in self.super_options.split(",")


def parse_mountinfo(text: str) -> list[Mount]:
    """Return the mounts of a mountinfo file in its order; lines that are none are skipped."""
    found = []
    for line in text.splitlines():
        left, separator, right = line.partition(" - ")
        before, after = left.split(" "), right.split(" ")
        if not separator or len(before) < 6 or len(after) < 3:
            continue
        found.append(
            Mount(
                id=int(before[0]),
                parent=int(before[1]),
                device=before[2],
                root=_unescape(before[3]),
                point=_unescape(before[4]),
                options=before[5],
                type=after[0],
                source=_unescape(after[1]),
                super_options=after[2],
            )
        )
    return found


def read_mounts(process: str = "self") -> list[Mount]:
    """Return the mounts that a process sees; by default this one."""
    with open(f"/proc/{process}/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        return parse_mountinfo(file.read())


def stack_at(point: str, mounts: Iterable[Mount]) -> list[Mount]:
    """Return the mounts at exactly `point`, bottom first, as they lie on each other."""
    here = {mount.id: mount for mount in mounts if mount.point == point}
    above = {mount.parent: mount for mount in here.values() if mount.parent in here}
    bottoms = [mount for mount in here.values() if mount.parent not in here]
    stack = []
    for bottom in bottoms:
        level: Mount | None = bottom
        while level is not None:
            stack.append(level)
            level = above.get(level.id)
    return stack


def beneath(directory: str, mounts: Iterable[Mount]) -> list[Mount]:
    """Return the mounts at or below `directory`."""
    prefix = directory.rstrip("/") + "/"
    return [mount for mount in mounts if mount.point == directory or mount.point.startswith(prefix)]


def open_directory(path: str, *, directory: int | None = None, resolve: int | None = None) -> int:
    """Open a directory with O_PATH, never asking the file system it is the root of.

    Args:
        directory: descriptor that a relative `path` starts from.
        resolve: openat2's RESOLVE_ flags; None is a plain open that follows symbolic links on the way, not the last.

    Raises:
        OSError: ELOOP for a symbolic link and EXDEV for a way out or across, where `resolve` forbids them.
    """
    flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
    if resolve is None:
        return os.open(path, flags | os.O_NOFOLLOW, dir_fd=directory)
    how = _OpenHow(flags=flags, mode=0, resolve=resolve)
    fd = _libc.syscall(
        ctypes.c_long(_SYS_OPENAT2),
        ctypes.c_int(-100 if directory is None else directory),
        os.fsencode(path),
        ctypes.byref(how),
        ctypes.c_size_t(ctypes.sizeof(how)),
    )
    if fd < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
    return int(fd)


def mount(source: str, target: str, fstype: str, flags: int, data: str) -> None:
    """mount(2); raises OSError naming type and target."""
    result = _libc.mount(
        os.fsencode(source), os.fsencode(target), fstype.encode() or None, ctypes.c_ulong(flags), data.encode() or None
    )
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"mount {fstype} on {target}: {os.strerror(number)}")


def unmount(target: str, flags: int = 0) -> None:
    """umount2(2), never following a symbolic link at the end."""
    if _libc.umount2(os.fsencode(target), ctypes.c_int(flags | UMOUNT_NOFOLLOW)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"unmount {target}: {os.strerror(number)}")


@dataclass(frozen=True, slots=True)
class Wish:
    """What a client's mount options may decide: how the mount is called, that it is read-only, and its read size.

    Everything else a client writes there (suid, dev, user_id, blkdev, …) is not asked of the kernel.
    """

    source: str = ""
    subtype: str = ""
    read_only: bool = False
    max_read_bytes: int = 0


def read_wish(options: str) -> Wish:
    """Return what of `-o` is honoured."""
    source = subtype = ""
    read_only, max_read_bytes = False, 0
    for option in re.split(r"(?<!\\),", options):
        key, _, value = option.partition("=")
        if key == "fsname":
            source = value
        elif key == "subtype":
            subtype = value
        elif key in ("ro", "rw"):
            read_only = key == "ro"
        elif key == "max_read" and value.isdecimal():
            max_read_bytes = max(_LEAST_READ_BYTES, min(_MOST_READ_BYTES, int(value)))
    return Wish(
        source=clean_name(source), subtype=clean_name(subtype), read_only=read_only, max_read_bytes=max_read_bytes
    )


def clean_name(text: str) -> str:
    """Return `text` with all that could end an option or a mountinfo field replaced."""
    return _UNSAFE.sub("_", text)[:_LONGEST_NAME]


def mount_fuse(fd: int, target: int, wish: Wish, *, uid: int, gid: int) -> None:
    """Mount the connection behind `fd` on top of whatever is at the directory open at `target`.

    Args:
        uid: owner of the connection, in this user namespace; with allow_other it decides who may abort it.
    """
    data = f"fd={fd},rootmode=40000,user_id={uid},group_id={gid},allow_other,default_permissions"
    if wish.max_read_bytes:
        data += f",max_read={wish.max_read_bytes}"
    flags = MS_NOSUID | MS_NODEV | (MS_RDONLY if wish.read_only else 0)
    mount(
        wish.source or "fuse",
        f"/proc/self/fd/{target}",
        f"fuse.{wish.subtype}" if wish.subtype else "fuse",
        flags,
        data,
    )


def abort(point: str, *, connections: str = CONNECTIONS) -> str:
    """Abort the connection of the topmost mount at `point`, which must be FUSE; the mount itself stays.

    All who wait in it get ECONNABORTED, all who come later ENOTCONN. Does nothing more when it was aborted before.

    Returns:
        how: `control` (the control file system) or `force` (MNT_FORCE on a busy mount).

    Raises:
        OSError: EINVAL when no FUSE is mounted there; EPERM when this kernel allows neither way.
    """
    held = open_directory(point)
    try:
        number = _mount_id(held)
        top = next((mount for mount in read_mounts() if mount.id == number), None)
        if top is None or not top.is_fuse:
            raise OSError(errno.EINVAL, f"abort {point}: no FUSE is mounted there")
        with suppress(FileNotFoundError, PermissionError):
            with open(f"{connections}/{top.connection}/abort", "w") as file:
                file.write("1")
            return "control"
        try:
            unmount(point, MNT_FORCE)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            return "force"
        raise OSError(errno.EINVAL, f"abort {point}: the mount was not busy and is gone")
    finally:
        os.close(held)


def unmount_all(point: str) -> int:
    """Abort and unmount everything stacked at `point`; return how many mounts that were. Idempotent."""
    count = 0
    for level in reversed(stack_at(point, read_mounts())):
        if level.is_fuse:
            # Refused on old kernels: detaching then leaves who waits inside to the death of the client.
            with suppress(PermissionError):
                abort(point)
        try:
            unmount(point, MNT_DETACH)
        except OSError as error:
            if error.errno == errno.EINVAL:
                break
            raise
        count += 1
    return count


def _mount_id(fd: int) -> int:
    with open(f"/proc/self/fdinfo/{fd}") as file:
        for line in file:
            key, _, value = line.partition(":")
            if key == "mnt_id":
                return int(value)
    raise OSError(errno.ENOSYS, "this kernel does not tell a descriptor's mount (fdinfo has no mnt_id)")


def _unescape(field: str) -> str:
    return _ESCAPE.sub(lambda match: chr(int(match.group(1), 8)), field)
