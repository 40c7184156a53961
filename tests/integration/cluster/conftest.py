"""A small HTTP server that answers as a test says, faults included, and notes what it was asked."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import anyio
import anyio.abc
import msgspec
import pytest
import wsproto
from anyio.streams.buffered import BufferedByteReceiveStream
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Ping, Request

from headrace.cluster.remote import RemoteCluster
from headrace.cluster.remote.connection import Connection


class Exchange:
    """One request as it came, and the means to answer it."""

    def __init__(self, stream: anyio.abc.ByteStream, head: bytes, body: bytes) -> None:
        self._stream = stream
        self.head = head
        self.body = body
        line, *fields = head.decode().split("\r\n")
        self.method, target, _ = line.split(" ")
        self.path = urlsplit(target).path
        self.query = dict(parse_qsl(urlsplit(target).query))
        self.words = [value for key, value in parse_qsl(urlsplit(target).query) if key == "command"]
        self.headers = {name.lower(): value for name, _, value in (field.partition(": ") for field in fields)}

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)

    async def answer(self, status: int, body: Any = None, **headers: str) -> None:
        content = body if isinstance(body, bytes) else msgspec.json.encode(body)
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        fields = {"content-type": "application/json", "content-length": str(len(content)), **given}
        await self.raw(_head(status, fields) + content)

    async def begin(self) -> None:
        """Begin a chunked answer."""
        await self.raw(_head(200, {"transfer-encoding": "chunked"}))

    async def chunk(self, content: bytes) -> None:
        await self.raw(b"%x\r\n%s\r\n" % (len(content), content))

    async def event(self, type: str, object: Any) -> None:
        await self.chunk(msgspec.json.encode({"type": type, "object": object}) + b"\n")

    async def raw(self, content: bytes) -> None:
        await self._stream.send(content)

    async def cut(self) -> None:
        await self._stream.aclose()

    async def upgrade(self, protocol: str) -> Socket:
        socket = Socket(self._stream, self.head)
        await socket.accept(protocol)
        return socket


class Socket:
    """The server's end of a WebSocket."""

    def __init__(self, stream: anyio.abc.ByteStream, head: bytes) -> None:
        self._stream = stream
        self._connection = wsproto.WSConnection(wsproto.ConnectionType.SERVER)
        self._connection.receive_data(head + b"\r\n\r\n")
        self._events = self._connection.events()
        request = next(self._events)
        assert isinstance(request, Request)
        self.offered = request.subprotocols

    async def accept(self, protocol: str) -> None:
        await self._stream.send(self._connection.send(AcceptConnection(subprotocol=protocol)))

    async def send(self, channel: int, content: bytes) -> None:
        await self._stream.send(self._connection.send(BytesMessage(bytes([channel]) + content)))

    async def receive(self) -> tuple[int, bytes]:
        """Return the next message's channel and content."""
        message = b""
        while True:
            for event in self._connection.events():
                if isinstance(event, Ping):
                    await self._stream.send(self._connection.send(event.response()))
                if isinstance(event, BytesMessage):
                    message += event.data
                    if event.message_finished:
                        return message[0], bytes(message[1:])
                if isinstance(event, CloseConnection):
                    raise anyio.EndOfStream
            self._connection.receive_data(await self._stream.receive())

    async def close(self) -> None:
        await self._stream.send(self._connection.send(CloseConnection(code=1000)))


def _head(status: int, fields: dict[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} X", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


Responder = Callable[[Exchange], Awaitable[None]]


class Server:
    """Answers each request with the next of its responders, the last one again and again."""

    def __init__(self) -> None:
        self.seen: list[Exchange] = []
        self.url = ""
        self.connections = 0
        self._responders: list[Responder] = []

    def script(self, *responders: Responder) -> None:
        self._responders += responders

    def answers(self, status: int, body: Any = None, **headers: str) -> None:
        """Script one plain answer."""

        async def respond(exchange: Exchange) -> None:
            await exchange.answer(status, body, **headers)

        self.script(respond)

    @property
    def last(self) -> Exchange:
        return self.seen[-1]

    async def handle(self, stream: anyio.abc.ByteStream) -> None:
        self.connections += 1
        source = BufferedByteReceiveStream(stream)
        async with stream:
            while True:
                try:
                    head = await source.receive_until(b"\r\n\r\n", 65536)
                    exchange = Exchange(stream, head, b"")
                    exchange.body = await source.receive_exactly(int(exchange.headers.get("content-length", 0)))
                except (anyio.IncompleteRead, anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
                    return
                self.seen.append(exchange)
                responder = self._responders.pop(0) if len(self._responders) > 1 else self._responders[0]
                try:
                    await responder(exchange)
                except (anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream):
                    return


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    server.url = f"http://127.0.0.1:{listener.extra(anyio.abc.SocketAttribute.local_port)}"
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, server.handle)
        yield server
        tasks.cancel_scope.cancel()


@pytest.fixture
async def remote(server: Server) -> AsyncIterator[RemoteCluster]:
    async with RemoteCluster(Connection(server=server.url).open()) as remote:
        yield remote
