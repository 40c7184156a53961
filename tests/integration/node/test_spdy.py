"""Commands and ports over SPDY, as kube-apiserver asks for them, in real containers."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

import anyio
import pytest
from tests.integration.node.spdy_client import Refused, SpdyClient, serving, upgraded
from tests.integration.node.test_port_forward import port_of, server

from headrace.node import spdy

pytestmark = pytest.mark.anyio

SLEEP = {"name": "app", "command": ["/bin/sh", "-c", "echo hello; exec sleep 1000"]}


def exec_path(*argv: str, **flags: str) -> str:
    return f"/exec/ns/p/app?{urlencode([*(('command', word) for word in argv), *flags.items()])}"


OUT = {"output": "1", "error": "1"}


async def run(host: str, *argv: str, stdin: bytes | None = None) -> SpdyClient:
    """Run a command to its end, as kubectl does."""
    flags = OUT if stdin is None else {**OUT, "input": "1"}
    async with upgraded(host, exec_path(*argv, **flags)) as client:
        await client.open("error", *(["stdin"] if stdin is not None else []), "stdout", "stderr")
        async with anyio.create_task_group() as tasks:
            if stdin is not None:
                tasks.start_soon(feed, client, stdin)
            await client.rest()
            tasks.cancel_scope.cancel()
        return client


async def feed(client: SpdyClient, data: bytes) -> None:
    for at in range(0, len(data), 30_000):
        await client.send("stdin", data[at : at + 30_000])
    await client.send("stdin", b"", is_last=True)


async def test_a_command_and_its_exit_code(node: Any) -> None:
    async with node.running() as agent, serving(agent.app()) as host:
        await node.submit(SLEEP)
        await node.until_phase("Running")
        client = await run(host, "sh", "-c", "echo out; echo err >&2; exit 7")
        assert (client.protocol, client.data("stdout"), client.data("stderr")) == (
            "v5.channel.k8s.io",
            b"out\n",
            b"err\n",
        )
        assert client.status["details"]["causes"] == [{"reason": "ExitCode", "message": "7"}]
        assert all(client.has_ended(kind) for kind in ("stdout", "stderr", "error"))
        assert (await run(host, "true")).status["status"] == "Success"
        assert "no-such-program" in (await run(host, "no-such-program")).status["message"]


async def test_input_is_binary_and_ends(node: Any) -> None:
    block = bytes(range(256)) * 12_000
    async with node.running() as agent, serving(agent.app()) as host:
        await node.submit(SLEEP)
        await node.until_phase("Running")
        assert (await run(host, "cat", stdin=block)).data("stdout") == block
        # One that does not want it all is not waited for, and its last word arrives over the rest of the input.
        client = await run(host, "head", "-c", "3", stdin=block)
        assert (client.data("stdout"), client.status["status"]) == (block[:3], "Success")


async def test_a_terminal_is_resized_and_hung_up_on(node: Any) -> None:
    async with node.running() as agent, serving(agent.app()) as host:
        await node.submit(SLEEP)
        await node.until_phase("Running")
        async with upgraded(host, exec_path("sh", input="1", output="1", tty="1")) as client:
            await client.open("error", "stdin", "stdout", "resize")
            await client.send("resize", json.dumps({"Width": 132, "Height": 43}).encode()[:9])
            await client.send("resize", json.dumps({"Width": 132, "Height": 43}).encode()[9:] + b"\nnonsense\n")
            await client.send("stdin", b"stty size; exec sleep 4322\n")
            await client.until(lambda: b"43 132" in client.data("stdout"))
            await sleepers(host, 1)
        await sleepers(host, 0)


async def sleepers(host: str, count: int) -> None:
    """Wait until so many `sleep 4322` run in the container."""
    with anyio.fail_after(10):
        while (await run(host, "ps", "-e", "-o", "args=")).data("stdout").count(b"sleep 4322") != count:
            pass


async def test_a_client_that_reads_slowly_gets_everything_and_fills_no_memory(node: Any) -> None:
    async with node.running() as agent, serving(agent.app()) as host:
        await node.submit(SLEEP)
        await node.until_phase("Running")
        many = "dd if=/dev/zero bs=1M count=64 2>/dev/null; echo written >&2"
        async with upgraded(host, exec_path("sh", "-c", many, **OUT)) as client:
            await client.open("error", "stdout", "stderr")
            await anyio.sleep(0.5)
            assert len(client.data("stderr")) == 0
            # What the client has not taken stays in the command: `dd` waits, and is seen to.
            assert b"dd if=/dev/zero" in (await run(host, "ps", "-e", "-o", "args=")).data("stdout")
            await client.rest()
            assert (len(client.data("stdout")), client.data("stderr")) == (64 << 20, b"written\n")
            assert client.status["status"] == "Success"


async def test_a_client_that_goes_while_its_input_waits_is_missed(node: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headrace.node.streams.PING_EVERY_S", 0.05)
    async with node.running() as agent, serving(agent.app()) as host:
        await node.submit(SLEEP)
        await node.until_phase("Running")
        async with upgraded(host, exec_path("sleep", "4322", input="1", **OUT)) as client:
            await client.open("error", "stdin", "stdout", "stderr")
            with anyio.move_on_after(1):
                await feed(client, bytes(30_000_000))
            await sleepers(host, 1)
        await sleepers(host, 0)


async def test_what_cannot_be_is_said_without_an_upgrade(node: Any) -> None:
    async with node.running() as agent, serving(agent.app()) as host:
        await node.submit(SLEEP)
        await node.until_phase("Running")
        for path, offered, status, why in (
            ("/exec/ns/none/app?command=true&output=1", ["v4.channel.k8s.io"], 404, 'pod "none"'),
            ("/exec/ns/p/app?command=true", ["v4.channel.k8s.io"], 422, "at least 1 of stdin"),
            (exec_path("true", **OUT), ["v1.channel.k8s.io"], 403, "accepts v5.channel.k8s.io, v4.channel.k8s.io"),
            (exec_path("true", **OUT), [], 400, "no header X-Stream-Protocol-Version"),
            ("/portForward/ns/none", ["portforward.k8s.io"], 404, 'pod "none"'),
            ("/portForward/ns/p", ["v4.channel.k8s.io"], 403, "accepts portforward.k8s.io"),
        ):
            with pytest.raises(Refused) as refused:
                async with upgraded(host, path, offered=offered):
                    pass
            assert refused.value.status == status
            assert why in refused.value.body
            assert "connection: close" in refused.value.head


async def test_ports_are_forwarded(node: Any) -> None:
    async with node.running() as agent, serving(agent.app()) as host:
        await node.submit(server(""), terminationGracePeriodSeconds=1)
        await node.until_phase("Running")
        port = str(await port_of(node))
        async with upgraded(host, "/portForward/ns/p", offered=["portforward.k8s.io"]) as client:
            await client.open("error", "data", port=port, requestID="0")
            await client.send("data", b"hello")
            await client.until(lambda: client.data("data") == b"hello")
            await client.say(spdy.Ping(1))
            await client.until(lambda: spdy.Ping(1) in client.seen)
            await client.send("data", b"", is_last=True)
            await client.until(lambda: client.has_ended("error"))
            assert client.data("data").startswith(b"hello from 127.64.")


async def test_attaching_with_a_terminal_and_leaving(node: Any) -> None:
    async with node.running() as agent, serving(agent.app()) as host:
        talking = "until [ -e /tmp/go ]; do sleep 0.02; done; echo out; echo err >&2; exec sleep 1000"
        await node.submit({"name": "app", "command": ["sh", "-c", talking]})
        await node.until_phase("Running")
        async with upgraded(host, "/attach/ns/p/app?output=1&tty=1") as client:
            await client.open("error", "stdout", "resize")
            await run(host, "touch", "/tmp/go")
            await client.until(lambda: sorted(client.data("stdout").split()) == [b"err", b"out"])
            assert client.data("stdout").count(b"\r\n") == 2
        with pytest.raises(Refused) as refused:
            async with upgraded(host, "/attach/ns/p/app?output=1&input=1"):
                pass
        assert "standard input is empty on this node" in refused.value.body
        with pytest.raises(Refused) as refused:
            async with upgraded(host, "/attach/ns/p/another-uid/app?output=1"):
                pass
        assert refused.value.status == 404
