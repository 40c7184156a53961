"""The last steps of a process before it becomes the user's program: session, limits, user namespace, no privilege, exec.

Shared by a container's main process and by `exec`. Everything here runs after the fork, in the child.
"""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import signal
import termios
from collections.abc import Mapping, Sequence

from headrace.sandbox import syscalls
from headrace.sandbox.wire import Message, Refusal

_LIMITS = {"data_bytes": resource.RLIMIT_DATA, "nofile": resource.RLIMIT_NOFILE, "core": resource.RLIMIT_CORE}


def map_ids(uid: int, gid: int, *, outside_uid: int, outside_gid: int) -> None:
    """In a user namespace just entered: be `uid` and `gid` inside, `outside_uid` and `outside_gid` for the one above."""
    _write("/proc/self/setgroups", "deny")  # the kernel's condition for a gid map by a process without privilege
    _write("/proc/self/uid_map", f"{uid} {outside_uid} 1")
    _write("/proc/self/gid_map", f"{gid} {outside_gid} 1")


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def use_streams(fds: Sequence[int]) -> None:
    """Make `fds` stdin, stdout and stderr; one descriptor is a terminal and becomes all three and the controlling one."""
    stdin, stdout, stderr = fds if len(fds) == 3 else (fds[0], fds[0], fds[0])
    # Numbers below 3 could be overwritten before they are used.
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3) for fd in (stdin, stdout, stderr)]
    for number, fd in enumerate(high):
        os.dup2(fd, number, inheritable=True)
    os.setsid()
    if len(fds) == 1:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def limit(limits: Message) -> None:
    """Apply the rlimits that an order names (`data_bytes`, `nofile`, `core`), never above what the caller may have."""
    for name, number in _LIMITS.items():
        if limits.get(name) is not None:
            _, hard = resource.getrlimit(number)
            wanted = int(limits[name])
            most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
            resource.setrlimit(number, (most, most))


def raise_oom_score(wanted: int | None) -> None:
    """Make the kernel kill this process sooner; making it later takes privilege, so a lower wish stays unfulfilled."""
    if wanted is None:
        return
    try:
        _write("/proc/self/oom_score_adj", str(wanted))
    except PermissionError:
        return


def give_up_privilege() -> None:
    """No capability, no way to get one, and nobody who shares the uid may look into us before exec."""
    syscalls.set_dumpable(False)
    syscalls.set_no_new_privileges()
    syscalls.drop_capabilities()


def execute(argv: Sequence[str], env: Mapping[str, str], cwd: str, *, where: str = "in the container") -> None:
    """Become the program; raises Refusal with code `StartFailed` and a sentence for a person, which says `where`."""
    try:
        os.chdir(cwd)
    except OSError as error:
        raise Refusal(
            "StartFailed", f"working directory {cwd!r} cannot be entered {where}: {error.strerror}"
        ) from error
    os.umask(0o022)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and exec would pass that on
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    try:
        os.execvpe(argv[0], list(argv), dict(env))
    except (OSError, ValueError) as error:
        raise Refusal("StartFailed", _why_not(argv[0], error, where)) from error


def _why_not(name: str, error: Exception, where: str) -> str:
    number = error.errno if isinstance(error, OSError) else None
    if number == errno.ENOENT and os.path.sep in name and os.path.exists(name):
        return f"{name!r} cannot run {where}: the interpreter it names is missing"
    if number in (errno.ENOENT, errno.ENOTDIR):
        return f"command not found {where}: {name!r}"
    if number == errno.EACCES:
        return f"{name!r} may not be executed {where}: it is no executable file for this user"
    if number == errno.ENOEXEC:
        return f"{name!r} is no program this machine can run: unknown format, or a script without a #! line"
    if number == errno.E2BIG:
        return f"{name!r} cannot start: arguments and environment together are too long"
    return f"{name!r} cannot start: {error}"
