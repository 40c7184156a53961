"""Fetching one blob into a file: streamed, digested on the way, taken up again where a connection broke."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO

import anyio
from anyio import CapacityLimiter, to_thread

from headrace.errors import InvalidSpec, Unavailable
from headrace.node.images.manifest import Descriptor
from headrace.node.images.registry import Repository

_PIECE_BYTES = 2**20
_FRUITLESS_TRIES = 4
_FIRST_PAUSE_S = 0.5


async def download(repository: Repository, blob: Descriptor, into: Path, limiter: CapacityLimiter) -> None:
    """Write a blob to `into`; when this returns it is what its digest says.

    Tries again as long as anything comes, from where it stopped if the registry can do that. Content that is not what
    it should be is fetched once more from its beginning: a resumed download may have met another server.

    Raises:
        InvalidSpec: the registry has other content under this digest.
        NotFound, Denied, Unavailable: as `Repository.blob`.
        OSError: the disk is full, or cannot be written.
    """
    for is_last in (False, True):
        algorithm = blob.digest.partition(":")[0]
        with into.open("wb") as file:
            target = _Target(file, hashlib.new(algorithm), limiter)
            await _fetch(repository, blob, target)
        if target.written == blob.size and f"{algorithm}:{target.hash.hexdigest()}" == blob.digest:
            return
        if is_last:
            raise InvalidSpec(
                f"Registry {repository.endpoint.host} sent {target.written} bytes that are not {blob.digest}.",
                hint="Somebody has changed it on its way, or the registry is broken: push the image again.",
            )


class _Target:
    """A file and the digest of what is in it; the blocking part is done by threads, a large piece at a time."""

    def __init__(self, file: IO[bytes], digest: hashlib._Hash, limiter: CapacityLimiter) -> None:
        self.hash = digest
        self.written = 0
        self._file = file
        self._limiter = limiter

    async def take(self, chunks: AsyncIterator[bytes], most: int) -> None:
        """Write what comes, in pieces; what came before an error is kept."""
        held = bytearray()
        try:
            async for chunk in chunks:
                held += chunk
                if self.written + len(held) > most:
                    raise InvalidSpec(f"The registry sends more than the {most} bytes that the manifest names.")
                if len(held) >= _PIECE_BYTES:
                    piece, held = bytes(held), bytearray()
                    await to_thread.run_sync(self._write, piece, limiter=self._limiter)
        finally:
            if held:
                with anyio.CancelScope(shield=True):
                    await to_thread.run_sync(self._write, bytes(held), limiter=self._limiter)

    def _write(self, piece: bytes) -> None:
        self._file.write(piece)
        self._file.flush()
        self.hash.update(piece)
        self.written += len(piece)

    def start_over(self) -> None:
        """Forget everything."""
        self._file.seek(0)
        self._file.truncate()
        self.hash = hashlib.new(self.hash.name)
        self.written = 0


async def _fetch(repository: Repository, blob: Descriptor, target: _Target) -> None:
    fruitless, pause_s = 0, _FIRST_PAUSE_S
    while True:
        before = target.written
        try:
            async with repository.blob(blob.digest, before) as (began, chunks):
                if began != before:
                    target.start_over()
                await target.take(chunks, blob.size)
            if target.written >= blob.size:
                return
            why = Unavailable(
                f"Registry {repository.endpoint.host} ended after {target.written} of {blob.size} bytes of {blob.digest}."
            )
        except Unavailable as error:
            why = error
        if target.written > before:
            fruitless, pause_s = 0, _FIRST_PAUSE_S
        fruitless += 1
        if fruitless == _FRUITLESS_TRIES:
            raise why
        await anyio.sleep(pause_s)
        pause_s *= 2
