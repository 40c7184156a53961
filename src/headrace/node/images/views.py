"""What one container sees of an image: a root of its own to write in, made of layers that it shares and cannot change.

    <directory>/upper, work       what the container writes, above the layers (overlayfs)
    <directory>/tree              a whole copy, where the kernel lays no layers over each other

Both are idempotent: an attempt that is begun again, by an agent that was killed meanwhile, may run on what is there.
Files are copied by reflink where the file system has it. Never by hard link: a container could write through one.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from headrace.node.images.layers import Layer
from headrace.node.removal import remove
from headrace.spec.kind import Json

_FICLONE = 0x40049409
_CHUNK_BYTES = 2**24


def layered(directory: Path, trees: Sequence[str], volumes: Sequence[str]) -> Json:
    """Make an empty upper layer; return the world's `root`. `trees` are the layers' directories, lowest first."""
    for name in ("upper", "work"):
        (directory / name).mkdir(parents=True, exist_ok=True)
    (directory / "upper").chmod(0o755)
    return {"directory": str(directory), "layers": list(trees), "volumes": list(volumes)}


def copied(
    directory: Path, trees: Sequence[tuple[str, Layer]], volumes: Sequence[str], check: Callable[[], None]
) -> Json:
    """Copy the layers into one tree; return the world's `root`. Blocks; `check` is called between files.

    Raises:
        OSError: the disk is full, or cannot be written; nothing is left behind.
    """
    root: Json = {"directory": str(directory), "layers": [], "volumes": list(volumes)}
    whole = directory / "tree"
    if whole.is_dir():
        return root
    begun = directory / "begun"
    remove(begun)
    try:
        begun.mkdir(parents=True)
        begun.chmod(0o755)
        for tree, layer in trees:
            _hide(begun, layer)
            _copy_tree(tree, str(begun), check)
        begun.rename(whole)
    except BaseException:
        remove(directory)
        raise
    return root


def _hide(target: Path, layer: Layer) -> None:
    """Take away what a layer hides of those beneath. Parents that are links stay unfollowed: they hide nothing then."""
    for name in layer.opaques:
        place = _inside(target, name)
        if place is not None and place.is_dir():
            for entry in place.iterdir():
                remove(entry)
    for name in layer.whiteouts:
        place = _inside(target, name)
        if place is not None:
            remove(place)


def _inside(target: Path, name: str) -> Path | None:
    place = target
    for part in [part for part in name.split("/") if part not in {"", "."}]:
        if place.is_symlink():
            return None
        place = place / part
    return place


def _copy_tree(source: str, target: str, check: Callable[[], None]) -> None:
    """Lay `source` over `target`. Both are ours alone meanwhile, and no link in either is followed."""
    linked: dict[int, str] = {}
    stack = [""]
    while stack:
        inner = stack.pop()
        with os.scandir(os.path.join(source, inner)) as entries:
            for entry in entries:
                check()
                name = os.path.join(inner, entry.name)
                place, info = os.path.join(target, name), entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(info.st_mode):
                    if os.path.islink(place) or not os.path.isdir(place):
                        remove(Path(place))
                        os.mkdir(place)
                    os.chmod(place, stat.S_IMODE(info.st_mode))
                    stack.append(name)
                    continue
                if stat.S_ISCHR(info.st_mode):
                    continue  # a mark that hides something, which has been done
                remove(Path(place))
                if info.st_nlink > 1 and info.st_ino in linked:
                    os.link(linked[info.st_ino], place, follow_symlinks=False)
                    continue
                linked[info.st_ino] = place
                _copy_entry(entry.path, place, info)


def _copy_entry(source: str, target: str, info: os.stat_result) -> None:
    if stat.S_ISLNK(info.st_mode):
        os.symlink(os.readlink(source), target)
    elif stat.S_ISFIFO(info.st_mode):
        os.mkfifo(target, stat.S_IMODE(info.st_mode))
    else:
        _copy_file(source, target)
        os.chmod(target, stat.S_IMODE(info.st_mode))
    os.utime(target, ns=(info.st_atime_ns, info.st_mtime_ns), follow_symlinks=False)


def _copy_file(source: str, target: str) -> None:
    with open(source, "rb") as old, open(target, "xb") as new:
        with suppress(OSError):
            fcntl.ioctl(new.fileno(), _FICLONE, old.fileno())
            return
        try:
            while os.copy_file_range(old.fileno(), new.fileno(), _CHUNK_BYTES):
                continue
        except OSError as error:
            if error.errno not in {errno.EXDEV, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}:
                raise
            old.seek(0)
            new.seek(0)
            shutil.copyfileobj(old, new, _CHUNK_BYTES)
