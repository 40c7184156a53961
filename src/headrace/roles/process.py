"""What every long-lived process of ours does at its start and end: logs, readiness, SIGTERM."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import uvloop

from headrace.errors import HeadraceError
from headrace.settings import Home, default_home
from headrace.telemetry import configure, logger

PROCESS_FAILED = "process.failed"

_LOOK_EVERY_S = 0.01


def run(name: str, program: Callable[[Home], Awaitable[None]]) -> None:
    """Run a process of an embedded engine, see `run_program`; `program` is given the state directory."""
    run_program(name, lambda: program(Home(default_home())))


def run_program(
    name: str,
    program: Callable[[], Awaitable[None]],
    *,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop,
) -> None:
    """Run `program` until it ends or SIGTERM asks; then everything in it is cancelled and cleaned up.

    An error of ours is logged as its sentence and ends the process with 1.
    """
    configure(os.environ.get("HEADRACE_LOG_LEVEL", "INFO"), process=name)
    try:
        run_until_asked(program, loop_factory=loop_factory)
    except* HeadraceError as group:
        for error in _leaves(group):
            logger().error(PROCESS_FAILED, error=str(error))
        sys.exit(1)


def run_until_asked(
    program: Callable[[], Awaitable[None]],
    *,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop,
) -> None:
    """Run `program` until it ends, or SIGTERM or SIGINT cancels it. Its errors come out in exception groups."""

    async def until_asked() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(_cancel_on_signal, group.cancel_scope)
            await program()
            group.cancel_scope.cancel()

    signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # the command line ends by it; a server's clients may vanish
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(until_asked())


def _leaves(group: BaseExceptionGroup[HeadraceError]) -> list[BaseException]:
    leaves: list[BaseException] = []
    for error in group.exceptions:
        leaves += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return leaves


async def _cancel_on_signal(scope: anyio.CancelScope) -> None:
    """Cancel when somebody asks. What the process was started to ignore it ignores, as a script's background jobs do SIGINT."""
    heeded = [each for each in (signal.SIGTERM, signal.SIGINT) if signal.getsignal(each) is not signal.SIG_IGN]
    with anyio.open_signal_receiver(*heeded) as signals:
        async for _ in signals:
            scope.cancel()
            return


def say_ready(file: Path) -> None:
    """Make the file by which the supervisor knows that this process is ready."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"{os.getpid()}\n")


async def until_ready(file: Path) -> None:
    """Wait until another process has made its file. Whoever waits too long is ended by the supervisor."""
    while not file.exists():  # noqa: ASYNC110 - a file has no event, and this lasts for a second at most
        await anyio.sleep(_LOOK_EVERY_S)
