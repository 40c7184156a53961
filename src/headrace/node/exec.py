"""Interactive commands in containers: pipes or a terminal on one side, a client's channels on the other.

The terminal is the agent's (`openpty`), so resizing is an ioctl here; the world gets the other end by descriptor.
"""

from __future__ import annotations

import errno
import fcntl
import os
import pty
import signal
import struct
import termios
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import anyio

from headrace.node.world import Exec, World

_READ_BYTES = 32 * 1024
_LAST_WORDS_S = 0.2
"""How long output is waited for after the command has ended: a child it left behind may keep the pipe open for ever."""

_END_OF_INPUT = b"\x04"
STDOUT, STDERR = 1, 2


class Resize(NamedTuple):
    """The client's terminal has a new size."""

    columns: int
    rows: int


class Channel(Protocol):
    """The client's side."""

    async def send(self, stream: int, data: bytes) -> None:
        """Send output of `STDOUT` or `STDERR`; what cannot be delivered any more is dropped."""
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

    When the client goes away the command gets SIGHUP, as from a terminal that was closed, and 129 is returned.

    Raises:
        WorldRefused, Unavailable: it could not be started, or the world was lost meanwhile.
    """
    ends = _terminal() if tty else _pipes()
    try:
        command = await world.exec(fds=ends.theirs, pod=pod, container=container, argv=list(argv), tty=tty)
        ends.close_theirs()
        code = 128 + signal.SIGHUP
        async with anyio.create_task_group() as tasks:

            async def serve_input() -> None:
                await _feed(ends, channel, command, stdin=stdin)
                tasks.cancel_scope.cancel()

            tasks.start_soon(serve_input)
            async with anyio.create_task_group() as pumps:
                for stream, fd in ends.outputs.items():
                    pumps.start_soon(_pump, fd, stream, channel)
                code = await command.wait()
                pumps.cancel_scope.deadline = anyio.current_time() + _LAST_WORDS_S
            tasks.cancel_scope.cancel()
        return code
    finally:
        ends.close()


async def _pump(fd: int, stream: int, channel: Channel) -> None:
    while True:
        await anyio.wait_readable(fd)
        try:
            data = os.read(fd, _READ_BYTES)
        except BlockingIOError:
            continue
        except OSError as error:
            if error.errno == errno.EIO:  # a terminal whose last user has gone
                return
            raise
        if not data:
            return
        await channel.send(stream, data)


async def _feed(ends: _Ends, channel: Channel, command: Exec, *, stdin: bool) -> None:
    """Pass input on until the client has gone."""
    if not stdin and not ends.is_terminal:
        ends.end_input()
    try:
        while True:
            received = await channel.receive()
            if isinstance(received, Resize):
                if ends.is_terminal:
                    size = struct.pack("HHHH", received.rows, received.columns, 0, 0)
                    fcntl.ioctl(ends.input, termios.TIOCSWINSZ, size)
            elif received is None:
                ends.end_input()
            else:
                await _write(ends, received)
    except anyio.EndOfStream:
        await command.signal(signal.SIGHUP)


async def _write(ends: _Ends, data: bytes) -> None:
    view = memoryview(data)
    while view and ends.input_is_open:
        try:
            view = view[os.write(ends.input, view) :]
        except BlockingIOError:
            await anyio.wait_writable(ends.input)
        except BrokenPipeError:
            ends.end_input()
