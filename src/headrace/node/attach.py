"""Kubelet's `/attach`: what a container says from now on, as it says it. There is nothing to say to it: use exec."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio

from headrace.errors import InvalidSpec
from headrace.node import exec as commands
from headrace.node.logs import LogOptions
from headrace.node.remote_command import Session, Wanted, exit_status
from headrace.spec.kind import Json

Follow = Callable[[LogOptions, Callable[[bytes], Awaitable[None]]], Awaitable[None]]
"""Sends a container's log until the container has ended."""


def attaching(asked: Wanted, follow: Follow) -> Session:
    """Return what serves a client that attaches; raises InvalidSpec for one that wants to be read."""
    if asked.stdin:
        raise InvalidSpec(
            "A container's standard input is empty on this node, so nothing can be typed into it.",
            hint="Attach without -i, or run a shell beside it: kubectl exec -it",
        )

    async def session(channel: commands.Channel) -> Json:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_until_gone, channel, tasks.cancel_scope)
            async with anyio.create_task_group() as following:
                for name, stream in (("stdout", commands.STDOUT), ("stderr", commands.STDERR)):
                    if name in asked.streams or asked.tty:  # a terminal has one output
                        following.start_soon(_pass_on, channel, commands.STDOUT if asked.tty else stream, name)
            tasks.cancel_scope.cancel()
        return exit_status(0)

    async def _pass_on(channel: commands.Channel, stream: int, name: str) -> None:
        async def sink(data: bytes) -> None:
            # A client with a terminal has it raw, and nobody here turns ends of lines into what that needs.
            await channel.send(stream, data.replace(b"\n", b"\r\n") if asked.tty else data)

        await follow(LogOptions(follow=True, tail_lines=0, stream=name), sink)

    return session


async def _until_gone(channel: commands.Channel, scope: anyio.CancelScope) -> None:
    try:
        while True:
            await channel.receive()
    except anyio.EndOfStream:
        scope.cancel()
