"""Interactive commands in containers: pipes or a terminal on one side, a client's channels on the other.

The terminal is the agent's (`openpty`), so resizing is an ioctl here; the world gets the other end by descriptor.
"""

from __future__ import annotations

import errno
import fcntl
import math
import os
import pty
import signal
import struct
import termios
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import anyio

from headrace.errors import HeadraceError
from headrace.node.world import Exec, World

_READ_BYTES = 32 * 1024
_LAST_WORDS_S = 0.2
_LAST_WORDS_BYTES = 64 * 1024
"""What is read when the command has ended: as much as a pipe holds, while more comes within this time. A child that the
command has left behind may keep the pipe open, or write to it, for ever."""

_END_OF_INPUT = b"\x04"
STDOUT, STDERR = 1, 2


class Resize(NamedTuple):
    """The client's terminal has a new size."""

    columns: int
    rows: int


class Channel(Protocol):
    """The client's side."""

    async def send(self, stream: int, data: bytes) -> bool:
        """Send output of `STDOUT` or `STDERR`, and tell whether the client is there; else it is dropped."""
        ...

    async def receive(self) -> bytes | Resize | None:
        """Return input, None at its end; raises EndOfStream when the client has gone."""
        ...


@dataclass
class _Ends:
    """Both ends of a command's streams; ours do not block."""

    theirs: tuple[int, ...]
    input: int
    outputs: Mapping[int, int]
    is_terminal: bool
    input_is_open: bool = True
    theirs_are_open: bool = True

    def __post_init__(self) -> None:
        for fd in (self.input, *self.outputs.values()):
            os.set_blocking(fd, False)

    def close_theirs(self) -> None:
        if self.theirs_are_open:
            self.theirs_are_open = False
            for fd in self.theirs:
                os.close(fd)

    def end_input(self) -> None:
        if not self.input_is_open:
            return
        self.input_is_open = False
        if self.is_terminal:
            os.write(self.input, _END_OF_INPUT)
        else:
            os.close(self.input)

    def close(self) -> None:
        self.close_theirs()
        if self.input_is_open and not self.is_terminal:
            os.close(self.input)
        for fd in self.outputs.values():
            os.close(fd)


def _pipes() -> _Ends:
    stdin, stdin_ours = os.pipe2(os.O_CLOEXEC)
    stdout_ours, stdout = os.pipe2(os.O_CLOEXEC)
    stderr_ours, stderr = os.pipe2(os.O_CLOEXEC)
    return _Ends((stdin, stdout, stderr), stdin_ours, {STDOUT: stdout_ours, STDERR: stderr_ours}, is_terminal=False)


def _terminal() -> _Ends:
    master, slave = pty.openpty()
    return _Ends((slave,), master, {STDOUT: master}, is_terminal=True)


async def run(
    world: World, *, pod: str, container: str, argv: Sequence[str], channel: Channel, stdin: bool, tty: bool
) -> int:
    """Run a command with its streams on `channel` and return its exit code.

    When the client goes away, or this is cancelled, the command gets SIGHUP, as from a terminal that was closed.
    Returns 129 then.

    Raises:
        WorldRefused, Unavailable: it could not be started, or the world was lost meanwhile.
    """
    ends = _terminal() if tty else _pipes()
    try:
        command = await world.exec(fds=ends.theirs, pod=pod, container=container, argv=list(argv), tty=tty)
        ends.close_theirs()
        async with _hung_up_on_at_last(command):
            return await _attend(ends, channel, command, stdin=stdin)
    finally:
        ends.close()


@asynccontextmanager
async def _hung_up_on_at_last(command: Exec) -> AsyncIterator[None]:
    """Signal a command that is left while it runs."""
    try:
        yield
    finally:
        if not command.has_ended:
            with anyio.CancelScope(shield=True), suppress(HeadraceError):
                await command.signal(signal.SIGHUP)


async def _attend(ends: _Ends, channel: Channel, command: Exec, *, stdin: bool) -> int:
    code = 128 + signal.SIGHUP
    async with anyio.create_task_group() as tasks:

        async def serve_input() -> None:
            await _feed(ends, channel, stdin=stdin)
            tasks.cancel_scope.cancel()

        tasks.start_soon(serve_input)
        pumps = [_Pump(fd, stream, channel) for stream, fd in ends.outputs.items()]
        async with anyio.create_task_group() as pumping:
            for pump in pumps:
                pumping.start_soon(pump.run)
            code = await command.wait()
            for pump in pumps:
                pump.finish()
        tasks.cancel_scope.cancel()
    return code


class _Pump:
    """Passes on one output of a command, as fast as the client takes it."""

    def __init__(self, fd: int, stream: int, channel: Channel) -> None:
        self._fd = fd
        self._stream = stream
        self._channel = channel
        self._waiting = anyio.CancelScope()
        self._pause_s = math.inf
        self._left = math.inf

    def finish(self) -> None:
        """Only pass on what is there: the command has ended."""
        self._pause_s, self._left = _LAST_WORDS_S, _LAST_WORDS_BYTES
        self._waiting.deadline = anyio.current_time() + _LAST_WORDS_S

    async def run(self) -> None:
        """Work until the output has ended, or `finish` has nothing more to wait for."""
        while self._left > 0 and (data := await self._read()):
            self._left -= len(data)
            await self._channel.send(self._stream, data)

    async def _read(self) -> bytes:
        while True:
            with anyio.CancelScope(deadline=anyio.current_time() + self._pause_s) as self._waiting:
                await anyio.wait_readable(self._fd)
            if self._waiting.cancelled_caught:
                return b""
            try:
                return os.read(self._fd, _READ_BYTES)
            except BlockingIOError:
                continue
            except OSError as error:
                if error.errno == errno.EIO:  # a terminal whose last user has gone
                    return b""
                raise


async def _feed(ends: _Ends, channel: Channel, *, stdin: bool) -> None:
    """Pass input on until the client has gone."""
    if not stdin and not ends.is_terminal:
        ends.end_input()
    while True:
        try:
            received = await channel.receive()
        except anyio.EndOfStream:
            return
        if isinstance(received, Resize):
            if ends.is_terminal:
                size = struct.pack("HHHH", received.rows, received.columns, 0, 0)
                fcntl.ioctl(ends.input, termios.TIOCSWINSZ, size)
        elif received is None:
            ends.end_input()
        else:
            await _write(ends, received)


async def _write(ends: _Ends, data: bytes) -> None:
    view = memoryview(data)
    while view and ends.input_is_open:
        try:
            view = view[os.write(ends.input, view) :]
        except BlockingIOError:
            await anyio.wait_writable(ends.input)
        except BrokenPipeError:
            ends.end_input()
