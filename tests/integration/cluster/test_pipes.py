"""What is between a request and its answer on a kept connection, and is neither."""

from __future__ import annotations

import gzip
from typing import Any

import anyio
import httpx2
import pytest

from headrace.cluster.remote import RemoteCluster
from headrace.cluster.remote.connection import BearerAuth, Connection, fixed_token
from headrace.errors import InvalidSpec, Unavailable
from headrace.spec.kind import Json, Ref
from headrace.spec.kinds import CONFIG_MAP

pytestmark = pytest.mark.anyio

REF = Ref("vision", "a")
OBJECT: Json = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "vision"}}
CONTENT = b'{"metadata":{"name":"a","namespace":"vision"}}'
UNKNOWN_LENGTH = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"


async def test_an_answer_in_pieces_is_one(server: Any, remote: RemoteCluster) -> None:
    async def respond(exchange: Any) -> None:
        await exchange.begin()
        for part in (CONTENT[:10], CONTENT[10:11], CONTENT[11:]):
            await exchange.chunk(part)
            await anyio.sleep(0.01)
        await exchange.chunk(b"")

    server.script(respond)
    for _ in range(2):
        assert (await remote.get(CONFIG_MAP, REF)).name == "a"
    assert server.connections == 1


async def test_what_is_said_before_the_answer_is_not_the_answer(server: Any, remote: RemoteCluster) -> None:
    async def respond(exchange: Any) -> None:
        await exchange.raw(b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n")
        await exchange.answer(200, OBJECT)

    server.script(respond)
    for _ in range(2):
        assert (await remote.get(CONFIG_MAP, REF)).name == "a"
    assert server.connections == 1


async def test_an_answer_that_ends_with_its_connection(server: Any, remote: RemoteCluster) -> None:
    async def respond(exchange: Any) -> None:
        await exchange.raw(UNKNOWN_LENGTH + CONTENT)
        await exchange.cut()

    server.script(respond)
    for _ in range(2):
        assert (await remote.get(CONFIG_MAP, REF)).name == "a"
    assert server.connections == 2


async def test_an_answer_that_is_cut_is_none(server: Any, remote: RemoteCluster) -> None:
    async def respond(exchange: Any) -> None:
        await exchange.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + CONTENT)
        await exchange.cut()

    server.script(respond)
    with pytest.raises(Unavailable, match="without sending complete message body"):
        await remote.get(CONFIG_MAP, REF)


async def test_a_compressed_answer_is_read(server: Any, remote: RemoteCluster) -> None:
    server.answers(200, gzip.compress(CONTENT), content_encoding="gzip")
    assert (await remote.get(CONFIG_MAP, REF)).name == "a"
    assert "gzip" in server.last.headers["accept-encoding"]


async def test_a_connection_that_was_closed_meanwhile_is_not_used(server: Any, remote: RemoteCluster) -> None:
    async def respond(exchange: Any) -> None:
        await exchange.answer(200, OBJECT)
        await exchange.cut()

    server.script(respond)
    for _ in range(3):
        assert (await remote.get(CONFIG_MAP, REF)).name == "a"
        await anyio.sleep(0.05)
    assert server.connections == 3


async def test_a_refusal_before_the_body_was_read_is_heard(server: Any, remote: RemoteCluster) -> None:
    async def serve(stream: anyio.abc.ByteStream) -> None:
        async with stream:
            await stream.receive(1000)
            await stream.send(
                b"HTTP/1.1 413 X\r\nConnection: close\r\nContent-Length: 57\r\n\r\n"
                b'{"kind":"Status","code":413,"message":"It is too large."}'
            )
            with anyio.move_on_after(1):  # a reset would take the answer with it
                while await stream.receive():
                    pass

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    url = f"http://127.0.0.1:{listener.extra(anyio.abc.SocketAttribute.local_port)}"
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, serve)
        async with RemoteCluster(Connection(server=url).open()) as cluster:
            with pytest.raises(InvalidSpec, match="too large"):
                await cluster.request("POST", "/large", body=b"x" * 10_000_000)
        tasks.cancel_scope.cancel()


async def test_a_cancelled_request_leaves_no_answer_for_the_next(server: Any, remote: RemoteCluster) -> None:
    async def respond_late(exchange: Any) -> None:
        await anyio.sleep(0.1)
        await exchange.answer(200, {**OBJECT, "metadata": {"name": "late", "namespace": "vision"}})

    server.script(respond_late)
    server.answers(200, OBJECT)
    with anyio.move_on_after(0.03):
        await remote.get(CONFIG_MAP, REF)
    await anyio.sleep(0.2)
    assert (await remote.get(CONFIG_MAP, REF)).name == "a"


async def test_a_token_cannot_add_headers(server: Any) -> None:
    client = Connection(server=server.url, auth=BearerAuth(fixed_token("a\r\nImpersonate-User: b"))).open()
    async with RemoteCluster(client) as cluster:
        with pytest.raises((Unavailable, httpx2.LocalProtocolError), match="line break"):
            await cluster.get(CONFIG_MAP, REF)
    assert server.seen == []
