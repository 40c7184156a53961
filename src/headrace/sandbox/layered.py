"""A root of a container's own: layers that many containers share, laid over each other, and a directory for what it writes.

The kernel does it (overlayfs, mounted in a user namespace with `userxattr`, Linux 5.11). Where it does not, whoever gave
the order copies the layers into the directory, which is then the root as it is.
"""

from __future__ import annotations

import os

from headrace.sandbox import syscalls
from headrace.sandbox.wire import Message, Refusal

NO_OVERLAY = "NoOverlay"
"""Code of the refusal where the kernel does not lay these layers over each other: try again with a copy."""

_FLAGS = syscalls.MS_NOSUID | syscalls.MS_NODEV
_PLACE = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


class Layered:
    """What a root is made of, opened while its paths still mean something."""

    def __init__(self, root: Message) -> None:
        directory = root["directory"]
        self._layers = [os.open(path, _PLACE) for path in root["layers"]]
        names = ("upper", "work") if self._layers else ("tree",)
        self._own = [os.open(os.path.join(directory, name), _PLACE) for name in names]

    def mount(self, target: str, own_fds: str) -> None:
        """Mount the root on `target`, and let go of what it is made of.

        Args:
            own_fds: path of a /proc/self/fd that works now. Layers are named relative to it: their paths would not fit
                into the one page that mount(2) takes.

        Raises:
            Refusal: with code NO_OVERLAY.
        """
        if self._layers:
            upper, work = self._own
            lower = ":".join(str(fd) for fd in self._layers)
            here = os.open(".", _PLACE)
            os.chdir(own_fds)
            try:
                data = f"lowerdir={lower},upperdir={upper},workdir={work},userxattr"
                syscalls.mount("overlay", target, "overlay", _FLAGS, data)
            except OSError as error:
                raise Refusal(
                    NO_OVERLAY, f"the image's layers cannot be laid over each other: {error.strerror}"
                ) from error
            finally:
                os.fchdir(here)
                os.close(here)
        else:
            syscalls.mount(f"{own_fds}/{self._own[0]}", target, flags=syscalls.MS_BIND)
            fd = os.open(target, _PLACE)
            syscalls.change_mount(fd, propagation=syscalls.MS_PRIVATE)
            os.close(fd)
        for fd in (*self._layers, *self._own):
            os.close(fd)
