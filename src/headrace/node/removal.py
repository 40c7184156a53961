"""Deleting a directory tree that others wrote: also directories whose owner may not enter them himself."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path


def remove(path: Path) -> None:
    """Delete a file or a tree. Links are never followed. Blocks; idempotent.

    Raises:
        OSError: something belongs to somebody else.
    """
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    try:
        shutil.rmtree(path)
    except PermissionError:
        _open_up(path)
        shutil.rmtree(path)


def _open_up(path: Path) -> None:
    """Let the owner into every directory, as root in a container would be: programs and overlayfs leave some of mode 0."""
    path.chmod(0o700)
    for place, names, _ in os.walk(path):
        for name in names:
            inner = os.path.join(place, name)
            if not os.path.islink(inner):
                with suppress(OSError):
                    os.chmod(inner, 0o700)
