"""Finding and making the places where mounts go, inside a root that is being built and that nobody runs in yet.

Paths are walked one component at a time with descriptors, so that a symbolic link in an image cannot lead outside of
the root. A missing place beneath a directory that cannot be written is made by mimicry: a tmpfs that holds every
entry of the directory, each bound in its old place, is put over it, and there the new entry fits in.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import NamedTuple

from headrace.sandbox import syscalls

_MOST_LINKS = 40  # as the kernel counts
_EMPTY = "mode=0555,size=4k,nr_inodes=2"
_CANNOT_MAKE = (errno.EROFS, errno.EACCES, errno.EPERM)


class Tree:
    """A directory that will be somebody's `/`.

    Args:
        root: its path now.
        own_fds: path of a `/proc/self/fd` that works now.
        scratch: a writable directory on a file system outside of the tree.
    """

    def __init__(self, root: str, *, own_fds: str, scratch: str) -> None:
        self._root = root
        self._own_fds = own_fds
        self._scratch = scratch
        self._mimics: list[str] = []

    def fd_path(self, fd: int) -> str:
        """Return a path that leads to what `fd` has open, whatever has been mounted over it."""
        return f"{self._own_fds}/{fd}"

    def mount(
        self,
        target: str,
        *,
        source: Entry | None = None,
        tmpfs: str = "",
        read_only: bool = False,
        propagation: int = syscalls.MS_PRIVATE,
        recursive: bool = True,
        flags: int = syscalls.MS_NOSUID | syscalls.MS_NODEV,
    ) -> None:
        """Put a bind of `source`, or a tmpfs with the options `tmpfs` and `flags`, at `target`, made if missing."""
        place = self.ensure(target, is_file=source is not None and not source.is_directory)
        try:
            if source is not None:
                bind = syscalls.MS_BIND | (syscalls.MS_REC if recursive else 0)
                syscalls.mount(self.fd_path(source.fd), self.fd_path(place), flags=bind)
            else:
                syscalls.mount("tmpfs", self.fd_path(place), "tmpfs", flags, tmpfs)
        except OSError as error:
            raise OSError(error.errno, f"mount on {target}: {os.strerror(error.errno or 0)}") from error
        finally:
            os.close(place)
        mounted, _ = self._walk(target)
        try:
            syscalls.change_mount(mounted, read_only=read_only, propagation=propagation, recursive=True)
        finally:
            os.close(mounted)

    def hide(self, path: str, *, null: Entry) -> None:
        """Cover `path` so that nothing of it is seen: a directory by an empty tmpfs, a file by `null`; nothing if missing."""
        try:
            fd, missing = self._walk(path)
        except PermissionError:
            return  # who may not even look it up needs nothing hidden
        os.close(fd)
        if missing:
            return
        try:
            self.mount(path, tmpfs=_EMPTY, read_only=True)
        except NotADirectoryError:
            self.mount(path, source=null, read_only=True)

    def ensure(self, path: str, *, is_file: bool) -> int:
        """Return an O_PATH descriptor of `path`, making it (a directory, or an empty file) where it is missing."""
        while True:
            fd, missing = self._walk(path)
            if not missing:
                return fd
            try:
                if is_file and len(missing) == 1:
                    os.close(os.open(missing[0], os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644, dir_fd=fd))
                else:
                    os.mkdir(missing[0], 0o755, dir_fd=fd)
            except OSError as error:
                if error.errno not in _CANNOT_MAKE:
                    raise OSError(error.errno, f"make {path}: {os.strerror(error.errno or 0)}") from error
                self._mimic(fd, path)
            finally:
                os.close(fd)

    def seal(self) -> None:
        """Make the directories that were mimicked as read-only as those they stand for."""
        for path in self._mimics:
            fd, _ = self._walk(path)
            syscalls.change_mount(fd, read_only=True)
            os.close(fd)
        self._mimics.clear()

    def _walk(self, path: str) -> tuple[int, list[str]]:
        """Return the deepest directory or file there is on the way to `path`, and the names still missing."""
        trail = [os.open(self._root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)]
        left = [name for name in reversed(path.split("/")) if name not in ("", ".")]
        links = 0
        try:
            while left:
                name = left.pop()
                if name == "..":
                    if len(trail) > 1:
                        os.close(trail.pop())
                    continue
                try:
                    fd, is_directory = open_entry(name, trail[-1])
                except FileNotFoundError:
                    return trail.pop(), [name, *reversed(left)]
                if is_directory or not stat.S_ISLNK(os.fstat(fd).st_mode):
                    trail.append(fd)
                    continue
                link = os.readlink("", dir_fd=fd)
                os.close(fd)
                links += 1
                if links > _MOST_LINKS:
                    raise OSError(errno.ELOOP, f"{path}: too many symbolic links")
                if link.startswith("/"):
                    while len(trail) > 1:
                        os.close(trail.pop())
                left += [part for part in reversed(link.split("/")) if part not in ("", ".")]
            return trail.pop(), []
        finally:
            for fd in trail:
                os.close(fd)

    def _mimic(self, fd: int, wanted: str) -> None:
        """Put a tmpfs over the directory open at `fd` that looks the same and can be written for now."""
        covered = os.readlink(self.fd_path(fd))
        inside = covered.removeprefix(self._root) or "/"
        if inside in self._mimics:
            raise OSError(errno.EACCES, f"make {wanted}: {inside} cannot be written")
        twin = os.path.join(self._scratch, f"mimic-{len(self._mimics)}")
        os.mkdir(twin)
        syscalls.mount("tmpfs", twin, "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, "mode=0755")
        try:
            names = os.listdir(self.fd_path(fd))
        except PermissionError as error:
            raise OSError(error.errno, f"make {wanted}: {inside} may not be listed") from error
        for name in names:
            self._copy_entry(name, fd, os.path.join(twin, name))
        syscalls.mount(twin, self.fd_path(fd), flags=syscalls.MS_MOVE)
        self._mimics.append(inside)

    def _copy_entry(self, name: str, directory: int, twin: str) -> None:
        try:
            entry, is_directory = open_entry(name, directory)
        except FileNotFoundError:
            return  # gone since it was listed
        try:
            if is_directory:
                os.mkdir(twin)
            elif stat.S_ISLNK(os.fstat(entry).st_mode):
                os.symlink(os.readlink("", dir_fd=entry), twin)
                return
            else:
                os.close(os.open(twin, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o444))
            syscalls.mount(self.fd_path(entry), twin, flags=syscalls.MS_BIND | syscalls.MS_REC)
        finally:
            os.close(entry)


class Entry(NamedTuple):
    """An O_PATH descriptor, and whether it is a directory."""

    fd: int
    is_directory: bool


def open_entry(name: str, directory: int | None = None, *, follow: bool = False) -> Entry:
    """Open `name`; without `follow` the entry itself, never what a symbolic link leads to.

    A directory is asked for first: that question is answered without a word to the file system, so the root of a FUSE
    mount that nobody serves cannot make the caller hang.
    """
    flags = os.O_PATH | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    try:
        return Entry(os.open(name, flags | os.O_DIRECTORY, dir_fd=directory), True)
    except OSError as error:
        if error.errno not in (errno.ENOTDIR, errno.ELOOP):
            raise
        return Entry(os.open(name, flags, dir_fd=directory), False)


def open_sub_path(volume: Entry, sub_path: str) -> Entry:
    """Open what is at `sub_path` inside a volume, and never outside of it; missing directories are made, as kubelet does.

    The volume may be written by others meanwhile, so each step is opened relative to the last and links may not leave it.
    """
    try:
        return _open_either(volume.fd, sub_path)
    except FileNotFoundError:
        parent, name = os.path.split(sub_path)
        directory = open_sub_path(volume, parent) if parent else Entry(os.dup(volume.fd), True)
        try:
            os.mkdir(name, 0o755, dir_fd=directory.fd)
        except FileExistsError:
            pass  # somebody else was quicker; or it is a link to nothing, and then opening it says so
        finally:
            os.close(directory.fd)
        return _open_either(volume.fd, sub_path)


def _open_either(directory: int, path: str) -> Entry:
    try:
        return Entry(syscalls.open_beneath(directory, path, os.O_PATH | os.O_DIRECTORY), True)
    except NotADirectoryError:
        return Entry(syscalls.open_beneath(directory, path, os.O_PATH), False)
