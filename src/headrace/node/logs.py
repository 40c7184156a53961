"""Reading container logs: CRI records in rotated files, as `kubectl logs` asks for them.

`<path>` is the current file, `<path>.1` the one before it, and so on (`headrace.sandbox.logs` writes them). Following
waits for inotify, so a line is on its way the moment it is written, and goes through rotations without a gap.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import anyio
from anyio import to_thread

from headrace.node.inotify import DirectoryWatch
from headrace.node.order import LOG_MAX_FILES

_CHUNK_BYTES = 128 * 1024


@dataclass(frozen=True)
class LogOptions:
    """What of a log is wanted. `since` is an RFC 3339 time in UTC with nine digits of fraction, or empty."""

    follow: bool = False
    tail_lines: int | None = None
    since: str = ""
    timestamps: bool = False
    limit_bytes: int | None = None
    stream: str = "all"
    """`stdout`, `stderr` or `all`."""


class LimitReached(Exception):
    """As many bytes as were asked for have been sent."""


class _Renderer:
    """Records in, output out; knows whether the last record was only a part of its line."""

    def __init__(self, options: LogOptions) -> None:
        self._options = options
        self._mid_line = False
        self._left = options.limit_bytes

    def render(self, records: list[bytes]) -> bytes:
        out = bytearray()
        for record in records:
            stamp, _, rest = record.partition(b" ")
            name, _, rest = rest.partition(b" ")
            tag, _, text = rest.partition(b" ")
            if self._options.stream not in {"all", name.decode("ascii", "replace")}:
                continue
            if self._options.since and stamp.decode("ascii", "replace") < self._options.since:
                continue
            if self._options.timestamps and not self._mid_line:
                out += stamp + b" "
            self._mid_line = tag == b"P"
            out += text if self._mid_line else text + b"\n"
        if self._left is None:
            return bytes(out)
        cut = bytes(out[: self._left])
        self._left -= len(cut)
        return cut

    @property
    def is_done(self) -> bool:
        return self._left == 0


class _Cursor:
    """Whole records of one log from a place on, through rotations."""

    def __init__(self, path: Path, start: Path, offset: int) -> None:
        self._path = path
        self._file: BinaryIO = open(start, "rb")  # noqa: SIM115 - open as long as the log is followed
        self._file.seek(offset)
        self._rest = b""

    def close(self) -> None:
        self._file.close()

    def read(self) -> list[bytes]:
        """Return the records that are there now, a chunk's worth at most; empty at the end."""
        while True:
            data = self._file.read(_CHUNK_BYTES)
            if data:
                *records, self._rest = (self._rest + data).split(b"\n")
                if records:
                    return records
            elif not self._next_file():
                return []

    def _next_file(self) -> bool:
        """Go on to the file that came after this one; False when this is the newest and has been read to its end."""
        mine = os.fstat(self._file.fileno()).st_ino
        newer: Path | None = None
        try:
            for path in generations(self._path):  # newest first
                if path.stat().st_ino == mine:
                    break
                newer = path
            if newer is None:
                return False
            last_words = self._file.read()
            if last_words:
                self._file.seek(-len(last_words), os.SEEK_CUR)
                return True
            fresh = open(newer, "rb")  # noqa: SIM115
        except FileNotFoundError:
            return True  # rotated while we looked: look again
        self._file.close()
        self._file = fresh
        return True


def generations(path: Path) -> Iterator[Path]:
    """Yield the files of one log that exist, newest first."""
    for candidate in (path, *(path.with_name(f"{path.name}.{n}") for n in range(1, LOG_MAX_FILES))):
        if candidate.exists():
            yield candidate


def last_bytes(path: Path, max_lines: int, max_bytes: int) -> str:
    """Return the end of a log as text (terminationMessagePolicy FallbackToLogsOnError)."""
    if not path.exists():
        return ""
    records = deque(path.read_bytes().splitlines(), maxlen=max_lines)
    text = _Renderer(LogOptions()).render(list(records))
    return text[-max_bytes:].decode("utf-8", "replace")


async def stream(
    path: Path,
    options: LogOptions,
    send: Callable[[bytes], Awaitable[None]],
    wait_for_end: Callable[[], Awaitable[None]],
) -> None:
    """Send what is in the log, and with `follow` what comes until the container has ended.

    Args:
        wait_for_end: returns once the container does not run any more and has written all it will write.
    """
    renderer = _Renderer(options)
    try:
        if not options.follow:
            await _send_what_is_there(path, options, renderer, send)
            return
        await _follow(path, options, renderer, send, wait_for_end)
    except LimitReached:
        return


async def _follow(
    path: Path,
    options: LogOptions,
    renderer: _Renderer,
    send: Callable[[bytes], Awaitable[None]],
    wait_for_end: Callable[[], Awaitable[None]],
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    ended = False
    wake_in, wake_out = anyio.create_memory_object_stream[None](1)

    def wake() -> None:
        try:
            wake_in.send_nowait(None)
        except anyio.WouldBlock:
            return  # awake already

    async def end() -> None:
        nonlocal ended
        await wait_for_end()
        ended = True
        wake()

    async def change(watch: DirectoryWatch) -> None:
        while True:
            await watch.changed()
            wake()

    with DirectoryWatch(str(path.parent)) as watch, wake_in, wake_out:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(end)
            tasks.start_soon(change, watch)
            cursor: _Cursor | None = None
            try:
                while True:
                    had_ended = ended
                    cursor = cursor or await to_thread.run_sync(_open, path, options)
                    await _drain(cursor, renderer, send)
                    if had_ended:
                        break
                    await wake_out.receive()
            finally:
                if cursor:
                    cursor.close()
                tasks.cancel_scope.cancel()


async def _send_what_is_there(
    path: Path, options: LogOptions, renderer: _Renderer, send: Callable[[bytes], Awaitable[None]]
) -> None:
    cursor = await to_thread.run_sync(_open, path, options)
    if cursor is None:
        return
    try:
        await _drain(cursor, renderer, send)
    finally:
        cursor.close()


async def _drain(cursor: _Cursor | None, renderer: _Renderer, send: Callable[[bytes], Awaitable[None]]) -> None:
    while cursor and (records := await to_thread.run_sync(cursor.read)):
        text = renderer.render(records)
        if text:
            await send(text)
        if renderer.is_done:
            raise LimitReached


def _open(path: Path, options: LogOptions) -> _Cursor | None:
    """Open the log where the wanted lines begin; None while there is no file yet."""
    files = list(generations(path))
    if not files:
        return None
    if options.tail_lines is None:
        return _Cursor(path, files[-1], 0)
    wanted = options.tail_lines
    for file in files:
        data = file.read_bytes()
        lines = data.count(b"\n")
        if lines > wanted:
            end = len(data)
            for _ in range(wanted + 1):
                end = data.rfind(b"\n", 0, end)
            return _Cursor(path, file, end + 1)
        if lines == wanted:
            return _Cursor(path, file, 0)
        wanted -= lines
    return _Cursor(path, files[-1], 0)
