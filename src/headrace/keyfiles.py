"""Files that hold keys, tokens and credentials: they appear whole, and only their owner may read them."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def write_private(path: Path, content: bytes) -> None:
    """Put `content` at `path` with mode 0600, atomically and durably: readers see the old file or the new one."""
    handle, aside = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(aside, path)
    except BaseException:
        Path(aside).unlink(missing_ok=True)
        raise


@contextmanager
def private_directory(directory: Path) -> Iterator[None]:
    """Make `directory` with mode 0700 when it is missing and hold its lock against other processes meanwhile.

    What runs inside must be short: the wait for the lock has no deadline.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (directory / ".lock").open("a") as lock:
        (directory / ".lock").chmod(0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
