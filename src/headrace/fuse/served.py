"""Whether a FUSE mount is served and can be listed, asked so that nothing here can hang.

A file system call on a mount that nobody serves waits in the kernel; once the client has taken the request not even
SIGKILL ends the wait, only the end of the connection does. So a child asks, and is left behind at the deadline.

    python -m headrace.fuse.served [--alive] PATH [SECONDS]      exit code 0: yes; 1: no, with one sentence

is the start-up probe of every FUSE sidecar: served and listed. With `--alive` it is the liveness probe: no only when
the connection is at an end. Whoever waits for its storage may be helped by patience, and is ended by the broker after
its own, longer deadline; who has lost its connection serves nobody any more. Standard library only.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import sys
from collections.abc import Callable
from contextlib import suppress

from headrace.fuse.mounts import beneath, read_mounts

DEFAULT_DEADLINE_S = 5.0
_UNKNOWN = 255
_ENDED = (errno.ENOTCONN, errno.ECONNABORTED)


class Look:
    """One look at a path by a child of its own. `pidfd` becomes readable when the answer is there."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.pid = os.fork()
        if self.pid == 0:
            _look_and_exit(path)
        self.pidfd = os.pidfd_open(self.pid)

    def result(self) -> int | None:
        """Return 0 when served and listed, the errno of what failed, or None while there is no answer yet."""
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if pid == 0:
            return None
        os.close(self.pidfd)
        return os.WEXITSTATUS(status) if os.WIFEXITED(status) else errno.EINTR

    def abandon(self) -> None:
        """Kill the child. It may only end with the connection; `result` still has to be asked until it answers."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)


def why_not_served(path: str, deadline_s: float = DEFAULT_DEADLINE_S) -> str:
    """Return an empty text when FUSE is mounted at `path` or beneath it, answers, and can be listed; else why not."""
    return _first_reason(
        path,
        lambda point, number: _silent(point, deadline_s) if number is None else sentence(point, number),
        deadline_s,
    )


def why_not_alive(path: str, deadline_s: float = DEFAULT_DEADLINE_S) -> str:
    """Return an empty text unless nothing is mounted at `path` or beneath it, or a connection there has ended."""
    return _first_reason(path, lambda point, number: sentence(point, number) if number in _ENDED else "", deadline_s)


def _first_reason(path: str, judge: Callable[[str, int | None], str], deadline_s: float) -> str:
    """Return what `judge` says first of the FUSE mounts there and of what a look at each gave (None: no answer)."""
    path = os.path.normpath(path)
    found = {mount.point for mount in beneath(path, read_mounts()) if mount.is_fuse}
    if not found:
        return f"No FUSE file system is mounted at {path}."
    return next(filter(None, (judge(point, _ask(point, deadline_s)) for point in sorted(found))), "")


def _silent(point: str, deadline_s: float) -> str:
    return f"{point} is mounted but nobody answered for {deadline_s:g} s."


def sentence(path: str, number: int) -> str:
    """Return what an errno of a look means, empty for 0."""
    if number == 0:
        return ""
    if number in _ENDED:
        return f"The client of {path} has ended ({os.strerror(number)})."
    return f"{path} is mounted but cannot be listed: {os.strerror(number)}."


def _ask(point: str, deadline_s: float) -> int | None:
    look = Look(point)
    poller = select.poll()
    poller.register(look.pidfd, select.POLLIN)
    if not poller.poll(deadline_s * 1000):
        look.abandon()
        return None
    number = look.result()
    return _UNKNOWN if number is None else number


def _look_and_exit(path: str) -> None:
    """In the child: never returns. Holds none of the parent's streams, so that whoever reads them sees their end."""
    code = _UNKNOWN
    try:
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(null, stream)
        os.closerange(3, 4096)
        os.statvfs(path)
        with os.scandir(path) as entries:
            next(entries, None)
        code = 0
    except OSError as error:
        code = (error.errno or _UNKNOWN) & 0xFF
    finally:
        os._exit(code)


def main(arguments: list[str]) -> int:
    """Run the probe; prints why not on stderr."""
    why_not = why_not_alive if arguments[:1] == ["--alive"] else why_not_served
    words = arguments[1:] if why_not is why_not_alive else arguments
    if not 1 <= len(words) <= 2:
        sys.stderr.write("usage: python -m headrace.fuse.served [--alive] PATH [SECONDS]\n")
        return 2
    reason = why_not(words[0], float(words[1]) if len(words) == 2 else DEFAULT_DEADLINE_S)
    if reason:
        sys.stderr.write(reason + "\n")
    return 1 if reason else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
