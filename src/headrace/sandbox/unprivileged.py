"""Root's first step: become nobody, for good, in a mount namespace where what is needed can still be reached.

Started by root, Headrace gives pods no more than an ordinary user's pods have, so it becomes an ordinary user before it
does anything else. What root keeps from others (a Python below a 0700 /root, /dev/fuse with mode 0600) is made usable
in a private mount namespace; nothing changes for the machine, and nothing else of root's becomes reachable.

    python -m headrace.sandbox.unprivileged [--reach PATH]… [--own PATH]… -- COMMAND…
"""

from __future__ import annotations

import errno
import os
import stat
import sys
import tempfile
from collections.abc import Sequence

from headrace.sandbox import syscalls

NOBODY = 65534
_FUSE = "/dev/fuse"
_FUSE_NUMBER = (10, 229)


def become(*, reach: Sequence[str] = (), own: Sequence[str] = ()) -> None:
    """Be uid and gid 65534 without groups and capabilities; nothing happens unless called by root, before any thread.

    Args:
        reach: directories and files that must stay usable for reading, whatever their parents allow. Where a parent
            is closed to others, an empty directory with only these paths in it takes its place.
        own: directories that the process may write: made if missing, given to nobody, and reachable.

    Raises SystemExit with a sentence when one of the paths is out of reach all the same.
    """
    if os.geteuid() != 0:
        return
    for path in own:
        os.makedirs(path, mode=0o700, exist_ok=True)
        os.chown(path, NOBODY, NOBODY)
    wanted = [os.path.realpath(path) for path in (*reach, *own)]
    try:
        syscalls.unshare(syscalls.CLONE_NEWNS)
        syscalls.mount("none", "/", flags=syscalls.MS_SLAVE | syscalls.MS_REC)
    except PermissionError:
        pass  # root of a container that may not mount: go on with what others may reach
    else:
        _open_closed_parents(wanted)
        _give_fuse()
    _drop(home=own[0] if own else "/")
    for path in wanted:
        if not os.access(path, os.R_OK):
            raise SystemExit(
                f"{path} cannot be read by an ordinary user, and Headrace started by root runs as one: "
                f"run chmod -R o+rX {path}, or start Headrace as an ordinary user"
            )


def python_paths() -> list[str]:
    """Return what this interpreter needs to start again: its prefixes and the packages it was started with."""
    package = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    return [sys.prefix, sys.base_prefix, package]


def is_closed(path: str) -> bool:
    """Tell whether nobody may not pass through directory `path`."""
    status = os.stat(path)
    return not status.st_mode & (stat.S_IXUSR if status.st_uid == NOBODY else stat.S_IXOTH)


def closed_parent(path: str) -> str:
    """Return the uppermost parent of `path` that is closed to nobody, "" when all are open."""
    parts = path.split("/")[1:-1]
    parents = ["/" + "/".join(parts[: count + 1]) for count in range(len(parts))]
    return next((parent for parent in parents if is_closed(parent)), "")


def _open_closed_parents(paths: Sequence[str]) -> None:
    """Put an empty directory over each closed parent, and bind in it what was asked for."""
    behind: dict[str, list[tuple[str, int]]] = {}
    for path in sorted(set(paths)):
        parent = closed_parent(path)
        if not parent or any(path.startswith(f"{outer}/") for outer, _ in behind.get(parent, ())):
            continue
        behind.setdefault(parent, []).append((path, os.open(path, os.O_PATH | os.O_CLOEXEC)))
    for parent, kept in behind.items():
        syscalls.mount("tmpfs", parent, "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, "mode=0755")
        for path, fd in kept:
            if stat.S_ISDIR(os.fstat(fd).st_mode):
                os.makedirs(path, mode=0o755)
            else:
                os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
                os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))
            syscalls.mount(f"/proc/self/fd/{fd}", path, flags=syscalls.MS_BIND | syscalls.MS_REC)
            os.close(fd)


def _give_fuse() -> None:
    """Put a device of mode 0666 over /dev/fuse where others may not use the machine's.

    Safe to hand out: opening it gives nothing that a mount in one's own user namespace does not allow anyway.
    """
    if not os.path.exists(_FUSE) or os.stat(_FUSE).st_mode & 0o006 == 0o006:
        return
    place = tempfile.mkdtemp(prefix="headrace-fuse-")
    try:
        syscalls.mount("tmpfs", place, "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NOEXEC, "mode=0755,size=4k")
        os.mknod(f"{place}/fuse", stat.S_IFCHR | 0o666, os.makedev(*_FUSE_NUMBER))
        os.chmod(f"{place}/fuse", 0o666)
        syscalls.mount(f"{place}/fuse", _FUSE, flags=syscalls.MS_BIND)
        syscalls.umount(place, syscalls.MNT_DETACH)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EACCES):
            raise
        # No right to make device nodes here: the probe will say that FUSE is missing, and why.
    os.rmdir(place)


def _drop(home: str) -> None:
    os.chdir("/")
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)  # takes the effective and permitted capabilities along
    syscalls.set_dumpable(
        True
    )  # changing uid made /proc/self root's, and the maps of user namespaces are written there
    os.environ |= {"HOME": home, "USER": "nobody", "LOGNAME": "nobody"}


def main(arguments: Sequence[str]) -> None:
    """Become nobody and execute the command."""
    options, dashes, command = arguments, False, list[str]()
    if "--" in arguments:
        cut = list(arguments).index("--")
        options, dashes, command = arguments[:cut], True, list(arguments[cut + 1 :])
    pairs = list(zip(options[::2], options[1::2], strict=False))
    if not dashes or not command or len(options) % 2 or any(name not in ("--reach", "--own") for name, _ in pairs):
        raise SystemExit("usage: unprivileged [--reach PATH]… [--own PATH]… -- COMMAND…")
    reach = [path for name, path in pairs if name == "--reach"]
    become(reach=[*python_paths(), *reach], own=[path for name, path in pairs if name == "--own"])
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
