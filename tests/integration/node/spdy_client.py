"""A client as kube-apiserver is one: asks for SPDY, opens streams, and reads what comes on them."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import uvicorn
from anyio.abc import SocketStream
from starlette.types import ASGIApp

from headrace.engine.facade.options import UVICORN_OPTIONS
from headrace.node import spdy
from headrace.roles.upgrading import UpgradingProtocol


class Refused(Exception):
    """The node answered without an upgrade: status, headers and body."""

    def __init__(self, status: int, head: str, body: str) -> None:
        super().__init__(f"{status} {body}")
        self.status, self.head, self.body = status, head, body


class SpdyClient:
    """One upgraded connection."""

    def __init__(self, stream: SocketStream, protocol: str, early: bytes) -> None:
        self.stream = stream
        self.protocol = protocol
        self.seen: list[spdy.Frame] = []
        self._reader, self._writer = spdy.Reader(), spdy.Writer()
        self._numbers: dict[str, int] = {}
        self.seen += self._reader.feed(early)

    async def say(self, *frames: spdy.Frame) -> None:
        for frame in frames:
            await self.stream.send(self._writer.encode(frame))

    async def open(self, *kinds: str, **headers: str) -> None:
        """Open streams, in this order, and wait for the answers."""
        for kind in kinds:
            number = self._numbers[kind] = 2 * len(self._numbers) + 1
            await self.say(spdy.SynStream(number, {"streamType": kind, **headers}))
        wanted = [spdy.SynReply(self._numbers[kind]) for kind in kinds]
        await self.until(lambda: all(reply in self.seen for reply in wanted))

    async def send(self, kind: str, data: bytes, *, is_last: bool = False) -> None:
        await self.say(spdy.Data(self._numbers[kind], data, is_last))

    def data(self, kind: str) -> bytes:
        number = self._numbers[kind]
        return b"".join(f.data for f in self.seen if isinstance(f, spdy.Data) and f.stream == number)

    def has_ended(self, kind: str) -> bool:
        return any(isinstance(f, spdy.Data) and f.stream == self._numbers[kind] and f.is_last for f in self.seen)

    @property
    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.data("error"))
        return found

    async def more(self) -> bool:
        """Read once; False when the node has closed."""
        try:
            self.seen += self._reader.feed(await self.stream.receive())
        except anyio.EndOfStream:
            return False
        return True

    async def until(self, met: Any) -> None:
        with anyio.fail_after(20):
            while not met():
                assert await self.more(), f"closed after {self.seen[-5:]}"

    async def rest(self) -> None:
        """Read until the node closes, as it does after its last word."""
        with anyio.fail_after(20):
            while not isinstance(self.seen[-1] if self.seen else None, spdy.GoAway):
                assert await self.more(), f"closed after {self.seen[-5:]}"


@asynccontextmanager
async def serving(app: ASGIApp) -> AsyncIterator[str]:
    """Serve a node's endpoint without TLS on a port of its own; yield `host:port`."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(app, log_level="critical", **{**UVICORN_OPTIONS, "http": UpgradingProtocol})
        server = uvicorn.Server(config)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.serve, [listener])
            while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
                await anyio.sleep(0.005)
            yield f"127.0.0.1:{listener.getsockname()[1]}"
            server.should_exit = True


@asynccontextmanager
async def upgraded(
    host: str,
    path: str,
    *,
    offered: Sequence[str] = ("v5.channel.k8s.io", "v4.channel.k8s.io"),
    headers: Mapping[str, str] | None = None,
) -> AsyncIterator[SpdyClient]:
    """Ask for SPDY; raises `Refused` when it is not given."""
    name, _, port = host.partition(":")
    words = {"Host": host, "Connection": "Upgrade", "Upgrade": "SPDY/3.1", "Content-Length": "0", **(headers or {})}
    lines = [f"POST {path} HTTP/1.1", *(f"{key}: {value}" for key, value in words.items())]
    lines += [f"X-Stream-Protocol-Version: {each}" for each in offered]
    async with await anyio.connect_tcp(name, int(port)) as stream:
        await stream.send("\r\n".join([*lines, "", ""]).encode())
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += await stream.receive()
        head, _, rest = answer.partition(b"\r\n\r\n")
        status = int(head.split()[1])
        if status != 101:
            try:
                while True:
                    rest += await stream.receive()
            except anyio.EndOfStream:
                raise Refused(status, head.decode().lower(), rest.decode()) from None
        chosen = next(
            line.split(": ")[1] for line in head.decode().splitlines() if line.startswith("X-Stream-Protocol-Version")
        )
        yield SpdyClient(stream, chosen, rest)
