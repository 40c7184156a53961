"""The world's client against a socket that answers late, out of order, not at all, or breaks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.abc import SocketStream

from headrace.errors import Unavailable
from headrace.node.world import Attachment, WorldClient, WorldRefused
from headrace.sandbox import wire

pytestmark = pytest.mark.anyio

Script = Callable[["Connection"], Awaitable[None]]


class Connection:
    """The world's end of one connection."""

    def __init__(self, stream: SocketStream) -> None:
        self.stream = stream
        self._decoder = wire.Decoder()
        self._arrived: list[dict[str, Any]] = []

    async def receive(self) -> dict[str, Any]:
        while not self._arrived:
            self._arrived += self._decoder.feed(await self.stream.receive())
        return self._arrived.pop(0)

    async def send(self, **message: Any) -> None:
        await self.stream.send(wire.encode(message))

    async def greet(self) -> None:
        request = await self.receive()
        assert request["op"] == "hello"
        await self.send(id=request["id"], ok=True, world="w", boot_id="b", journal_seq=2)


@asynccontextmanager
async def world(tmp_path: Path, *scripts: Script) -> AsyncIterator[WorldClient]:
    """Serve one script a connection, in order; yield a client that is attached to it."""
    path = tmp_path / "w.sock"
    left = list(scripts)

    async def serve(stream: SocketStream) -> None:
        async with stream:
            connection = Connection(stream)
            await connection.greet()
            await left.pop(0)(connection)

    async def attached(_world: Attachment) -> None:
        await anyio.sleep_forever()

    client = WorldClient(str(path))
    async with await anyio.create_unix_listener(path) as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, serve)
        tasks.start_soon(client.attach, attached)
        with anyio.fail_after(10):
            yield client
        tasks.cancel_scope.cancel()


async def test_answers_may_come_out_of_order(tmp_path: Path) -> None:
    async def script(connection: Connection) -> None:
        first, second = await connection.receive(), await connection.receive()
        await connection.send(id=second["id"], ok=True, for_op=second["op"])
        await connection.send(id=first["id"], ok=True, for_op=first["op"])
        await anyio.sleep_forever()

    answers: dict[str, str] = {}
    async with world(tmp_path, script) as client, anyio.create_task_group() as tasks:

        async def ask(op: str) -> None:
            answers[op] = (await client.request(op))["for_op"]

        tasks.start_soon(ask, "a")
        tasks.start_soon(ask, "b")
    assert answers == {"a": "a", "b": "b"}


async def test_refusals_carry_code_and_sentence(tmp_path: Path) -> None:
    async def script(connection: Connection) -> None:
        request = await connection.receive()
        await connection.send(id=request["id"], ok=False, error={"code": "StartFailed", "message": "no such program"})
        await anyio.sleep_forever()

    async with world(tmp_path, script) as client:
        with pytest.raises(WorldRefused, match="no such program") as refused:
            await client.request("container.start")
        assert refused.value.code == "StartFailed"


async def test_a_break_fails_what_is_on_its_way_and_the_next_connection_serves(tmp_path: Path) -> None:
    async def breaks(connection: Connection) -> None:
        await connection.receive()

    async def answers(connection: Connection) -> None:
        request = await connection.receive()
        await connection.send(id=request["id"], ok=True, second=True)
        await anyio.sleep_forever()

    async with world(tmp_path, breaks, answers) as client:
        with pytest.raises(Unavailable, match="broke"):
            await client.request("pod.create")
        assert (await client.request("pod.create"))["second"] is True


async def test_garbage_ends_a_connection(tmp_path: Path) -> None:
    async def garbage(connection: Connection) -> None:
        await connection.receive()
        await connection.stream.send(b"\xff" * 64)
        await anyio.sleep_forever()

    async def answers(connection: Connection) -> None:
        request = await connection.receive()
        await connection.send(id=request["id"], ok=True)
        await anyio.sleep_forever()

    async with world(tmp_path, garbage, answers) as client:
        with pytest.raises(Unavailable):
            await client.request("a")
        assert (await client.request("b"))["ok"] is True


async def test_silence_has_a_deadline(tmp_path: Path) -> None:
    async with world(tmp_path, lambda _: anyio.sleep_forever()) as client:
        with pytest.raises(Unavailable, match="did not answer state within"):
            await client.request("state", timeout_s=0.05)


async def test_nobody_there_has_a_deadline(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="does not answer"):
        await WorldClient(str(tmp_path / "none")).request("state", timeout_s=0.05)


async def test_an_end_may_come_before_anybody_waits_for_it(tmp_path: Path) -> None:
    async def script(connection: Connection) -> None:
        request = await connection.receive()
        await connection.stream.send(
            wire.encode({"id": request["id"], "ok": True, "exec": "e1"})
            + wire.encode({"event": "exec.exited", "exec": "e1", "exit_code": 3})
        )
        await connection.receive()

    async with world(tmp_path, script, lambda _: anyio.sleep_forever()) as client:
        command = await client.exec(fds=(0,), argv=["x"])
        assert await command.wait() == 3
        lost = None
        with pytest.raises(Unavailable):
            lost = await client.exec(fds=(0,), argv=["y"])
        assert lost is None


async def test_following_ends_with_the_connection(tmp_path: Path) -> None:
    heard: list[int] = []
    followed = anyio.Event()

    async def server(stream: SocketStream) -> None:
        async with stream:
            connection = Connection(stream)
            await connection.greet()
            request = await connection.receive()
            await connection.send(id=request["id"], ok=True)
            for seq in range(request["after"] + 1, 4):
                await connection.send(event="journal", seq=seq)

    async def serve(attachment: Attachment) -> None:
        async with aclosing(attachment.follow(len(heard))) as entries:
            async for entry in entries:
                heard.append(entry["seq"])
                if len(heard) == 3:
                    followed.set()

    path = tmp_path / "w.sock"
    async with await anyio.create_unix_listener(path) as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, server)
        tasks.start_soon(WorldClient(str(path)).attach, serve)
        with anyio.fail_after(10):
            await followed.wait()
        tasks.cancel_scope.cancel()
    assert heard == [1, 2, 3]
