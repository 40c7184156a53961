"""hostPath: the checks that its `type` asks for, before a container sees the path."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping

from headrace.errors import InvalidSpec

_IS: Mapping[str, tuple[Callable[[int], bool], str]] = {
    "Directory": (stat.S_ISDIR, "a directory"),
    "DirectoryOrCreate": (stat.S_ISDIR, "a directory"),
    "File": (stat.S_ISREG, "a file"),
    "FileOrCreate": (stat.S_ISREG, "a file"),
    "Socket": (stat.S_ISSOCK, "a socket"),
    "CharDevice": (stat.S_ISCHR, "a character device"),
    "BlockDevice": (stat.S_ISBLK, "a block device"),
}


def prepare(path: str, type: str, closed: str) -> str:
    """Return the path to bind, after making what an `…OrCreate` type asks for.

    Args:
        closed: a directory whose inside no pod may ask for by hostPath (this installation's keys and volumes).

    Raises:
        InvalidSpec: the path is not what `type` says, or lies in `closed`.
    """
    real = os.path.realpath(path)
    if os.path.commonpath([real, closed]) == closed:
        raise InvalidSpec(
            f"hostPath {path} lies inside {closed}, which holds other pods' data and this cluster's keys."
        )
    if type and type not in _IS:
        raise InvalidSpec(f"hostPath type {type!r} is unknown.", hint=f"Use one of {', '.join(_IS)}, or none.")
    try:
        if type == "DirectoryOrCreate":
            os.makedirs(real, 0o755, exist_ok=True)
        elif type == "FileOrCreate":
            os.close(os.open(real, os.O_CREAT | os.O_RDONLY | os.O_CLOEXEC, 0o644))
        mode = os.stat(real).st_mode
    except OSError as error:
        raise InvalidSpec(f"hostPath {path} cannot be used: {error.strerror}.") from error
    if type:
        holds, meaning = _IS[type]
        if not holds(mode):
            raise InvalidSpec(f"hostPath type check failed: {path} is not {meaning}.")
    return real
