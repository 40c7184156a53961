"""Puts the stand-in for fusermount3 into a directory that sidecars see. Standard library only.

The directory gets `fusermount3` and `fusermount`, because libfuse 2 and 3 differ. Where client and broker share a
machine's root they are one shell script, with `standin.py` beside it, so that the stand-in fits the broker that wrote
it. Where the client's image is the user's they are a static program (`headrace.fuse.native`). The probe `served` comes
along.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from contextlib import suppress

from headrace.fuse import standin

NAMES = ("fusermount3", "fusermount")
DEVICE_PLACE = "device"
"""An empty file beside the broker's socket, to be shown as /dev/fuse: libfuse opens it before it asks fusermount."""
_NATIVE = {"fusermount3": "fusermount3", "fusermount": "fusermount3", "served": "served"}


def install_standin(directory: str, *, seen_at: str, socket: str, python: str = sys.executable) -> None:
    """Write the stand-in and the probe into `directory`. Idempotent; replaces older ones without a moment of absence.

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
    probe = shlex.join([python, "-I", "-m", "headrace.fuse.served"])
    _replace(os.path.join(directory, "served"), f'#!/bin/sh\nexec {probe} "$@"\n', 0o755)


def install_native(directory: str, *, programs: str) -> None:
    """Put the static stand-in and the probe into `directory`. Idempotent; never a moment of absence.

    They are links to the files in `programs` where both are on one file system, so that a node holds them once.

    Args:
        programs: where `headrace.fuse.native.build` left them.

    Raises:
        FileNotFoundError: they were not built.
    """
    os.makedirs(directory, mode=0o755, exist_ok=True)
    for name, program in _NATIVE.items():
        source, fresh = os.path.join(programs, program), os.path.join(directory, f"{name}.new")
        with suppress(FileNotFoundError):
            os.unlink(fresh)
        try:
            os.link(source, fresh)
        except FileNotFoundError:
            raise
        except OSError:  # another file system, or a kernel that protects links to others' files
            shutil.copyfile(source, fresh)
            os.chmod(fresh, 0o755)
        os.rename(fresh, os.path.join(directory, name))
        with suppress(FileNotFoundError):  # rename(2) does nothing between two names of one file
            os.unlink(fresh)


def _replace(path: str, content: str, mode: int) -> None:
    fresh = f"{path}.new"
    with open(fresh, "w", encoding="utf-8") as file:
        file.write(content)
    os.chmod(fresh, mode)
    os.rename(fresh, path)
