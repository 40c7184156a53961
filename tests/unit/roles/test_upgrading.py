"""Taking a connection out of uvicorn: over a transport in memory, with an application that takes it or does not."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import pytest
import uvicorn
from anyio.abc import ByteStream
from uvicorn.server import ServerState

from headrace.node.upgrades import EXTENSION, TAKE
from headrace.roles.upgrading import _HELD_BYTES, UpgradingProtocol

pytestmark = pytest.mark.anyio

HEAD = b"POST /exec HTTP/1.1\r\nHost: n\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nContent-Length: 0\r\n\r\n"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # uvicorn's


class Transport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.reads = True
        self.is_closed = self.is_aborted = False
        self.protocol: Any = None

    def write(self, data: Any) -> None:
        self.written += bytes(data)

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def get_protocol(self) -> Any:
        return self.protocol

    def is_closing(self) -> bool:
        return self.is_closed

    def close(self) -> None:
        self.is_closed = True

    def abort(self) -> None:
        self.is_closed = self.is_aborted = True


class Line:
    """One connection to a server whose application is `app`."""

    def __init__(self, app: Any) -> None:
        self.state = ServerState()
        config = uvicorn.Config(app, http=UpgradingProtocol, ws="none", lifespan="off", log_config=None)
        config.load()
        self.transport = Transport()
        self.protocol = UpgradingProtocol(config, self.state, {})
        self.transport.protocol = self.protocol
        self.protocol.connection_made(self.transport)

    def come(self, data: bytes) -> None:
        self.transport.protocol.data_received(data)

    async def done(self) -> None:
        """Wait for the application."""
        with anyio.fail_after(5):
            await asyncio.gather(*self.state.tasks)


class Taking:
    """An application that takes the connection."""

    def __init__(self) -> None:
        self.may_take = anyio.Event()
        self.may_end = anyio.Event()
        self.taken = anyio.Event()
        self.stream: ByteStream

    async def __call__(self, scope: Any, _receive: Any, _send: Any) -> None:
        await self.may_take.wait()
        async with await scope["extensions"][EXTENSION][TAKE]({"Upgrade": "SPDY/3.1"}) as self.stream:
            self.taken.set()
            await self.may_end.wait()


async def test_what_comes_early_is_not_lost_and_reading_waits_for_the_decision() -> None:
    app = Taking()
    line = Line(app)
    line.come(HEAD + b"one")
    assert not line.transport.reads
    line.come(b" two")
    app.may_take.set()
    await app.taken.wait()
    assert line.transport.written == b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: SPDY/3.1\r\n\r\n"
    assert line.transport.reads
    line.come(b" three")
    assert await app.stream.receive() == b"one two three"
    await app.stream.send(b"answer")
    assert line.transport.written.endswith(b"\r\n\r\nanswer")
    app.may_end.set()
    await line.done()
    assert (line.transport.is_closed, line.transport.is_aborted) == (True, False)
    line.transport.protocol.connection_lost(None)
    assert not line.state.connections


async def test_an_application_that_answers_ends_the_connection() -> None:
    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 403, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"no"})

    line = Line(app)
    line.come(HEAD)
    await line.done()
    assert line.transport.written.startswith(b"HTTP/1.1 403 Forbidden\r\n")
    assert b"connection: close\r\n" in line.transport.written
    assert line.transport.is_closed


async def test_other_requests_are_offered_nothing() -> None:
    seen: list[Any] = []

    async def app(scope: Any, _receive: Any, send: Any) -> None:
        seen.append(scope.get("extensions"))
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    line = Line(app)
    line.come(b"GET / HTTP/1.1\r\nHost: n\r\nUpgrade: SPDY/3.1\r\n\r\n")
    await line.done()
    line.come(b"GET / HTTP/1.1\r\nHost: n\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
    await line.done()
    line.come(b"GET / HTTP/1.1\r\nHost: n\r\n\r\n")
    await line.done()
    assert seen == [None, None, None]
    line.come(b"nonsense\r\n\r\n")
    assert b"HTTP/1.1 400 Bad Request" in line.transport.written
    line.protocol.connection_lost(None)


async def test_a_client_that_went_before_it_was_taken_is_missed_at_once() -> None:
    app = Taking()
    line = Line(app)
    line.come(HEAD)
    line.transport.close()
    line.protocol.connection_lost(None)
    app.may_take.set()
    await app.taken.wait()
    with pytest.raises(anyio.EndOfStream):
        await app.stream.receive()
    with pytest.raises(anyio.BrokenResourceError):
        await app.stream.send(b"x")
    app.may_end.set()
    await line.done()


async def test_neither_side_piles_up() -> None:
    app = Taking()
    app.may_take.set()
    line = Line(app)
    line.come(HEAD)
    await app.taken.wait()
    line.come(bytes(_HELD_BYTES))
    assert line.transport.reads
    line.come(b"x")
    assert not line.transport.reads
    got = 0
    while not line.transport.reads:
        got += len(await app.stream.receive(60_000))
    assert got > _HELD_BYTES // 2
    line.transport.protocol.pause_writing()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(app.stream.send, b"late")
        await anyio.wait_all_tasks_blocked()
        assert b"late" not in line.transport.written
        line.transport.protocol.resume_writing()
    assert line.transport.written.endswith(b"late")
    # The client vanishes while somebody waits for it.
    line.transport.protocol.pause_writing()
    async with anyio.create_task_group() as tasks:

        async def send() -> None:
            with pytest.raises(anyio.BrokenResourceError):
                await app.stream.send(b"never")

        tasks.start_soon(send)
        await anyio.wait_all_tasks_blocked()
        line.transport.close()
        line.transport.protocol.connection_lost(OSError())
    app.may_end.set()
    await line.done()


async def test_a_server_that_stops_takes_back_what_it_gave() -> None:
    app = Taking()
    app.may_take.set()
    line = Line(app)
    line.come(HEAD)
    await app.taken.wait()
    for connection in line.state.connections:
        connection.shutdown()
    assert line.transport.is_aborted
    app.may_end.set()
    await line.done()
