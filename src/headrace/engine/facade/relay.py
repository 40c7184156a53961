"""Two WebSockets made one: a client's and the one to a node's agent."""

from __future__ import annotations

from contextlib import suppress

import anyio
from starlette.websockets import WebSocket, WebSocketDisconnect

from headrace.engine.facade import answers
from headrace.engine.facade.node_socket import NodeSocket
from headrace.errors import HeadraceError


async def refuse_socket(socket: WebSocket, error: HeadraceError) -> None:
    """Refuse a WebSocket with a Status, before the handshake."""
    await socket.send_denial_response(answers.refuse(error))


async def relay(socket: WebSocket, node: NodeSocket) -> None:
    """Carry messages both ways until one side ends; then end the other."""
    async with anyio.create_task_group() as group:

        async def to_node() -> None:
            while (message := await socket.receive())["type"] == "websocket.receive":
                data = message.get("bytes")
                await node.send(message["text"] if data is None else data)
            group.cancel_scope.cancel()

        group.start_soon(to_node)
        with suppress(WebSocketDisconnect):
            while (message := await node.receive()) is not None:
                if isinstance(message, str):
                    await socket.send_text(message)
                else:
                    await socket.send_bytes(message)
            await socket.close()
        group.cancel_scope.cancel()
