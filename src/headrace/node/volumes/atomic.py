"""A directory of files that changes all at once: `..data` is a symbolic link, and moving it is the change.

The layout is Kubernetes' (`pkg/volume/util/atomic_writer.go`), which programs that watch their configuration rely on:

    config.json -> ..data/config.json
    ..data -> ..2026_11_23_21_05_00.000000001
    ..2026_11_23_21_05_00.000000001/config.json
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping
from typing import NamedTuple

from headrace.errors import InvalidSpec

_DATA = "..data"


class File(NamedTuple):
    """Content and permission bits of one file."""

    content: bytes
    mode: int


def check_path(path: str) -> str:
    """Return the relative path of a file inside a volume; raises InvalidSpec for one that leads out of it."""
    parts = path.split("/")
    if not path or path.startswith("/") or ".." in parts or parts[0].startswith(".."):
        raise InvalidSpec(f"{path!r} is no path inside a volume: it must be relative and may not begin with '..'.")
    return os.path.normpath(path)


def write(directory: str, files: Mapping[str, File]) -> bool:
    """Make `directory` (which must exist) hold exactly `files`, by relative path; tell whether anything changed.

    Readers see either all old or all new files. Idempotent; a write that was cut short is completed by the next one.
    """
    current = _current(directory)
    if current is not None and _holds(os.path.join(directory, current), files):
        _link(directory, files)
        return False
    fresh = f"..{time.strftime('%Y_%m_%d_%H_%M_%S')}.{time.time_ns() % 10**9:09d}"
    os.mkdir(os.path.join(directory, fresh), 0o755)
    for path, file in files.items():
        _write_file(os.path.join(directory, fresh, path), file)
    beside = os.path.join(directory, "..data_tmp")
    if os.path.lexists(beside):
        os.unlink(beside)
    os.symlink(fresh, beside)
    os.rename(beside, os.path.join(directory, _DATA))
    _link(directory, files)
    _sweep(directory, files, fresh)
    return True


def _write_file(path: str, file: File) -> None:
    os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as out:
        out.write(file.content)
        os.fchmod(out.fileno(), file.mode)


def _current(directory: str) -> str | None:
    try:
        return os.readlink(os.path.join(directory, _DATA))
    except FileNotFoundError:
        return None


def _holds(root: str, files: Mapping[str, File]) -> bool:
    there: dict[str, File] = {}
    for parent, _, names in os.walk(root):
        for name in names:
            path = os.path.join(parent, name)
            try:
                with open(path, "rb") as file:
                    there[os.path.relpath(path, root)] = File(file.read(), os.fstat(file.fileno()).st_mode & 0o7777)
            except PermissionError:
                return False  # a mode that shuts out even its owner: write anew, reading it back is not possible
    return there == dict(files)


def _link(directory: str, files: Mapping[str, File]) -> None:
    """Link the first component of each path; deeper ones are reached through it."""
    for top in {path.split("/")[0] for path in files}:
        link = os.path.join(directory, top)
        if not os.path.lexists(link):
            os.symlink(f"{_DATA}/{top}", link)


def _sweep(directory: str, files: Mapping[str, File], fresh: str) -> None:
    keep = {path.split("/")[0] for path in files} | {_DATA, fresh}
    for name in os.listdir(directory):
        path = os.path.join(directory, name)
        if name in keep:
            continue
        if os.path.islink(path):
            os.unlink(path)
        elif name.startswith(".."):
            shutil.rmtree(path, ignore_errors=True)
