"""Waiting for a change in a directory without polling: inotify(7), which Python's standard library lacks."""

from __future__ import annotations

import ctypes
import os
from types import TracebackType

import anyio

_IN_MODIFY = 0x2
_IN_CLOSE_WRITE = 0x8
_IN_MOVED = 0xC0
_IN_CREATE = 0x100
_WANTED = _IN_MODIFY | _IN_CLOSE_WRITE | _IN_MOVED | _IN_CREATE

_libc = ctypes.CDLL(None, use_errno=True)


class DirectoryWatch:
    """A watch on one directory from construction to the end of the `with` block.

    Raises OSError when the user's number of watches is used up (sysctl fs.inotify.max_user_instances).
    """

    def __init__(self, directory: str) -> None:
        self._fd = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1 failed; see sysctl fs.inotify.max_user_instances")
        if _libc.inotify_add_watch(self._fd, os.fsencode(directory), _WANTED) < 0:
            number = ctypes.get_errno()
            os.close(self._fd)
            raise OSError(number, os.strerror(number), directory)

    def __enter__(self) -> DirectoryWatch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._fd)

    async def changed(self) -> None:
        """Wait until something in the directory has changed since construction or the last call."""
        while True:
            await anyio.wait_readable(self._fd)
            try:
                os.read(self._fd, 65536)
            except BlockingIOError:
                continue
            return
