"""Packs a code directory into one content-addressed archive.

The archive is deterministic: the same files give the same digest on every machine and day, so code that did not change
is not uploaded again. Links that leave the directory are refused, because a worker has nothing behind them.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import tarfile
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

from headrace.errors import InvalidSpec
from headrace.units import human_bytes

IGNORE_FILE = ".headraceignore"
DEFAULT_IGNORED = (
    ".git",
    ".hg",
    ".svn",
    ".venv",
    "venv",
    "__pycache__",
    "*.pyc",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
    "node_modules",
    ".DS_Store",
)
MAX_BYTES = 256 * 2**20


class Archive(NamedTuple):
    """A packed directory. `digest` is `sha256:<hex>` of `content`, a gzipped tar."""

    digest: str
    content: bytes
    files: int


def pack(directory: Path, *, max_bytes: int = MAX_BYTES) -> Archive:
    """Pack `directory` (what `.headraceignore` and the defaults leave of it).

    Raises:
        InvalidSpec: the directory is missing, empty, larger than `max_bytes` packed, or a link leaves it.
    """
    if not directory.is_dir():
        raise InvalidSpec(
            f"The code directory {str(directory)!r} does not exist.",
            hint="Give an existing directory in spec.code.directory.",
        )
    patterns = [*DEFAULT_IGNORED, *_ignore_patterns(directory)]
    paths = sorted(_walk(directory, patterns))
    buffer = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=buffer, mode="wb", compresslevel=6, mtime=0, filename="") as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for relative in paths:
            _add(tar, directory, relative)
            if buffer.tell() > max_bytes:
                raise InvalidSpec(
                    f"The code directory {str(directory)!r} packs to more than {human_bytes(max_bytes)}.",
                    hint=f"Put data on a claim, and list what workers do not need in {IGNORE_FILE}.",
                )
    content = buffer.getvalue()
    return Archive(f"sha256:{hashlib.sha256(content).hexdigest()}", content, len(paths))


def _ignore_patterns(directory: Path) -> list[str]:
    file = directory / IGNORE_FILE
    if not file.is_file():
        return []
    lines = (line.strip() for line in file.read_text().splitlines())
    return [line.rstrip("/") for line in lines if line and not line.startswith("#")]


def _is_ignored(relative: str, patterns: list[str]) -> bool:
    name = relative.rpartition("/")[2]
    return any(fnmatch(name, pattern) or fnmatch(relative, pattern) for pattern in patterns)


def _walk(directory: Path, patterns: list[str]) -> list[str]:
    found: list[str] = []
    for folder, folders, files in os.walk(directory):
        base = os.path.relpath(folder, directory)
        prefix = "" if base == "." else f"{base}/"
        links = [name for name in folders if (Path(folder) / name).is_symlink()]
        folders[:] = [n for n in folders if n not in links and not _is_ignored(prefix + n, patterns)]
        found += [prefix + name for name in (*files, *links) if not _is_ignored(prefix + name, patterns)]
    return found


def _add(tar: tarfile.TarFile, directory: Path, relative: str) -> None:
    path = directory / relative
    info = tar.gettarinfo(str(path), arcname=relative)
    if info is None:  # a socket or a device: nothing a worker could use
        return
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    info.mtime = 0
    if path.is_symlink():
        target = (path.parent / os.readlink(path)).resolve()
        if not target.is_relative_to(directory.resolve()):
            raise InvalidSpec(
                f"{relative!r} in the code directory links to {str(target)!r}, outside of it.",
                hint=f"Copy the file in, or list the link in {IGNORE_FILE}.",
            )
        tar.addfile(info)
        return
    info.type = tarfile.REGTYPE  # hard links become files, so that order does not matter
    info.linkname = ""
    info.size = path.stat().st_size
    info.mode = 0o755 if path.stat().st_mode & 0o100 else 0o644
    with path.open("rb") as file:
        tar.addfile(info, file)
