"""A client's streams as `exec.Channel`: channels of a WebSocket, or streams of a SPDY connection.

Over WebSocket the first byte of a message is its channel; over SPDY each channel is a stream of its own. Either way the
last thing sent is a Status, on the error channel.
Source: `k8s.io/cri-streaming/pkg/streaming/remotecommand`; `k8s.io/client-go/tools/remotecommand`.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Set

import anyio
import msgspec
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from headrace.node import exec as commands
from headrace.node.streams import Connection, Ignored, Messages, Stream
from headrace.spec.kind import Json

STDIN, STDOUT, STDERR, ERROR, RESIZE, _CLOSE = 0, commands.STDOUT, commands.STDERR, 3, 4, 255
_ITEMS = 16


class SocketChannel:
    """`commands.Channel` over a WebSocket."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket
        self._sending = anyio.Lock()

    async def send(self, stream: int, data: bytes) -> bool:
        async with self._sending:
            if self._socket.application_state is not WebSocketState.CONNECTED:
                return False
            try:
                await self._socket.send_bytes(bytes([stream]) + data)
            except (WebSocketDisconnect, RuntimeError):
                return False  # gone; `receive` says so
        return True

    async def receive(self) -> bytes | commands.Resize | None:
        while True:
            try:
                message = await self._socket.receive_bytes()
            except (WebSocketDisconnect, KeyError, RuntimeError) as error:
                raise anyio.EndOfStream from error
            channel, data = (message[0], message[1:]) if message else (STDIN, b"")
            if channel == STDIN and data:
                return data
            if channel == _CLOSE and data[:1] == bytes([STDIN]):
                return None
            if channel == RESIZE and (size := _size(data)) is not None:
                return size

    async def finish(self, status: Json) -> None:
        """Send the status on the error channel and close."""
        await self.send(ERROR, json.dumps(status).encode())
        if self._socket.application_state is WebSocketState.CONNECTED:
            try:
                await self._socket.close(1000)
            except (WebSocketDisconnect, RuntimeError):
                return  # the client hung up first


class StreamsChannel:
    """`commands.Channel` over SPDY streams. `run` it once, beside whoever uses it.

    Args:
        name: what it is about, for the log.
        kinds: of the streams that the client is going to open.
    """

    def __init__(self, messages: Messages, name: str, kinds: Set[str]) -> None:
        self.complete = anyio.Event()
        """Set when all streams are there."""
        self._connection = Connection(messages, self._open, name=name)
        self._kinds = kinds
        self._streams: dict[str, Stream] = {}
        self._arriving, self._arrived = anyio.create_memory_object_stream[bytes | commands.Resize | None](_ITEMS)
        self._outputs: Mapping[int, str] = {STDOUT: "stdout", STDERR: "stderr"}

    async def run(self, scope: anyio.CancelScope) -> None:
        """Take in what the client sends, until it has gone; then cancel `scope`, in which all is done for it."""
        await self._connection.run()
        scope.cancel()

    async def send(self, stream: int, data: bytes) -> bool:
        to = self._streams.get(self._outputs[stream])
        return to is not None and await to.send(data)

    async def receive(self) -> bytes | commands.Resize | None:
        return await self._arrived.receive()

    async def finish(self, status: Json) -> None:
        """Send the status and end all streams; input that still comes is dropped."""
        self._arrived.close()
        for name in ("stdout", "stderr", "stdin", "resize"):
            if name in self._streams:
                await self._streams[name].end()
        await self._streams["error"].end(json.dumps(status).encode())
        await self._connection.say_goodbye()

    async def linger(self) -> None:
        """Wait for the client to leave, so that it reads the status first."""
        await self._connection.linger()

    def close(self) -> None:
        """Nothing is taken or given any more."""
        self._arriving.close()
        self._arrived.close()

    async def _open(self, stream: Stream) -> None:
        kind = stream.headers.get("streamtype", "")
        if kind not in self._kinds or kind in self._streams:
            await stream.reset()
            stream.forget()
            return
        self._streams[kind] = stream
        await stream.accept(self._receiver(kind))
        if self._streams.keys() == self._kinds:
            self.complete.set()

    def _receiver(self, kind: str) -> Ignored:
        if kind == "stdin":
            return _Input(self._take)
        return _Sizes(self._take) if kind == "resize" else Ignored()

    async def _take(self, item: bytes | commands.Resize | None) -> None:
        try:
            await self._arriving.send(item)
        except anyio.BrokenResourceError:
            return  # the command has ended


class _Input(Ignored):
    def __init__(self, take: Callable[[bytes | None], Awaitable[None]]) -> None:
        self._take = take
        self._has_ended = False

    async def put(self, data: bytes) -> None:
        if data and not self._has_ended:
            await self._take(data)

    async def end(self) -> None:
        if not self._has_ended:
            self._has_ended = True
            await self._take(None)


class _Sizes(Ignored):
    """Sizes of the client's terminal, each a JSON object and a new line (Go's `json.Encoder`)."""

    _LONGEST = 1024

    def __init__(self, take: Callable[[commands.Resize], Awaitable[None]]) -> None:
        self._take = take
        self._rest = b""

    async def put(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._rest = self._rest[: self._LONGEST]
        for line in lines:
            if (size := _size(line)) is not None:
                await self._take(size)


def _size(data: bytes) -> commands.Resize | None:
    """Read a terminal's size; None for what is none."""
    try:
        size = msgspec.json.decode(data, type=dict[str, int])
        return commands.Resize(size["Width"], size["Height"])
    except (msgspec.DecodeError, KeyError):
        return None
