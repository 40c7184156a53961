"""Kubelet's `/portForward`: takes the connection, finds the pod, and hands both to whoever speaks the subprotocol."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

import anyio
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from headrace.errors import HeadraceError, InvalidSpec
from headrace.node.channels import BASE64, BINARY, Channels, parse_ports
from headrace.node.ports import PodPorts
from headrace.node.streams import Messages
from headrace.node.tunnel import Tunnel
from headrace.node.upgrades import upgraded

SPDY = "portforward.k8s.io"
TUNNEL = f"SPDY/3.1+{SPDY}"
SUBPROTOCOLS = (TUNNEL, BINARY, BASE64)
_GOODBYE_S = 2.0


class FindPorts(Protocol):
    """Finds a running pod; raises an error of `headrace.errors` with the sentence for the user."""

    def __call__(self, namespace: str, pod: str, uid: str = "") -> PodPorts: ...


class _Session(Protocol):
    async def run(self) -> None: ...

    async def say_goodbye(self) -> None: ...


class PortForward:
    """Serves the route."""

    def __init__(self, find: FindPorts) -> None:
        self._find = find

    async def serve(self, socket: WebSocket) -> None:
        """Forward ports until the client leaves or the pod has ended; refuses before the handshake."""
        path = socket.path_params
        offered = socket.scope.get("subprotocols", ())
        chosen = next((name for name in SUBPROTOCOLS if name in offered), "")
        try:
            if offered and not chosen:
                raise InvalidSpec(f"port-forward needs one of the subprotocols {', '.join(SUBPROTOCOLS)}.")
            ports = [] if chosen == TUNNEL else parse_ports(socket.query_params.getlist("port"))
            pod = self._find(path["namespace"], path["pod"], path.get("uid", ""))
        except HeadraceError as error:
            status = 400 if isinstance(error, InvalidSpec) else error.http_status
            await socket.send_denial_response(PlainTextResponse(str(error), status))
            return
        await socket.accept(subprotocol=chosen or None)
        messages = _SocketMessages(socket)
        session: _Session
        if chosen == TUNNEL:
            session = Tunnel(messages, pod)
        else:
            session = Channels(messages, pod, ports, is_text=chosen == BASE64)
        await _run(session, pod.until_gone)
        await messages.close()

    async def serve_by_spdy(self, request: Request) -> Response:
        """Forward ports over an upgraded connection, which each is told in its streams' headers."""
        path = request.path_params
        try:
            pod = self._find(path["namespace"], path["pod"], path.get("uid", ""))
        except HeadraceError as error:
            return PlainTextResponse(str(error), error.http_status)

        async def serve(messages: Messages, _protocol: str) -> None:
            await _run(Tunnel(messages, pod), pod.until_gone)

        return upgraded(request, (SPDY,), serve)


async def _run(session: _Session, until_gone: Callable[[], Awaitable[None]]) -> None:
    """Serve until the session is over or the pod is, of which the client is told."""
    async with anyio.create_task_group() as tasks:

        async def end_with_pod() -> None:
            await until_gone()
            with anyio.move_on_after(_GOODBYE_S):
                await session.say_goodbye()
            tasks.cancel_scope.cancel()

        tasks.start_soon(end_with_pod)
        await session.run()
        tasks.cancel_scope.cancel()


class _SocketMessages:
    """`streams.Messages` over a WebSocket."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket

    async def receive(self) -> bytes | str:
        try:
            message = await self._socket.receive()
        except RuntimeError as error:
            raise anyio.EndOfStream from error
        if message["type"] == "websocket.disconnect":
            raise anyio.EndOfStream
        data: bytes | None = message.get("bytes")
        return data if data is not None else str(message["text"])

    async def send(self, message: bytes | str) -> bool:
        if self._socket.application_state is not WebSocketState.CONNECTED:
            return False
        try:
            if isinstance(message, str):
                await self._socket.send_text(message)
            else:
                await self._socket.send_bytes(message)
        except (WebSocketDisconnect, RuntimeError):
            return False
        return True

    async def close(self) -> None:
        if self._socket.application_state is WebSocketState.CONNECTED:
            try:
                await self._socket.close(1000)
            except (WebSocketDisconnect, RuntimeError):
                return  # the client hung up first
