"""Ports forwarded over plain WebSocket messages: two channels a port, *data* 2n and *error* 2n+1.

Ports are known from the start, each is one connection, and there is no half-close: a client that ends, ends all of it.
Each channel begins with its port in two bytes, the smaller one first. `v4.base64.channel.k8s.io` has a digit and
base64 text for the byte and the bytes of `v4.channel.k8s.io` and of no subprotocol.
Source: `k8s.io/cri-streaming/pkg/streaming/portforward/websocket.go`, `k8s.io/streaming/pkg/httpstream/wsstream`.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence

import anyio

from headrace.errors import HeadraceError, InvalidSpec
from headrace.node.ports import PodPorts, carry
from headrace.node.streams import IDLE_S, Messages

BINARY, BASE64 = "v4.channel.k8s.io", "v4.base64.channel.k8s.io"
_MESSAGES = 16


def parse_ports(texts: Sequence[str]) -> list[int]:
    """Return the ports of a query (`port=80&port=81,82`); raises InvalidSpec in kubelet's words."""
    if not texts:
        raise InvalidSpec('query parameter "port" is required')
    ports = []
    for text in texts:
        for part in text.split(","):
            if not part:
                raise InvalidSpec('query parameter "port" cannot be empty')
            if not (part.isascii() and part.isdecimal()) or int(part) > 65535:
                raise InvalidSpec(f'unable to parse "{text}" as a port')
            if int(part) < 1:
                raise InvalidSpec(f'port "{text}" must be > 0')
            ports.append(int(part))
    return ports


class _Channel:
    """One port's pair of channels: `ports.Client`."""

    def __init__(self, socket: Channels, number: int, port: int) -> None:
        self.port = port
        self._socket = socket
        self._number = number
        self._arriving, self._arrived = anyio.create_memory_object_stream[bytes](_MESSAGES)

    async def put(self, data: bytes) -> None:
        try:
            await self._arriving.send(data)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            return  # its connection is over

    async def receive(self) -> bytes:
        return await self._arrived.receive()

    async def send(self, data: bytes) -> None:
        await self._socket.send(self._number, data)

    async def end(self) -> None:
        """There is no word for it."""

    async def fail(self, sentence: str) -> None:
        await self._socket.send(self._number + 1, sentence.encode())

    async def begin(self) -> None:
        for number in (self._number, self._number + 1):
            await self._socket.send(number, self.port.to_bytes(2, "little"))

    def forget(self) -> None:
        self._arriving.close()
        self._arrived.close()


class Channels:
    """One client's connection. `run` it once."""

    def __init__(self, messages: Messages, pod: PodPorts, ports: Sequence[int], *, is_text: bool) -> None:
        self._messages = messages
        self._pod = pod
        self._channels = [_Channel(self, 2 * place, port) for place, port in enumerate(ports)]
        self._is_text = is_text

    async def run(self) -> None:
        """Serve until every port's connection has ended, or the client leaves."""
        for channel in self._channels:
            await channel.begin()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._read, tasks.cancel_scope)
            async with anyio.create_task_group() as connections:
                for channel in self._channels:
                    connections.start_soon(self._connect, channel)
            tasks.cancel_scope.cancel()

    async def say_goodbye(self) -> None:
        """There is no word for it but the end of the WebSocket."""

    async def send(self, number: int, data: bytes) -> None:
        """Send data of a channel."""
        if self._is_text:
            await self._messages.send(chr(ord("0") + number) + base64.b64encode(data).decode())
        else:
            await self._messages.send(bytes([number]) + data)

    async def _connect(self, channel: _Channel) -> None:
        try:
            async with self._pod.connect(channel.port) as pod:
                await carry(pod, channel)
        except HeadraceError as error:
            await channel.fail(self._pod.failure(channel.port, error))
        finally:
            channel.forget()

    async def _read(self, scope: anyio.CancelScope) -> None:
        try:
            while True:
                with anyio.fail_after(IDLE_S):
                    number, data = self._read_channel(await self._messages.receive())
                    # Only data channels are read, and an unknown one is nobody's (wsstream does the same).
                    if data and number % 2 == 0 and number // 2 < len(self._channels):
                        await self._channels[number // 2].put(data)
        except (anyio.EndOfStream, TimeoutError):
            scope.cancel()

    def _read_channel(self, message: bytes | str) -> tuple[int, bytes]:
        """Return a message's channel and data; no data for what cannot be read."""
        raw = message.encode() if isinstance(message, str) else message
        if not raw or not self._is_text:
            return (raw[0], raw[1:]) if raw else (0, b"")
        try:
            return (raw[0] - ord("0")) % 256, base64.b64decode(raw[1:], validate=True)
        except binascii.Error:
            return 0, b""
