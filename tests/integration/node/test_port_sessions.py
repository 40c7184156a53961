"""Port-forwarding sessions over messages in memory: pairs of streams, resets, half-close, channels; no kubectl."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from headrace.errors import InvalidSpec
from headrace.node import spdy
from headrace.node.channels import Channels, parse_ports
from headrace.node.ports import PodPorts
from headrace.node.tunnel import Tunnel

pytestmark = pytest.mark.anyio


class World:
    """Says where a pod listens: at 127.0.0.1 where a test does, nowhere else."""

    def __init__(self) -> None:
        self.open: set[int] = set()

    async def request(self, op: str, *, port: int, **fields: Any) -> dict[str, Any]:
        assert (op, fields["pod"], fields["addresses"]) == ("pod.listening", "u", ["127.64.0.2", "127.0.0.1", "::1"])
        return {"address": "127.0.0.1" if port in self.open else "", "foreign": port == 22}


class Line:
    """The client's end of a WebSocket."""

    def __init__(self) -> None:
        self.to_node, self._from_client = anyio.create_memory_object_stream[bytes | str](1000)
        self._to_client, self.from_node = anyio.create_memory_object_stream[bytes | str](1000)
        self._reader, self._writer = spdy.Reader(), spdy.Writer()
        self.seen: list[spdy.Frame] = []

    async def receive(self) -> bytes | str:
        return await self._from_client.receive()

    async def send(self, message: bytes | str) -> bool:
        await self._to_client.send(message)
        return True

    async def say(self, *frames: spdy.Frame) -> None:
        for frame in frames:
            await self.to_node.send(self._writer.encode(frame))

    async def open(self, number: int, kind: str, port: int | str, request: str = "") -> None:
        headers = {"streamType": kind, "port": str(port)} | ({"requestID": request} if request else {})
        await self.say(spdy.SynStream(number, headers))

    async def until(self, met: Callable[[list[spdy.Frame]], bool]) -> None:
        with anyio.fail_after(10):
            while not met(self.seen):
                message = await self.from_node.receive()
                assert isinstance(message, bytes)
                self.seen += self._reader.feed(message)

    def data(self, number: int) -> bytes:
        return b"".join(f.data for f in self.seen if isinstance(f, spdy.Data) and f.stream == number)

    def close(self) -> None:
        for stream in (self.to_node, self._from_client, self._to_client, self.from_node):
            stream.close()


@asynccontextmanager
async def pod_server(handle: Callable[[Any], Awaitable[None]]) -> AsyncIterator[int]:
    """A program that listens on a port."""
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, handle)
        yield listener.extra(anyio.abc.SocketAttribute.local_port)
        tasks.cancel_scope.cancel()


async def echo(stream: Any) -> None:
    async with stream:
        async for data in stream:
            await stream.send(data)
        await stream.send(b" and out")


def pod_ports(world: World) -> PodPorts:
    return PodPorts(world, "ns", "p", "u", "127.64.0.2", anyio.sleep_forever)  # type: ignore[arg-type]


@asynccontextmanager
async def tunnelling(*, serve: Callable[[Any], Awaitable[None]] = echo) -> AsyncIterator[tuple[Line, int]]:
    """A tunnel that runs, and a port it leads to."""
    world, line = World(), Line()
    async with pod_server(serve) as port, anyio.create_task_group() as tasks:
        world.open.add(port)
        tasks.start_soon(Tunnel(line, pod_ports(world)).run)
        yield line, port
        tasks.cancel_scope.cancel()
    line.close()


@pytest.mark.parametrize("request_id", ["0", ""])
async def test_a_pair_is_a_connection_and_half_closes(request_id: str) -> None:
    async with tunnelling() as (line, port):
        await line.open(1, "error", port, request_id)
        await line.say(spdy.Data(1, b"", is_last=True))
        await line.open(3, "data", port, request_id)
        await line.say(spdy.Data(3, b"hello"))
        await line.until(lambda _: line.data(3) == b"hello")
        await line.say(spdy.Data(3, b"", is_last=True))
        await line.until(lambda seen: spdy.Data(1, b"", is_last=True) in seen)
        assert line.data(3) == b"hello and out"
        assert spdy.Data(3, b"", is_last=True) in line.seen
        assert [f for f in line.seen if isinstance(f, spdy.SynReply)] == [spdy.SynReply(1), spdy.SynReply(3)]


async def test_connections_are_interleaved_and_large() -> None:
    blocks = {number: bytes([number]) * 1_000_000 for number in (3, 7, 11)}
    async with tunnelling() as (line, port):

        async def send() -> None:
            for number in blocks:
                await line.open(number - 2, "error", port, str(number))
                await line.open(number, "data", port, str(number))
            for at in range(0, 1_000_000, 100_000):
                for number, block in blocks.items():
                    await line.say(spdy.Data(number, block[at : at + 100_000]))
            for number in blocks:
                await line.say(spdy.Data(number, b"", is_last=True))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(send)
            await line.until(lambda seen: sum(isinstance(f, spdy.Data) and f.is_last for f in seen) == 6)
        for number, block in blocks.items():
            assert line.data(number) == block + b" and out"


@pytest.mark.parametrize(("port", "more"), [(9, ""), (22, "a process outside the pod listens at this port")])
async def test_a_port_without_a_listener_is_said_on_the_error_stream(port: int, more: str) -> None:
    async with tunnelling() as (line, _):
        await line.open(1, "error", port, "a")
        await line.open(3, "data", port, "a")
        await line.until(lambda seen: spdy.Reset(3, spdy.CANCEL) in seen)
        said = line.data(1).decode()
        assert said.startswith(
            f'error forwarding port {port} to pod p, uid u: failed to connect to localhost:{port} inside namespace "ns/p", '
            f"dial tcp 127.64.0.2:{port}: connect: connection refused"
        )
        assert more in said


async def test_a_reset_ends_the_connection_only() -> None:
    gone = anyio.Event()

    async def listen(stream: Any) -> None:
        async with stream:
            async for _ in stream:
                pass
            gone.set()

    async with tunnelling(serve=listen) as (line, port):
        await line.open(1, "error", port, "a")
        await line.open(3, "data", port, "a")
        await line.say(spdy.Data(3, b"x"), spdy.Reset(3, spdy.CANCEL))
        with anyio.fail_after(10):
            await gone.wait()
        await line.until(lambda seen: spdy.Data(1, b"", is_last=True) in seen)
        await line.say(spdy.Data(3, b"late"), spdy.Ping(1), spdy.Ping(2))
        await line.until(lambda seen: spdy.Ping(1) in seen)
        assert spdy.Ping(2) not in line.seen


@pytest.mark.parametrize(
    ("number", "headers", "status"),
    [
        (2, {"streamtype": "data", "port": "80"}, spdy.PROTOCOL_ERROR),
        (1, {"port": "80"}, spdy.CANCEL),
        (1, {"streamtype": "other", "port": "80"}, spdy.CANCEL),
        (1, {"streamtype": "data"}, spdy.CANCEL),
        (1, {"streamtype": "data", "port": "0"}, spdy.CANCEL),
        (1, {"streamtype": "data", "port": "65536"}, spdy.CANCEL),
        (1, {"streamtype": "data", "port": "http"}, spdy.CANCEL),
    ],
)
async def test_streams_that_mean_nothing_are_reset(number: int, headers: dict[str, str], status: int) -> None:
    async with tunnelling() as (line, _):
        await line.say(spdy.SynStream(number, headers))
        await line.until(lambda seen: seen == [spdy.Reset(number, status)])


async def test_a_second_stream_of_the_same_kind_is_told_so() -> None:
    async with tunnelling() as (line, port):
        await line.open(1, "error", port, "a")
        await line.open(3, "error", port, "a")
        await line.until(lambda _: b"error stream already assigned" in line.data(1))


async def test_streams_are_limited() -> None:
    async with tunnelling() as (line, _):
        for number in range(1, 8195, 2):
            await line.open(number, "error", 80, str(number))
            await line.until(lambda seen, number=number: seen[-1:] != [] and seen[-1].stream == number)  # type: ignore[misc]
        assert line.seen[-2:] == [spdy.SynReply(8191), spdy.Reset(8193, spdy.REFUSED_STREAM)]


@pytest.mark.parametrize("message", [bytes.fromhex("80020001 00000000"), "text"])
async def test_what_is_no_spdy_ends_the_tunnel(message: bytes | str) -> None:
    line = Line()
    await line.to_node.send(message)
    with anyio.fail_after(10):
        await Tunnel(line, pod_ports(World())).run()
    await line.until(lambda seen: seen == [spdy.GoAway(0, 1)])
    line.close()


async def test_going_away_ends_the_tunnel() -> None:
    line = Line()
    await line.open(1, "error", 80, "a")
    await line.say(spdy.GoAway(0))
    with anyio.fail_after(10):
        await Tunnel(line, pod_ports(World())).run()
    line.close()


@pytest.mark.parametrize("is_text", [False, True])
async def test_channels_begin_with_their_port_and_carry_bytes(is_text: bool) -> None:
    def packed(number: int, data: bytes) -> bytes | str:
        return f"{number}{base64.b64encode(data).decode()}" if is_text else bytes([number]) + data

    world, line = World(), Line()
    async with pod_server(echo) as port, anyio.create_task_group() as tasks:
        world.open.add(port)
        tasks.start_soon(Channels(line, pod_ports(world), [port, 9], is_text=is_text).run)
        with anyio.fail_after(10):
            for number, one in ((0, port), (1, port), (2, 9), (3, 9)):
                assert await line.from_node.receive() == packed(number, one.to_bytes(2, "little"))
            failed = await line.from_node.receive()
            said = failed.encode() if isinstance(failed, str) else failed
            sentence = base64.b64decode(said[1:]) if is_text else said[1:]
            assert said[:1] == (b"3" if is_text else b"\x03")
            assert b"failed to connect to localhost:9" in sentence
            for nonsense in (packed(1, b"x"), packed(9, b"x"), "" if is_text else b"", "0!" if is_text else b"\x00"):
                await line.to_node.send(nonsense)
            await line.to_node.send(packed(0, b"hello"))
            assert await line.from_node.receive() == packed(0, b"hello")
        tasks.cancel_scope.cancel()
    line.close()


async def test_channels_end_with_their_last_connection() -> None:
    line = Line()
    with anyio.fail_after(10):
        await Channels(line, pod_ports(World()), [9], is_text=False).run()
    line.close()


@pytest.mark.parametrize(
    ("texts", "found"),
    [
        (["80"], [80]),
        (["80", "81"], [80, 81]),
        (["80,81"], [80, 81]),
        ([], 'query parameter "port" is required'),
        ([""], 'query parameter "port" cannot be empty'),
        (["x"], 'unable to parse "x" as a port'),
        (["65536"], 'unable to parse "65536" as a port'),
        (["0"], 'port "0" must be > 0'),
    ],
)
def test_ports_of_a_query(texts: list[str], found: list[int] | str) -> None:
    if isinstance(found, list):
        assert parse_ports(texts) == found
    else:
        with pytest.raises(InvalidSpec) as refused:
            parse_ports(texts)
        assert refused.value.what == found
