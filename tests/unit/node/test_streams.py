"""SPDY connections over messages in memory: pings, silence, streams that nobody asked for."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
import trio.testing

from headrace.errors import Unavailable
from headrace.node import exec as commands
from headrace.node import remote_command, spdy
from headrace.node.remote_command import Wanted, exit_status
from headrace.node.streams import PING_EVERY_S, Connection, Inbox, Stream
from headrace.spec.kind import Json

pytestmark = pytest.mark.anyio

IDLE_S = 20 * PING_EVERY_S
ASKED = Wanted(stdin=True, stdout=True, stderr=False, tty=True)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


@pytest.fixture(autouse=True)
def idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four hours of pings take seconds after all."""
    monkeypatch.setattr("headrace.node.streams.IDLE_S", IDLE_S)


class Line:
    """The client's end: `streams.Messages` for the node."""

    def __init__(self) -> None:
        self._from_client, self._arriving = anyio.create_memory_object_stream[bytes](math.inf)
        self._reader, self._writer = spdy.Reader(), spdy.Writer()
        self.seen: list[spdy.Frame] = []
        self.is_there = True

    async def receive(self) -> bytes | str:
        return await self._arriving.receive()

    async def send(self, message: bytes | str) -> bool:
        await anyio.lowlevel.checkpoint()
        if self.is_there:
            self.seen += self._reader.feed(bytes(message))  # type: ignore[arg-type]
        return self.is_there

    def say(self, *frames: spdy.Frame) -> None:
        for frame in frames:
            self._from_client.send_nowait(self._writer.encode(frame))

    def open(self, number: int, kind: str, *, is_last: bool = False) -> None:
        self.say(spdy.SynStream(number, {"streamType": kind}, is_last))

    def hang_up(self) -> None:
        self._from_client.close()

    def close(self) -> None:
        self._from_client.close()
        self._arriving.close()


@pytest.fixture
def line() -> Any:
    made = Line()
    yield made
    made.close()


class Served:
    """A connection that runs, and the streams that were opened on it."""

    def __init__(self, line: Line) -> None:
        self.inboxes: dict[int, Inbox] = {}
        self.streams: dict[int, Stream] = {}
        self.has_ended = anyio.Event()
        self._connection = Connection(line, self._opened, name="test")

    async def run(self) -> None:
        await self._connection.run()
        self.has_ended.set()

    async def _opened(self, stream: Stream) -> None:
        self.streams[stream.number] = stream
        self.inboxes[stream.number] = Inbox()
        await stream.accept(self.inboxes[stream.number])


@asynccontextmanager
async def serving(line: Line) -> AsyncIterator[Served]:
    served = Served(line)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(served.run)
        await anyio.wait_all_tasks_blocked()
        yield served
        tasks.cancel_scope.cancel()
    for inbox in served.inboxes.values():
        inbox.close()


async def test_a_client_that_says_nothing_is_pinged_and_kept_for_long(line: Line) -> None:
    async with serving(line) as served:
        await anyio.sleep(IDLE_S - 1)
        assert not served.has_ended.is_set()
        pings = [frame.id for frame in line.seen if isinstance(frame, spdy.Ping)]
        assert pings[:3] == [2, 4, 6]
        assert len(pings) == int((IDLE_S - 1) // PING_EVERY_S)
        await anyio.sleep(PING_EVERY_S)
        assert served.has_ended.is_set()


async def test_answers_to_pings_are_no_use_of_a_connection_but_everything_else_is(line: Line) -> None:
    async with serving(line) as served:
        await anyio.sleep(IDLE_S - 10)
        line.say(spdy.Ping(2))
        await anyio.sleep(20)
        assert served.has_ended.is_set()
        assert spdy.Ping(2) in line.seen
    async with serving(line) as served:
        line.open(1, "x")
        for _ in range(3):
            await anyio.sleep(IDLE_S - 10)
            line.say(spdy.Ping(1))
            await anyio.sleep(IDLE_S - 10)
            await served.streams[1].send(b"output")
        assert not served.has_ended.is_set()
        assert spdy.Ping(1) in line.seen


async def test_a_client_that_cannot_be_reached_has_gone_though_nothing_of_it_is_read(line: Line) -> None:
    async with serving(line) as served:
        line.open(1, "x")
        line.say(*[spdy.Data(1, bytes(70_000))] * 20)  # more than the inbox holds, and nobody empties it
        await anyio.wait_all_tasks_blocked()
        line.hang_up()
        await anyio.sleep(PING_EVERY_S + 1)
        assert not served.has_ended.is_set()
        line.is_there = False
        await anyio.sleep(PING_EVERY_S + 1)
        assert served.has_ended.is_set()


async def test_a_stream_ends_on_each_side_alone(line: Line) -> None:
    async with serving(line) as served:
        line.open(1, "x", is_last=True)
        line.open(3, "y")
        line.say(spdy.Data(3, b"in"), spdy.Data(3, b"", is_last=True), spdy.Data(3, b"too late"))
        await anyio.wait_all_tasks_blocked()
        assert await served.inboxes[1].receive() == b""
        assert [await served.inboxes[3].receive() for _ in range(2)] == [b"in", b""]
        assert await served.streams[3].send(b"out")
        await served.streams[3].end(b"last")
        assert not await served.streams[3].send(b"more")
        await served.streams[3].end()
        assert line.seen[2:] == [spdy.Data(3, b"out"), spdy.Data(3, b"last", is_last=True)]
        line.say(spdy.Reset(1, spdy.CANCEL))
        await anyio.wait_all_tasks_blocked()
        assert served.inboxes[1].scope.cancel_called
        assert not await served.streams[1].send(b"x")


# -- commands ----------------------------------------------------------------------------------------------------------


async def echo(channel: commands.Channel) -> Json:
    """Repeat what comes until the input ends."""
    while (received := await channel.receive()) is not None:
        await channel.send(commands.STDOUT, repr(received).encode() + b";")
        await channel.send(commands.STDERR, b"nobody asked for this")
    return exit_status(3)


async def test_a_command_begins_when_its_streams_are_there(line: Line) -> None:
    for number, kind in ((1, "error"), (3, "stderr"), (5, "stdin"), (7, "stdin"), (9, "stdout")):
        line.open(number, kind)
    line.say(spdy.Data(5, b"hello"))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(remote_command.over_spdy, line, "test", ASKED, echo)
        await anyio.wait_all_tasks_blocked()
        assert [frame for frame in line.seen if isinstance(frame, spdy.Reset)] == [
            spdy.Reset(3, spdy.CANCEL),
            spdy.Reset(7, spdy.CANCEL),
        ]
        assert not any(isinstance(frame, spdy.Data) for frame in line.seen)
        line.open(11, "resize")
        line.say(spdy.Data(11, b'{"Width":80,"Hei'), spdy.Data(11, b'ght":24}\n{"Width":"x"}\n'))
        await anyio.wait_all_tasks_blocked()
        line.say(spdy.Data(5, b"", is_last=True))
        await anyio.wait_all_tasks_blocked()
        line.hang_up()
    said = b"".join(frame.data for frame in line.seen if isinstance(frame, spdy.Data) and frame.stream == 9)
    assert said == b"b'hello';Resize(columns=80, rows=24);"
    *_, status, goodbye = line.seen
    assert isinstance(status, spdy.Data)
    assert (status.stream, status.is_last, json.loads(status.data)) == (1, True, exit_status(3))
    assert goodbye == spdy.GoAway(11)


async def test_a_client_that_opens_too_few_streams_is_not_waited_for_for_ever(line: Line) -> None:
    line.open(1, "error")
    with anyio.fail_after(60):
        await remote_command.over_spdy(line, "test", ASKED, echo)
    assert line.seen[0] == spdy.SynReply(1)
    assert all(isinstance(frame, spdy.Ping) for frame in line.seen[1:])


async def test_why_a_command_could_not_run_is_its_status(line: Line) -> None:
    async def fail(_channel: commands.Channel) -> Json:
        raise Unavailable("The node's world does not answer.")

    for number, kind in ((1, "error"), (3, "stdin"), (5, "stdout"), (7, "resize")):
        line.open(number, kind)
    await remote_command.over_spdy(line, "test", ASKED, fail)
    (status,) = [frame.data for frame in line.seen if isinstance(frame, spdy.Data) and frame.stream == 1]
    assert json.loads(status)["message"] == "The node's world does not answer."


async def test_a_client_that_leaves_ends_what_is_done_for_it(line: Line) -> None:
    was_cancelled = anyio.Event()

    async def endless(_channel: commands.Channel) -> Json:
        try:
            await anyio.sleep_forever()
        finally:
            was_cancelled.set()
        raise AssertionError

    for number, kind in ((1, "error"), (3, "stdin"), (5, "stdout"), (7, "resize")):
        line.open(number, kind)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(remote_command.over_spdy, line, "test", ASKED, endless)
        await anyio.wait_all_tasks_blocked()
        line.hang_up()
    assert was_cancelled.is_set()
    assert not any(isinstance(frame, spdy.GoAway) for frame in line.seen)
