"""A WebSocket to a node's agent, on AnyIO: the protocol is `websockets`' own, without its event loop.

Only what exec and port-forward need: messages both ways, pings answered, one closing handshake.
"""

from __future__ import annotations

import ssl
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

import anyio
from anyio.abc import ByteStream
from websockets.client import ClientProtocol
from websockets.datastructures import Headers
from websockets.exceptions import InvalidStatus, NegotiationError
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from headrace.engine.facade.refusals import AgentRefused
from headrace.errors import Unavailable

CONNECT_DEADLINE_S = 10.0
CLOSE_DEADLINE_S = 2.0
_MESSAGE_LIMIT_BYTES = 16 * 1024 * 1024


class NodeSocket:
    """An open connection. Made by `connect`; one task may send while another receives."""

    def __init__(self, stream: ByteStream, protocol: ClientProtocol) -> None:
        self._stream = stream
        self._protocol = protocol
        self._sending = anyio.Lock()
        self._parts: list[bytes] = []
        self._is_text = False
        self._arrived: deque[bytes | str] = deque()

    @property
    def subprotocol(self) -> str:
        """What both sides agreed on, such as `v5.channel.k8s.io`; empty for none."""
        return self._protocol.subprotocol or ""

    async def send(self, message: bytes | str) -> None:
        """Send one message, binary or text; does nothing once the connection is closed."""
        async with self._sending:
            if self._protocol.state is State.OPEN:
                if isinstance(message, str):
                    self._protocol.send_text(message.encode())
                else:
                    self._protocol.send_binary(message)
                await self._flush()

    async def receive(self) -> bytes | str | None:
        """Return the next message, None when the agent has closed."""
        while not self._arrived:
            if not await self._read():
                return None
            async with self._sending:
                await self._flush()
        return self._arrived.popleft()

    async def shake_hands(self) -> None:
        """Ask for the upgrade and wait for it; raises AgentRefused and Unavailable."""
        self._protocol.send_request(self._protocol.connect())
        await self._flush()
        while self._protocol.state is State.CONNECTING and self._protocol.handshake_exc is None:
            await self._read()
        fault = self._protocol.handshake_exc
        if isinstance(fault, InvalidStatus):
            raise AgentRefused(fault.response.status_code, bytes(fault.response.body or b"")) from fault
        if fault is not None:
            raise Unavailable(f"The node's agent speaks no WebSocket: {fault}.", hint="Check its version.") from fault

    async def close(self) -> None:
        """Say goodbye; never waits for the agent's answer."""
        with anyio.move_on_after(CLOSE_DEADLINE_S, shield=True):
            async with self._sending:
                if self._protocol.state is State.OPEN:
                    self._protocol.send_close()
                    await self._flush()

    async def _read(self) -> bool:
        """Take in what has come; False at the end of the connection."""
        try:
            data = await self._stream.receive(65536)
        except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
            self._protocol.receive_eof()
            data = b""
        if data:
            self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            if isinstance(event, Frame) and event.opcode in {Opcode.BINARY, Opcode.TEXT, Opcode.CONT}:
                if event.opcode is not Opcode.CONT:
                    self._is_text = event.opcode is Opcode.TEXT
                self._parts.append(bytes(event.data))
                if event.fin:
                    message = b"".join(self._parts)
                    self._arrived.append(message.decode(errors="replace") if self._is_text else message)
                    self._parts = []
        return bool(data)

    async def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
                    await self._stream.send(data)


class _Lenient(ClientProtocol):
    """Takes what was offered, token or not: Kubernetes' names have slashes in them (see `websockets.py`)."""

    def process_subprotocol(self, headers: Headers) -> Subprotocol | None:
        chosen = headers.get("Sec-WebSocket-Protocol")
        if chosen is None:
            return None
        if chosen not in (self.available_subprotocols or ()):
            raise NegotiationError(f"unsupported subprotocol: {chosen}")
        return Subprotocol(chosen)


@asynccontextmanager
async def connect(
    url: str, *, host: str, port: int, tls: ssl.SSLContext, subprotocols: Sequence[str]
) -> AsyncIterator[NodeSocket]:
    """Open a WebSocket to `url` (`wss://…`).

    Raises Unavailable when the agent cannot be reached in time, AgentRefused when it answers with an error.
    """
    try:
        with anyio.fail_after(CONNECT_DEADLINE_S):
            stream = await anyio.connect_tcp(host, port, tls=True, ssl_context=tls, tls_standard_compatible=False)
    except (OSError, TimeoutError) as error:
        raise unreachable(host, port, error) from error
    async with stream:
        offered = [Subprotocol(name) for name in subprotocols]
        protocol = _Lenient(parse_uri(url), subprotocols=offered or None, max_size=_MESSAGE_LIMIT_BYTES)
        socket = NodeSocket(stream, protocol)
        try:
            with anyio.fail_after(CONNECT_DEADLINE_S):
                await socket.shake_hands()
        except TimeoutError as error:
            raise unreachable(host, port, error) from error
        try:
            yield socket
        finally:
            await socket.close()


def unreachable(host: str, port: int, error: Exception) -> Unavailable:
    """Return the error for an agent that does not answer."""
    return Unavailable(
        f"The node's agent at {host}:{port} cannot be reached: {str(error) or 'no answer in time'}.",
        hint="See `kubectl get nodes`; try again when the node is Ready.",
    )
