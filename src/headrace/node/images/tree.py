"""One layer's files on disk, written so that no name, link or order of entries leads out of its directory.

Parents are opened with openat2(2) as if the directory were `/` (RESOLVE_IN_ROOT, no magic links); the last part of a
name is never followed. Everything belongs to the node's user, who may always read, write and remove it; set-id bits,
devices, and extended attributes (capabilities among them) do not exist here.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from headrace.sandbox import syscalls

WHITEOUT_DEVICE = os.makedev(0, 0)
OPAQUE = "user.overlay.opaque"
"""How overlayfs, mounted with `userxattr`, marks a directory that hides what layers beneath have in its place."""

_MOST_DEPTH = 128
_DIRECTORY = os.O_PATH | os.O_DIRECTORY


class BadEntry(Exception):
    """A name or a link that cannot be right; the text says which."""


class Tree:
    """A directory that a layer is written into. Not safe for several threads at once."""

    def __init__(self, path: str) -> None:
        os.mkdir(path, 0o755)
        self._root = os.open(path, _DIRECTORY | os.O_CLOEXEC)
        self._directories: list[tuple[tuple[str, ...], float]] = []

    def close(self) -> None:
        """Give directories their times, which writing into them has changed, and let go of the tree."""
        for parts, mtime in reversed(self._directories):
            try:
                with self._parent(parts, make=False) as (parent, name):
                    os.utime(name, (mtime, mtime), dir_fd=parent, follow_symlinks=False)
            except (OSError, BadEntry, OverflowError):
                continue  # a later entry has taken its place, or it is a time that no file system knows
        os.close(self._root)

    # -- entries -----------------------------------------------------------------------------------------------------

    def directory(self, name: str, mode: int, mtime: float) -> None:
        """Make a directory, or give the one there is another mode."""
        parts = split(name)
        if not parts:
            return  # the root itself
        with self._parent(parts) as (parent, last):
            if not _is_directory(last, parent):
                self._clear(last, parent)
                os.mkdir(last, 0o700, dir_fd=parent)
            fd = os.open(last, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
            try:
                os.fchmod(fd, (mode & 0o1777) | 0o700)
            finally:
                os.close(fd)
        self._directories.append((parts, mtime))

    @contextmanager
    def file(self, name: str, mode: int, mtime: float) -> Iterator[int]:
        """Make a file in the place of whatever is there; give a descriptor to write to."""
        with self._place(name) as (parent, last):
            fd = os.open(
                last, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=parent
            )
            try:
                yield fd
                os.fchmod(fd, (mode & 0o777) | 0o600)
                os.utime(fd, (mtime, mtime))
            finally:
                os.close(fd)

    def symlink(self, name: str, target: str, mtime: float) -> None:
        """Make a symbolic link; where it leads is nobody's business until somebody runs in the tree."""
        if not target:
            raise BadEntry(f"{name!r} is a symbolic link to nothing")
        with self._place(name) as (parent, last):
            os.symlink(target, last, dir_fd=parent)
            os.utime(last, (mtime, mtime), dir_fd=parent, follow_symlinks=False)

    def hard_link(self, name: str, target: str) -> None:
        """Make another name for a file of this layer."""
        parts = split(target)
        if parts == split(name):
            return
        with self._parent(parts, make=False) as (source, first), self._place(name) as (parent, last):
            try:
                os.link(first, last, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
            except FileNotFoundError as error:
                raise BadEntry(f"{name!r} is a hard link to {target!r}, which the layer does not have") from error

    def fifo(self, name: str, mode: int) -> None:
        """Make a named pipe."""
        with self._place(name) as (parent, last):
            os.mkfifo(last, (mode & 0o777) | 0o600, dir_fd=parent)

    # -- what hides layers beneath ---------------------------------------------------------------------------------------

    def whiteout(self, name: str) -> None:
        """Hide what layers beneath have at `name`, but nothing of this layer. Call when all entries are there.

        Raises OSError where the file system has no such marks.
        """
        with self._parent(split(name)) as (parent, last):
            if _is_directory(last, parent):
                self.opaque(name)
            elif not _is_there(last, parent):
                os.mknod(last, stat.S_IFCHR, WHITEOUT_DEVICE, dir_fd=parent)

    def opaque(self, name: str) -> None:
        """Hide everything that layers beneath have in a directory; raises as `whiteout` does."""
        parts = split(name)
        if not parts:
            return  # an opaque root hides whole layers, which no layer may: there is nothing left of an image then
        with self._parent((*parts, ".")) as (directory, _):
            os.setxattr(f"/proc/self/fd/{directory}", OPAQUE, b"y")

    # -- the way there ---------------------------------------------------------------------------------------------------

    @contextmanager
    def _place(self, name: str) -> Iterator[tuple[int, str]]:
        """Give the parent's descriptor and the last part of `name`, where nothing is any more."""
        parts = split(name)
        if not parts:
            raise BadEntry(f"{name!r} would replace the image's root")
        with self._parent(parts) as (parent, last):
            self._clear(last, parent)
            yield parent, last

    @contextmanager
    def _parent(self, parts: tuple[str, ...], *, make: bool = True) -> Iterator[tuple[int, str]]:
        if not parts:
            raise BadEntry("an entry stands for the image's root, which is a directory")
        fd = self._open(parts[:-1], make=make)
        try:
            yield fd, parts[-1]
        finally:
            os.close(fd)

    def _open(self, parts: tuple[str, ...], *, make: bool) -> int:
        path = "/".join(parts) or "."
        try:
            return syscalls.open_in_root(self._root, path, _DIRECTORY)
        except OSError as error:
            if error.errno in {errno.ENOTDIR, errno.ELOOP}:
                raise BadEntry(f"{path!r} is no directory, and the layer has entries beneath it") from error
            if error.errno != errno.ENOENT:
                raise
        if not make or not parts:
            raise BadEntry(f"the layer has no directory {path!r}")
        with self._parent(parts) as (parent, last):
            try:
                os.mkdir(last, 0o755, dir_fd=parent)
            except FileExistsError:  # a link to nothing: a directory is what others are put into
                os.unlink(last, dir_fd=parent)
                os.mkdir(last, 0o755, dir_fd=parent)
        return self._open(parts, make=False)

    def _clear(self, name: str, parent: int) -> None:
        try:
            os.unlink(name, dir_fd=parent)
        except FileNotFoundError:
            return
        except (IsADirectoryError, PermissionError):
            shutil.rmtree(name, dir_fd=parent)


def split(name: str) -> tuple[str, ...]:
    """Return the parts of an entry's name; `/` and `.` are nothing.

    Raises:
        BadEntry: it has `..`, which no tool that makes images writes, or is absurdly deep.
    """
    parts = tuple(part for part in name.split("/") if part not in {"", "."})
    if ".." in parts or "\0" in name:
        raise BadEntry(f"{name!r} leads out of the image")
    if len(parts) > _MOST_DEPTH:
        raise BadEntry(f"{name[:80]!r}… is more than {_MOST_DEPTH} directories deep")
    return parts


def _is_there(name: str, parent: int) -> bool:
    try:
        os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _is_directory(name: str, parent: int) -> bool:
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False
