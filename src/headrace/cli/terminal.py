"""Joins this terminal, or this command's input and output, to a command that runs in a container."""

from __future__ import annotations

import os
import signal
import sys
import termios
import tty as terminals
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import BinaryIO

import anyio
import anyio.lowlevel
from anyio.abc import ByteReceiveStream, ByteSendStream

from headrace.cluster.protocol import Cluster, ExecStream
from headrace.sdk.pumping import single_error
from headrace.spec.kind import Ref

_CHUNK_BYTES = 32 * 1024


async def attach(
    cluster: Cluster, pod: Ref, command: Sequence[str], *, container: str, interactive: bool, tty: bool
) -> int:
    """Run a command, its streams being ours, and return its exit code.

    Args:
        interactive: pass our input on; else the command's input is empty.
        tty: our input is a terminal, and becomes the command's: keys such as Ctrl-C go to it.
    """
    with single_error():
        async with cluster.attach_exec(pod, command, container=container, tty=tty) as session:
            with _raw() if tty else nullcontext():
                async with anyio.create_task_group() as group:
                    if tty:
                        group.start_soon(_sizes, session)
                    if interactive:
                        group.start_soon(_feed, session.stdin)
                    else:
                        await session.stdin.aclose()
                    async with anyio.create_task_group() as outputs:
                        outputs.start_soon(_copy, session.stdout, sys.stdout.buffer)
                        outputs.start_soon(_copy, session.stderr, sys.stderr.buffer)
                    group.cancel_scope.cancel()
            return await session.wait()
    raise AssertionError("unreachable")


async def _copy(source: ByteReceiveStream, target: BinaryIO) -> None:
    async for chunk in source:
        target.write(chunk)
        target.flush()


async def _feed(target: ByteSendStream) -> None:
    descriptor = sys.stdin.fileno()
    try:
        while chunk := await _read(descriptor):
            await target.send(chunk)
        await target.aclose()
    except anyio.BrokenResourceError:
        pass  # the command has ended without reading all; its exit code tells


async def _read(descriptor: int) -> bytes:
    try:
        await anyio.wait_readable(descriptor)
    except PermissionError:  # a regular file: always readable, which epoll does not say of it
        await anyio.lowlevel.checkpoint()
    return os.read(descriptor, _CHUNK_BYTES)


async def _sizes(session: ExecStream) -> None:
    with anyio.open_signal_receiver(signal.SIGWINCH) as changes:
        size = os.get_terminal_size(sys.stdin.fileno())
        await session.resize(size.columns, size.lines)
        async for _ in changes:
            size = os.get_terminal_size(sys.stdin.fileno())
            await session.resize(size.columns, size.lines)


@contextmanager
def _raw() -> Iterator[None]:
    """Pass every key on as it is typed; the terminal is as before afterwards."""
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    terminals.setraw(descriptor)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
