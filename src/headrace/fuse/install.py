"""Puts the stand-in for fusermount3 into a directory that sidecars see. Standard library only.

The directory gets `fusermount3` and `fusermount` (the same shell script under both names, because libfuse 2 and 3
differ) and `standin.py` beside them, so that the stand-in fits the broker that wrote it.
"""

from __future__ import annotations

import os
import shlex
import sys

from headrace.fuse import standin

NAMES = ("fusermount3", "fusermount")
DEVICE_PLACE = "device"
"""An empty file beside the broker's socket, to be shown as /dev/fuse: libfuse opens it before it asks fusermount."""


def install_standin(directory: str, *, seen_at: str, socket: str, python: str = sys.executable) -> None:
    """Write the stand-in into `directory`. Idempotent; replaces an older one without a moment of absence.

    Args:
        seen_at: where the client's container sees `directory`.
        socket: where the client's container sees the broker's socket.
        python: an interpreter of the client's container.
    """
    os.makedirs(directory, mode=0o755, exist_ok=True)
    with open(standin.__file__, encoding="utf-8") as file:
        _replace(os.path.join(directory, "standin.py"), file.read(), 0o644)
    # Isolated and without site: fast to start, and nothing in the client's environment can reach it.
    command = shlex.join([python, "-I", "-S", f"{seen_at}/standin.py", socket])
    for name in NAMES:
        _replace(os.path.join(directory, name), f'#!/bin/sh\nexec {command} "$@"\n', 0o755)


def _replace(path: str, content: str, mode: int) -> None:
    fresh = f"{path}.new"
    with open(fresh, "w", encoding="utf-8") as file:
        file.write(content)
    os.chmod(fresh, mode)
    os.rename(fresh, path)
