"""Mounts in the world's own mount namespace: tmpfs and binds, unmounting, and the list of what there is.

All orders are idempotent. What is mounted here under a directory that containers have bound with propagation
`HostToContainer` appears in them, and goes from them, at once.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re

from headrace.sandbox import orders, syscalls
from headrace.sandbox.jobs import answer_from_child
from headrace.sandbox.loop import Loop
from headrace.sandbox.root import tmpfs_options
from headrace.sandbox.server import Call, Handler
from headrace.sandbox.wire import Message, Refusal

_WITHIN_S = 15.0
_ESCAPE = re.compile(r"\\([0-7]{3})")


class Mounts:
    """The orders about mounts.

    Args:
        why_not: the sentence why this machine lets us mount nothing, "" where it does. A tmpfs is then an ordinary
            directory, and a bind is refused.
    """

    def __init__(self, loop: Loop, *, why_not: str) -> None:
        self._loop = loop
        self._why_not = why_not
        self.handlers: dict[str, Handler] = {
            "mount.tmpfs": self._tmpfs,
            "mount.bind": self._bind,
            "mount.mirror": self._mirror,
            "mount.unmount": self._unmount,
            "mount.list": self._list,
        }

    def _tmpfs(self, call: Call) -> None:
        target = orders.path(call.request, "target")
        if self._why_not:
            os.makedirs(target, mode=0o755, exist_ok=True)
            call.ok(already=False, plain=True)
            return
        options = orders.tmpfs({key: value for key, value in call.request.items() if key in ("mode", "size_bytes")})
        answer_from_child(self._loop, call, lambda: mount_tmpfs(target, tmpfs_options(options)), timeout_s=_WITHIN_S)

    def _bind(self, call: Call) -> None:
        source, target = orders.path(call.request, "source"), orders.path(call.request, "target")
        if self._why_not:
            raise Refusal("Unsupported", f"{source} cannot be bound on {target}: {self._why_not}")
        read_only = orders.flag(call.request, "read_only", False)
        recursive = orders.flag(call.request, "recursive", True)
        answer_from_child(
            self._loop,
            call,
            lambda: bind(source, target, read_only=read_only, recursive=recursive),
            timeout_s=_WITHIN_S,
        )

    def _mirror(self, call: Call) -> None:
        source, target = orders.path(call.request, "source"), orders.path(call.request, "target")
        if self._why_not:
            raise Refusal("Unsupported", f"{source} cannot be mirrored at {target}: {self._why_not}")
        read_only = orders.flag(call.request, "read_only", False)
        answer_from_child(self._loop, call, lambda: mirror(source, target, read_only=read_only), timeout_s=_WITHIN_S)

    def _unmount(self, call: Call) -> None:
        target = orders.path(call.request, "target")
        every, lazy = orders.flag(call.request, "all", False), orders.flag(call.request, "lazy", False)
        answer_from_child(self._loop, call, lambda: unmount(target, every=every, lazy=lazy), timeout_s=_WITHIN_S)

    def _list(self, call: Call) -> None:
        prefix = orders.path(call.request, "prefix", "/")
        call.ok(mounts=[found for found in listed() if is_beneath(found["target"], prefix)])


def mount_tmpfs(target: str, options: str) -> Message:
    """Mount a tmpfs on `target`, made if missing, unless the top mount there is one already."""
    os.makedirs(target, mode=0o755, exist_ok=True)
    top = _top(target)
    if top is None or top["type"] != "tmpfs":
        syscalls.mount("tmpfs", target, "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, options)
    return {"already": top is not None and top["type"] == "tmpfs"}


def bind(source: str, target: str, *, read_only: bool, recursive: bool) -> Message:
    """Bind `source` on `target`, made if missing, unless the top mount there shows the same directory or file already."""
    try:
        wanted = os.stat(source)
    except FileNotFoundError as error:
        raise Refusal("NotFound", f"{source} cannot be bound: it does not exist") from error
    is_directory = os.path.isdir(source)
    os.makedirs(target if is_directory else os.path.dirname(target), mode=0o755, exist_ok=True)
    if not is_directory:
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))
    if _top(target) is not None:
        there = os.stat(target)
        if (there.st_dev, there.st_ino) == (wanted.st_dev, wanted.st_ino):
            return {"already": True}
    syscalls.mount(source, target, flags=syscalls.MS_BIND | (syscalls.MS_REC if recursive else 0))
    if read_only:
        fd = os.open(target, os.O_PATH | os.O_CLOEXEC)
        try:
            syscalls.change_mount(fd, read_only=True, recursive=recursive)
        finally:
            os.close(fd)
    return {"already": False}


def mirror(source: str, target: str, *, read_only: bool) -> Message:
    """Show the directory `source` at `target`, made if missing, now and from now on: what is mounted on `source` later
    appears at `target` and in containers that have it with HostToContainer. Never the other way round.

    A plain bind would make both peers: then unmounting one place of a stack takes the mount off the source and off all
    other places (mount_namespaces(7), "Unmounting a shared mount"). Stacked on what is at `target`, unless the top
    mount there is of the same file system already. Asks no file system, so it does not wait for a dead client.
    """
    try:
        copy = syscalls.clone_mounts(source)
    except FileNotFoundError as error:
        raise Refusal("NotFound", f"{source} cannot be mirrored: it does not exist") from error
    try:
        there = _top(target)
        if there is None:
            os.makedirs(target, mode=0o755, exist_ok=True)
        elif there["device"] == _device_at(source):
            return {"already": True}
        syscalls.change_mount(copy, read_only=read_only, propagation=syscalls.MS_SLAVE, recursive=True)
        syscalls.attach_mounts(copy, target)
    finally:
        os.close(copy)
    return {"already": False}


def unmount(target: str, *, every: bool, lazy: bool) -> Message:
    """Take the top mount off `target`, or every one stacked there; nothing to take off is fine.

    Never waits for the file system: a FUSE mount whose client is gone comes off like any other.
    """
    count = 0
    flags = syscalls.UMOUNT_NOFOLLOW | (syscalls.MNT_DETACH if lazy else 0)
    while _top(target) is not None:
        try:
            syscalls.umount(target, flags)
        except OSError as error:
            if error.errno == errno.EBUSY:
                raise Refusal("Conflict", f"{target} is in use; stop what uses it, or unmount it lazily") from error
            if error.errno == errno.EINVAL:
                raise Refusal("Invalid", f"{target} is a mount of the machine, not of this world; it stays") from error
            raise
        count += 1
        if not every:
            break
    return {"unmounted": count}


def end_connections() -> None:
    """End every FUSE connection mounted here, so that nobody waits in one whose client is gone. Waits for nothing.

    A killed client that waits in its own mount keeps the connection, and the connection keeps it (seen with JuiceFS).
    The machine's own FUSE mounts are out of reach: forcing one needs the user namespace that mounted it.
    """
    for mount in listed():
        if mount["type"].partition(".")[0] == "fuse":
            with contextlib.suppress(OSError):
                syscalls.umount(mount["target"], syscalls.MNT_FORCE | syscalls.UMOUNT_NOFOLLOW)


def listed(path: str = "/proc/self/mountinfo") -> list[Message]:
    """Return all mounts of a mount namespace in the order they are stacked: id, parent, target, options, type, source.

    Source: proc(5), /proc/pid/mountinfo.
    """
    found = []
    with open(path) as file:
        for line in file:
            fields, _, rest = line.rstrip("\n").partition(" - ")
            number, parent, device, root, target, options, *_ = fields.split(" ")
            kind, source, *_ = rest.split(" ")
            found.append(
                {
                    "id": int(number),
                    "parent": int(parent),
                    "device": device,
                    "root": _unescape(root),
                    "target": _unescape(target),
                    "options": options.split(","),
                    "type": kind,
                    "source": _unescape(source),
                }
            )
    return found


def is_beneath(path: str, prefix: str) -> bool:
    """Tell whether `path` is `prefix` or beneath it."""
    return prefix == "/" or path == prefix or path.startswith(f"{prefix}/")


def _device_at(path: str) -> str:
    """Return the device of the file system one sees at `path`, which need be no mount point itself."""
    while True:
        top = _top(path)
        if top is not None:
            return str(top["device"])
        if path == "/":
            return ""
        path = os.path.dirname(path)


def _top(target: str) -> Message | None:
    """The mount one sees at `target`, None when it is no mount point.

    Mountinfo is ordered by the tree, not by age; among several on one place the top one is nobody's parent there.
    """
    place = os.path.join(os.path.realpath(os.path.dirname(target)), os.path.basename(target))
    stacked = [found for found in listed() if found["target"] == place]
    parents = {found["parent"] for found in stacked}
    return next((found for found in stacked if found["id"] not in parents), None)


def _unescape(text: str) -> str:
    return _ESCAPE.sub(lambda match: chr(int(match.group(1), 8)), text)
