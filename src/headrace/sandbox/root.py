"""Builds the file system that one container sees, and makes it the caller's `/`.

The caller is a container's pid 1 in a mount namespace of its own, still with its world's capabilities. The root is
either a fresh tmpfs into which the entries of `/` of this machine, or of a directory, are bound read-only, with a `/tmp`
of the container's own; or one that is the container's own altogether (`layered`). `/proc` and `/dev` are always its own;
what the order mounts comes last. Nothing of the old root stays reachable.
"""

from __future__ import annotations

import errno
import os
import stat

from headrace.sandbox import syscalls
from headrace.sandbox.layered import Layered
from headrace.sandbox.place import Entry, Tree, open_entry, open_sub_path
from headrace.sandbox.unprivileged import python_paths
from headrace.sandbox.wire import Message

_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_DEV_LINKS = {
    "ptmx": "pts/ptmx",
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
}
_OWN = ("proc", "dev", "tmp", "sys")
_QUIET = syscalls.MS_NOSUID | syscalls.MS_NODEV
_OLD = "/oldroot"
_NEW = "/root"
_OWN_FDS = f"{_OLD}/proc/self/fd"


def enter_own_root(order: Message, *, stage: str, fresh_proc: bool) -> None:
    """Leave the world's mount namespace and make `/` what `order` describes (see `orders.container`).

    Args:
        stage: an existing directory for nothing but mounting on; nothing is written into it.
        fresh_proc: whether the kernel lets us mount a new /proc; if not, the world's is bound.

    Raises OSError with the place in its text; the caller is then unfit for anything but to end.
    """
    syscalls.unshare(syscalls.CLONE_NEWNS)
    # Slaves of the world: its later mounts and unmounts reach us, ours never leave. A private copy would keep a
    # FUSE mount alive here after the world has unmounted it.
    syscalls.mount("none", "/", flags=syscalls.MS_SLAVE | syscalls.MS_REC)
    sources = [_open_source(mount) for mount in order["mounts"]]
    tree = Tree(_NEW, own_fds=_OWN_FDS, scratch="/")
    if isinstance(order["root"], dict):
        layered = Layered(order["root"])
        _stand_beside(stage)
        layered.mount(_NEW, _OWN_FDS)
        _mount_system(tree, order, fresh_proc=fresh_proc)
        os.close(tree.ensure(order["cwd"], is_file=False))
        _bind_mounts(tree, order["mounts"], sources)
        _stay_writable(tree, order)
    else:
        interpreter = _open_interpreter() if order["root"] == "host" else {}
        image = os.open("/" if order["root"] == "host" else order["root"], os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        _stand_beside(stage)
        _mount_empty()
        _bind_image(tree, image, read_only=order["read_only_root"])
        _mount_system(tree, order, fresh_proc=fresh_proc)
        tree.mount("/tmp", tmpfs="mode=1777")
        _hide(tree, order["masks"])
        _bind_mounts(tree, order["mounts"], sources)
        _bind_entries(tree, interpreter)
    _write_files(tree, order)
    tree.seal()
    if order["read_only_root"]:
        top = os.open(_NEW, os.O_PATH | os.O_DIRECTORY)
        syscalls.change_mount(top, read_only=True)
        os.close(top)
    os.chdir(_NEW)
    syscalls.pivot_root(".", ".")
    syscalls.umount(".", syscalls.MNT_DETACH)
    os.chdir("/")


def _open_interpreter() -> dict[str, Entry]:
    """Open what our interpreter needs of this machine's /tmp, where an installation may be tried out: containers have a
    /tmp of their own, and their tools are run with this interpreter."""
    paths = sorted({os.path.realpath(path) for path in python_paths()})
    return {path: open_entry(path) for path in paths if path.startswith("/tmp/")}


def _open_source(mount: Message) -> Entry | None:
    if "source" not in mount:
        return None
    try:
        volume = open_entry(mount["source"], follow=True)
    except OSError as error:
        raise OSError(error.errno, f"volume source {mount['source']}: {os.strerror(error.errno or 0)}") from error
    if not mount["sub_path"]:
        return volume
    try:
        return open_sub_path(volume, mount["sub_path"])
    except OSError as error:
        why = "it leads out of the volume" if error.errno == errno.EXDEV else os.strerror(error.errno or 0)
        raise OSError(
            error.errno, f"sub-path {mount['sub_path']!r} of the volume on {mount['target']}: {why}"
        ) from error
    finally:
        os.close(volume.fd)


def _stand_beside(stage: str) -> None:
    """Make `/` a tmpfs, with the old root at `/oldroot`, outside of everything that will be bound from it, and a `/root`."""
    syscalls.mount("tmpfs", stage, "tmpfs", _QUIET, "mode=0755,size=16m")  # small files only, see _write_files
    os.chdir(stage)
    os.mkdir("oldroot")
    os.mkdir("root")
    syscalls.pivot_root(".", "oldroot")
    os.chdir("/")


def _mount_empty() -> None:
    syscalls.mount("tmpfs", _NEW, "tmpfs", _QUIET, "mode=0755")
    syscalls.mount("none", _NEW, flags=syscalls.MS_PRIVATE)


def _hide(tree: Tree, masks: list[str]) -> None:
    null = open_entry(f"{_OLD}/dev/null")
    for mask in masks:
        tree.hide(mask, null=null)
    os.close(null.fd)


def _bind_entries(tree: Tree, entries: dict[str, Entry]) -> None:
    for path, entry in entries.items():
        tree.mount(path, source=entry, read_only=True)
        os.close(entry.fd)


def _stay_writable(tree: Tree, order: Message) -> None:
    """Bind what the image calls volumes on itself: they stay writable where the root is not (as containerd has it)."""
    for path in order["root"]["volumes"] if order["read_only_root"] else ():
        place = tree.ensure(path, is_file=False)
        syscalls.mount(tree.fd_path(place), tree.fd_path(place), flags=syscalls.MS_BIND)
        os.close(place)


def _bind_image(tree: Tree, image: int, *, read_only: bool) -> None:
    here = tree.fd_path(image)
    for name in os.listdir(here):
        if name in _OWN:
            continue
        fd, is_directory = open_entry(name, image)
        if is_directory:
            tree.mount(f"/{name}", source=Entry(fd, True), read_only=read_only, propagation=syscalls.MS_SLAVE)
        elif stat.S_ISLNK(os.fstat(fd).st_mode):
            os.symlink(os.readlink("", dir_fd=fd), f"{_NEW}/{name}")
        else:
            tree.mount(f"/{name}", source=Entry(fd, False), read_only=read_only, propagation=syscalls.MS_SLAVE)
        os.close(fd)
    os.close(image)


def _mount_system(tree: Tree, order: Message, *, fresh_proc: bool) -> None:
    """Mount /sys, /proc and /dev, wherever links of the image may lead these names inside of it."""
    sys_fd = os.open(f"{_OLD}/sys", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    tree.mount("/sys", source=Entry(sys_fd, True), read_only=True, propagation=syscalls.MS_SLAVE)
    os.close(sys_fd)
    proc = tree.ensure("/proc", is_file=False)
    if fresh_proc:
        syscalls.mount("proc", tree.fd_path(proc), "proc", _QUIET | syscalls.MS_NOEXEC)
    else:
        syscalls.mount(f"{_OLD}/proc", tree.fd_path(proc), flags=syscalls.MS_BIND | syscalls.MS_REC)
    os.close(proc)
    tree.mount("/dev", tmpfs="mode=0755,size=64k", flags=syscalls.MS_NOSUID | syscalls.MS_NOEXEC)
    dev = tree.ensure("/dev", is_file=False)
    _make_dev(tree.fd_path(dev), order["shm_bytes"])
    os.close(dev)


def _make_dev(dev: str, shm_bytes: int) -> None:
    for name in _DEVICES:
        os.close(os.open(f"{dev}/{name}", os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o666))
        syscalls.mount(f"{_OLD}/dev/{name}", f"{dev}/{name}", flags=syscalls.MS_BIND)
    for name, target in _DEV_LINKS.items():
        os.symlink(target, f"{dev}/{name}")
    os.mkdir(f"{dev}/pts")
    syscalls.mount("devpts", f"{dev}/pts", "devpts", syscalls.MS_NOSUID | syscalls.MS_NOEXEC, "mode=0620,ptmxmode=0666")
    os.mkdir(f"{dev}/shm")
    syscalls.mount("tmpfs", f"{dev}/shm", "tmpfs", _QUIET, f"mode=1777,size={shm_bytes}")


def _bind_mounts(tree: Tree, mounts: list[Message], sources: list[Entry | None]) -> None:
    """Outer targets first, so that one inside another is not covered."""
    for mount, source in sorted(zip(mounts, sources, strict=True), key=lambda pair: pair[0]["target"].count("/")):
        tree.mount(
            mount["target"],
            source=source,
            tmpfs=tmpfs_options(mount["tmpfs"]) if source is None else "",
            read_only=mount["read_only"],
            propagation=syscalls.MS_SLAVE if mount["propagation"] == "HostToContainer" else syscalls.MS_PRIVATE,
            recursive=mount["recursive"],
        )
        if source is not None:
            os.close(source.fd)


def tmpfs_options(tmpfs: Message) -> str:
    """Return mount data for `{"mode", "size_bytes"}`; size 0 is the kernel's default, half of the memory."""
    return f"mode={tmpfs['mode']:o}" + (f",size={tmpfs['size_bytes']}" if tmpfs["size_bytes"] else "")


def _write_files(tree: Tree, order: Message) -> None:
    """Bind the small files that are the container's own: hosts, resolv.conf, hostname, and its last words."""
    files = (
        ("etc-hosts", "/etc/hosts", order["etc_hosts"], False),
        ("resolv-conf", "/etc/resolv.conf", order["resolv_conf"], False),
        ("hostname", "/etc/hostname", f"{order['hostname']}\n" if isinstance(order["root"], dict) else None, True),
        ("termination-message", order["termination_message_path"], "", True),
    )
    for name, target, text, is_writable in files:
        if not target or text is None:
            continue
        with open(f"/{name}", "w") as file:
            file.write(text)
        fd = os.open(f"/{name}", os.O_PATH | os.O_CLOEXEC)
        tree.mount(target, source=Entry(fd, False), read_only=not is_writable)
        os.close(fd)
