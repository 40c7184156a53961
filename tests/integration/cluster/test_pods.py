"""Logs and commands over real connections."""

from __future__ import annotations

from typing import Any

import anyio
import msgspec
import pytest

from headrace.cluster.protocol import ExecResult
from headrace.cluster.remote import RemoteCluster
from headrace.errors import Denied, EngineFailed, NotFound, Unavailable, Unsupported
from headrace.spec.kind import Ref

pytestmark = pytest.mark.anyio

POD = Ref("vision", "p")
PATH = "/api/v1/namespaces/vision/pods/p"
SUCCESS = msgspec.json.encode({"kind": "Status", "status": "Success"})


def exited(code: int) -> bytes:
    causes = [{"reason": "ExitCode", "message": str(code)}]
    return msgspec.json.encode({"status": "Failure", "reason": "NonZeroExitCode", "details": {"causes": causes}})


async def test_logs_stream_with_their_options(server: Any, remote: RemoteCluster) -> None:
    async def respond(exchange: Any) -> None:
        await exchange.begin()
        await exchange.chunk(b"one\ntw")
        await anyio.sleep(0.05)
        await exchange.chunk(b"o\n")
        await exchange.chunk(b"")

    server.script(respond)
    async with remote.logs(POD, container="c", follow=True, tail_lines=5, since_s=0.2, timestamps=True) as chunks:
        assert [chunk async for chunk in chunks] == [b"one\ntw", b"o\n"]
    assert server.last.path == f"{PATH}/log"
    assert server.last.query == {
        "container": "c",
        "follow": "true",
        "tailLines": "5",
        "sinceSeconds": "1",
        "timestamps": "true",
    }


async def test_logs_that_are_cut_or_refused_say_so(server: Any, remote: RemoteCluster) -> None:
    async def cut(exchange: Any) -> None:
        await exchange.begin()
        await exchange.chunk(b"one\n")
        await exchange.cut()

    server.script(cut)
    server.answers(404, {"kind": "Status", "code": 404, "reason": "NotFound", "message": "Previous is gone."})
    async with remote.logs(POD) as chunks:
        assert await anext(chunks) == b"one\n"
        with pytest.raises(Unavailable, match="was lost"):
            await anext(chunks)
    with pytest.raises(NotFound, match="Previous is gone"):
        async with remote.logs(POD, previous=True):
            pass
    assert server.last.query == {"previous": "true"}


@pytest.mark.parametrize("protocol", ["v5.channel.k8s.io", "v4.channel.k8s.io"])
async def test_exec_gives_both_streams_and_the_exit_code(server: Any, remote: RemoteCluster, protocol: str) -> None:
    async def respond(exchange: Any) -> None:
        socket = await exchange.upgrade(protocol)
        assert socket.offered == ["v5.channel.k8s.io", "v4.channel.k8s.io"]
        for channel in (1, 2, 3):
            await socket.send(channel, b"")  # as real servers greet
        await socket.send(1, b"out")
        await socket.send(2, b"err")
        await socket.send(1, b"put")
        await socket.send(3, exited(7))
        await socket.close()

    server.script(respond)
    assert await remote.exec(POD, ["ls", "-l", "a b"], container="c") == ExecResult(7, b"output", b"err")
    assert server.last.words == ["ls", "-l", "a b"]
    query = {key: value for key, value in server.last.query.items() if key != "command"}
    assert query == {"stdin": "false", "stdout": "true", "stderr": "true", "tty": "false", "container": "c"}


async def test_exec_sends_stdin_and_its_end(server: Any, remote: RemoteCluster) -> None:
    async def respond(exchange: Any) -> None:
        socket = await exchange.upgrade("v5.channel.k8s.io")
        content = b""
        while True:
            channel, part = await socket.receive()
            if channel == 255:
                assert part == b"\0"
                break
            assert channel == 0
            content += part
        await socket.send(1, f"{len(content)}".encode())
        await socket.send(3, SUCCESS)
        await socket.close()

    server.script(respond)
    assert await remote.exec(POD, ["wc", "-c"], stdin=b"x" * 100_000) == ExecResult(0, b"100000", b"")


async def test_exec_keeps_one_mebibyte_and_still_waits_for_the_end(server: Any, remote: RemoteCluster) -> None:
    async def respond(exchange: Any) -> None:
        socket = await exchange.upgrade("v5.channel.k8s.io")
        for _ in range(40):
            await socket.send(1, b"x" * 32768)
        await socket.send(3, SUCCESS)
        await socket.close()

    server.script(respond)
    result = await remote.exec(POD, ["yes"])
    assert (result.exit_code, len(result.stdout)) == (0, 1024 * 1024)


async def test_exec_over_the_older_protocol_cannot_end_stdin(server: Any, remote: RemoteCluster) -> None:
    async def respond(exchange: Any) -> None:
        await exchange.upgrade("v4.channel.k8s.io")
        await anyio.sleep_forever()

    server.script(respond)
    with pytest.raises(Unsupported, match="where a command's input ends"):
        await remote.exec(POD, ["cat"], stdin=b"x")


async def test_exec_that_is_refused_carries_the_servers_words(server: Any, remote: RemoteCluster) -> None:
    server.answers(403, {"kind": "Status", "code": 403, "reason": "Forbidden", "message": "may not exec"})
    with pytest.raises(Denied, match="may not exec"):
        await remote.exec(POD, ["ls"])


async def test_exec_that_could_not_start(server: Any, remote: RemoteCluster) -> None:
    async def respond(exchange: Any) -> None:
        socket = await exchange.upgrade("v5.channel.k8s.io")
        status = {"status": "Failure", "reason": "InternalError", "code": 500, "message": '"sl": not found'}
        await socket.send(3, msgspec.json.encode(status))
        await socket.close()

    server.script(respond)
    with pytest.raises(EngineFailed, match='"sl": not found'):
        await remote.exec(POD, ["sl"])


@pytest.mark.parametrize("end", ["cut", "closed", "nonsense", "broken"])
async def test_exec_whose_connection_ends_first(server: Any, remote: RemoteCluster, end: str) -> None:
    async def respond(exchange: Any) -> None:
        socket = await exchange.upgrade("v5.channel.k8s.io")
        await socket.send(1, b"half")
        if end == "closed":
            await socket.close()
        elif end == "nonsense":
            await socket.send(3, b"<html>")
        elif end == "broken":
            await exchange.raw(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff")
        await exchange.cut()

    server.script(respond)
    with anyio.fail_after(5), pytest.raises(Unavailable):
        await remote.exec(POD, ["sleep", "60"])


async def test_an_interactive_command(server: Any, remote: RemoteCluster) -> None:
    sizes: list[bytes] = []

    async def respond(exchange: Any) -> None:
        socket = await exchange.upgrade("v5.channel.k8s.io")
        while True:
            channel, content = await socket.receive()
            if channel == 4:
                sizes.append(content)
            elif content == b"exit\n":
                break
            else:
                await socket.send(1, content.upper())
        await socket.send(3, exited(3))
        await socket.close()

    server.script(respond)
    async with remote.attach_exec(POD, ["sh"], tty=True) as shell:
        await shell.resize(80, 24)
        await shell.stdin.send(b"ls\n")
        assert await shell.stdout.receive() == b"LS\n"
        await shell.stdin.send(b"exit\n")
        with anyio.fail_after(5):
            assert await shell.wait() == 3
        with pytest.raises(anyio.EndOfStream):
            await shell.stdout.receive()
    assert sizes == [b'{"Width":80,"Height":24}']
    assert (server.last.query["stdin"], server.last.query["tty"], server.last.query["stderr"]) == (
        "true",
        "true",
        "false",
    )


async def test_leaving_an_interactive_command_hangs_up(server: Any, remote: RemoteCluster) -> None:
    hung_up = anyio.Event()

    async def respond(exchange: Any) -> None:
        socket = await exchange.upgrade("v5.channel.k8s.io")
        try:
            while True:
                await socket.receive()
        finally:
            hung_up.set()

    server.script(respond)

    async def break_off() -> None:
        async with remote.attach_exec(POD, ["sh"]) as shell:
            await shell.stdin.send(b"ls\n")
            raise KeyError

    with pytest.raises(KeyError):
        await break_off()
    with anyio.fail_after(5):
        await hung_up.wait()
