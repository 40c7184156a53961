"""Unpacking one layer: bytes of a registry's blob in, a directory of files out. Blocking; runs in a worker thread.

The stream is read once and never held: gzip, zstd and plain tar, PAX and GNU names, sparse files. What a hostile layer
could do by size is bounded by the disk; by names and links, by `tree`.

Source: OCI image specification 1.1, `layer.md`.
"""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
import os
import sys
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import msgspec

from headrace.errors import InvalidSpec
from headrace.node.images.tree import BadEntry, Tree

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"
_ANCIENT = ".wh..wh."
_CHUNK_BYTES = 256 * 1024
_MOST_HEADER_BYTES = 2**20
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_BROKEN = (tarfile.TarError, zlib.error, zstd.ZstdError, gzip.BadGzipFile, EOFError, ValueError, OverflowError)
_OF_THE_MACHINE = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR}
)
"""Failures that say nothing of the layer; any other is one that a good layer does not cause."""
_NO_MARKS = frozenset({errno.EOPNOTSUPP, errno.EPERM, errno.EACCES, errno.EINVAL, errno.ENOSYS})


class Layer(msgspec.Struct):
    """What is known of an unpacked layer besides its files.

    Attributes:
        size_bytes: of all files.
        owners: how many entries belonged to whom, as `uid:gid`; all belong to the node's user now.
        dropped: devices and other entries that nobody can have here.
        whiteouts, opaques: names that hide layers beneath, as overlayfs is told by marks in the tree.
        is_marked: whether the tree has these marks; the file system may know none.
    """

    size_bytes: int = 0
    owners: dict[str, int] = {}
    dropped: list[str] = []
    whiteouts: list[str] = []
    opaques: list[str] = []
    is_marked: bool = True


def unpack(blob: Path, diff_id: str, into: Path, check: Callable[[], None]) -> Layer:
    """Write a layer's files into the new directory `into`.

    Args:
        diff_id: digest of the uncompressed tar, which is verified.
        check: called between entries; what it raises ends the work.

    Raises:
        InvalidSpec: the layer is broken, not what its digest says, or has names that lead out of it.
        OSError: the disk is full, or cannot be written.
    """
    layer, tree = Layer(), Tree(str(into))
    try:
        with blob.open("rb") as packed, _decompressed(packed) as stream:
            source = _Forward(stream, diff_id.partition(":")[0])
            try:
                _read(source, tree, layer, check)
                found = source.finish()
            except BadEntry as error:
                raise InvalidSpec(
                    f"Layer {diff_id} cannot be unpacked: {error}.", hint="Build the image again."
                ) from error
            except _BROKEN as error:
                raise InvalidSpec(
                    f"Layer {diff_id} is no tar that can be read: {error}.", hint="Build and push the image again."
                ) from error
            except OSError as error:
                if error.errno in _OF_THE_MACHINE:
                    raise
                raise InvalidSpec(
                    f"Layer {diff_id} cannot be unpacked: {error}.", hint="Build the image again."
                ) from error
        if found != diff_id:
            raise InvalidSpec(
                f"A layer holds {found}, and the image's configuration says {diff_id}.",
                hint="Build and push the image again.",
            )
        _mark(tree, layer)
    finally:
        tree.close()
    return layer


def _decompressed(packed: IO[bytes]) -> Any:
    """Return the stream inside, by what it begins with: media types are often wrong (containerd does so too)."""
    magic = packed.read(4)
    packed.seek(0)
    if magic.startswith(_GZIP):
        return gzip.GzipFile(fileobj=packed)
    if magic.startswith(_ZSTD):
        return zstd.ZstdFile(packed)
    return packed


class _Forward(io.RawIOBase):
    """A stream that tarfile may believe to be a file: it reads on, skips forward, and counts. Digests what it reads."""

    def __init__(self, stream: Any, algorithm: str) -> None:
        self._stream = stream
        self._position = 0
        self._hash = hashlib.new(algorithm)
        self._algorithm = algorithm

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence != os.SEEK_SET or offset < self._position:
            raise tarfile.ReadError("the tar cannot be read from beginning to end")
        while self._position < offset:
            if not self.read(min(_CHUNK_BYTES, offset - self._position)):
                raise tarfile.ReadError("the tar ends early")
        return self._position

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _MOST_HEADER_BYTES:
            raise tarfile.ReadError(f"an entry has a header of {size} bytes")
        pieces, left = [], size
        while left and (piece := self._stream.read(left)):
            pieces.append(piece)
            left -= len(piece)
        data = b"".join(pieces)
        self._position += len(data)
        self._hash.update(data)
        return data

    def finish(self) -> str:
        """Read what follows the tar's end, which belongs to the digest, and return that."""
        while self.read(_CHUNK_BYTES):
            continue
        return f"{self._algorithm}:{self._hash.hexdigest()}"


def _read(source: _Forward, tree: Tree, layer: Layer, check: Callable[[], None]) -> None:
    stream: Any = source
    tar = tarfile.TarFile(fileobj=stream, mode="r", errorlevel=2, encoding="utf-8", errors="surrogateescape")
    while (entry := tar.next()) is not None:
        check()
        tar.members.clear()  # type: ignore[attr-defined]  # it would keep every header otherwise
        _apply(entry, source, tree, layer, check)


def _apply(entry: tarfile.TarInfo, source: _Forward, tree: Tree, layer: Layer, check: Callable[[], None]) -> None:
    directory, _, base = entry.name.rstrip("/").rpartition("/")
    if base.startswith(_WHITEOUT):
        _note_whiteout(directory, base, layer)
        return
    owner = f"{entry.uid}:{entry.gid}"
    layer.owners[owner] = layer.owners.get(owner, 0) + 1
    mtime = max(0.0, float(entry.mtime))
    if entry.isdir():
        tree.directory(entry.name, entry.mode, mtime)
    elif entry.isreg():
        with tree.file(entry.name, entry.mode, mtime) as fd:
            layer.size_bytes += _write(entry, source, fd, check)
    elif entry.issym():
        tree.symlink(entry.name, entry.linkname, mtime)
    elif entry.islnk():
        tree.hard_link(entry.name, entry.linkname)
    elif entry.isfifo():
        tree.fifo(entry.name, entry.mode)
    else:
        layer.dropped.append(entry.name)


def _note_whiteout(directory: str, base: str, layer: Layer) -> None:
    if base == _OPAQUE:
        layer.opaques.append(directory)
        return
    if base.startswith(_ANCIENT):
        return  # aufs' own files, which mean nothing to anybody else
    hidden = base.removeprefix(_WHITEOUT)
    if hidden in {"", ".", ".."}:
        raise BadEntry(f"{base!r} hides nothing that could be there")
    layer.whiteouts.append(f"{directory}/{hidden}" if directory else hidden)


def _write(entry: tarfile.TarInfo, source: _Forward, fd: int, check: Callable[[], None]) -> int:
    """Copy a file's content; a sparse one keeps its holes. Return how many bytes were written."""
    sparse: Any = entry.sparse
    parts: list[tuple[int, int]] = sparse if entry.issparse() else [(0, entry.size)]
    source.seek(entry.offset_data)
    written = 0
    for offset, size in parts:
        os.lseek(fd, offset, os.SEEK_SET)
        left = size
        while left:
            check()
            data = source.read(min(_CHUNK_BYTES, left))
            if not data:
                raise tarfile.ReadError(f"{entry.name!r} ends early")
            left -= len(data)
            written += len(data)
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
    if entry.issparse():
        os.ftruncate(fd, entry.size)
    return written


def _mark(tree: Tree, layer: Layer) -> None:
    try:
        for name in layer.whiteouts:
            tree.whiteout(name)
        for name in layer.opaques:
            tree.opaque(name)
    except BadEntry as error:
        raise InvalidSpec(f"A layer cannot be unpacked: {error}.", hint="Build the image again.") from error
    except OSError as error:
        if error.errno not in _NO_MARKS:
            raise
        layer.is_marked = False  # this file system knows no such marks: views are copied then
