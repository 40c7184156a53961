"""Kubelet's `/exec` and `/attach`: takes a client's connection, WebSocket or SPDY, and serves its streams.

Source: `k8s.io/cri-streaming/pkg/streaming/remotecommand`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

import anyio
from starlette.datastructures import QueryParams
from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse, Response
from starlette.websockets import WebSocket

from headrace.errors import HeadraceError, InvalidSpec
from headrace.node import exec as commands
from headrace.node.remote_channels import SocketChannel, StreamsChannel
from headrace.node.streams import PING_EVERY_S, Messages
from headrace.node.upgrades import upgraded
from headrace.spec.kind import Json

PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
"""Over SPDY both are the same; a WebSocket can end its input with the newer one only."""

Session = Callable[[commands.Channel], Awaitable[Json]]
"""Serves a client's channel and returns the Status to end with."""

Prepare = Callable[[HTTPConnection, "Wanted"], Session]
"""Returns what serves a request's channel; raises an error of `headrace.errors` with the sentence for the client."""

_YES = frozenset({"1", "true", "True"})
_STREAMS_WITHIN_S = 30.0
_LINGER_S = 5.0


class Wanted(NamedTuple):
    """Which streams a client asks for; a terminal has one output."""

    stdin: bool
    stdout: bool
    stderr: bool
    tty: bool

    @property
    def streams(self) -> frozenset[str]:
        """The types of the SPDY streams that the client is going to open."""
        asked = {"error": True, "stdin": self.stdin, "stdout": self.stdout, "stderr": self.stderr, "resize": self.tty}
        return frozenset(name for name, is_asked in asked.items() if is_asked)


def wanted(query: QueryParams) -> Wanted:
    """Return what the query asks for; raises InvalidSpec in kubelet's words."""
    tty = query.get("tty") in _YES
    stdin, stdout, stderr = (query.get(name) in _YES for name in ("input", "output", "error"))
    if not (stdin or stdout or stderr):
        raise InvalidSpec("you must specify at least 1 of stdin, stdout, stderr")
    return Wanted(stdin, stdout, stderr and not tty, tty)


def exit_status(code: int) -> Json:
    """Return the Status that tells an exit code."""
    if code == 0:
        return {"metadata": {}, "status": "Success"}
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"command terminated with non-zero exit code: {code}",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }


class RemoteCommand:
    """Serves the routes of `what`; refuses before the handshake, and with the Status afterwards."""

    def __init__(self, what: str, prepare: Prepare) -> None:
        self._what = what
        self._prepare = prepare

    async def serve(self, socket: WebSocket) -> None:
        """Serve a WebSocket."""
        offered = socket.scope.get("subprotocols", ())
        chosen = next((name for name in PROTOCOLS if name in offered), None)
        try:
            if chosen is None:
                raise InvalidSpec(f"{self._what} needs one of the subprotocols {', '.join(PROTOCOLS)}.")
            session = self._prepare(socket, wanted(socket.query_params))
        except HeadraceError as error:
            await socket.send_denial_response(PlainTextResponse(str(error), error.http_status))
            return
        await socket.accept(subprotocol=chosen)
        await over_websocket(socket, session)

    async def serve_by_spdy(self, request: Request) -> Response:
        """Serve a connection that is upgraded to SPDY."""
        try:
            asked = wanted(request.query_params)
            session = self._prepare(request, asked)
        except HeadraceError as error:
            return PlainTextResponse(str(error), error.http_status)

        async def serve(messages: Messages, _protocol: str) -> None:
            await over_spdy(messages, request.url.path, asked, session)

        return upgraded(request, PROTOCOLS, serve)


async def _status(session: Session, channel: commands.Channel) -> Json:
    try:
        return await session(channel)
    except HeadraceError as error:
        return {"metadata": {}, "status": "Failure", "reason": "InternalError", "message": str(error), "code": 500}


async def over_websocket(socket: WebSocket, session: Session) -> None:
    """Serve a WebSocket that has been accepted."""
    channel = SocketChannel(socket)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_probe, channel, tasks.cancel_scope)
        await channel.finish(await _status(session, channel))
        tasks.cancel_scope.cancel()


async def _probe(channel: SocketChannel, scope: anyio.CancelScope) -> None:
    """Cancel `scope` when the client has gone, which nothing else tells while its input waits for the command.

    A kubelet sends empty messages, too.
    """
    is_there = True
    while is_there:
        await anyio.sleep(PING_EVERY_S)
        is_there = await channel.send(commands.STDOUT, b"")
    scope.cancel()


async def over_spdy(messages: Messages, name: str, asked: Wanted, session: Session) -> None:
    """Serve a SPDY connection, once the client has opened the streams it asks for.

    Args:
        name: what it is about, for the log.
    """
    channel = StreamsChannel(messages, name, asked.streams)
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(channel.run, tasks.cancel_scope)
            with anyio.move_on_after(_STREAMS_WITHIN_S):
                await channel.complete.wait()
            if channel.complete.is_set():
                # Which waits for a client that reads slowly, as long as it is there.
                await channel.finish(await _status(session, channel))
            tasks.cancel_scope.cancel()
        with anyio.move_on_after(_LINGER_S):
            await channel.linger()
    finally:
        channel.close()
