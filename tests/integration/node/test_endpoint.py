"""The node's endpoint over HTTP and WebSocket, as the façade asks it."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import httpx2
import pytest
import uvicorn
from prometheus_client.parser import text_string_to_metric_families as parsed
from starlette.applications import Starlette
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

pytestmark = pytest.mark.anyio

SLEEP = {"name": "app", "command": ["/bin/sh", "-c", "echo hello; exec sleep 1000"]}


@asynccontextmanager
async def serving(app: Starlette) -> AsyncIterator[str]:
    """Serve the endpoint without TLS on a port of its own; yield `host:port`."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical", ws="websockets-sansio", lifespan="off"))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.serve, [listener])
            while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
                await anyio.sleep(0.005)
            yield f"127.0.0.1:{listener.getsockname()[1]}"
            server.should_exit = True


async def execute(
    host: str, argv: list[str], *, stdin: bytes | None = None, protocol: str = "v5.channel.k8s.io", **flags: str
) -> tuple[bytes, bytes, dict[str, Any]]:
    """Run a command as kubectl does; return stdout, stderr and the status."""
    if stdin is not None:
        flags["input"] = "1"
    query = "&".join(
        [*(f"command={word}" for word in argv), "output=1", "error=1", *(f"{k}={v}" for k, v in flags.items())]
    )
    out: dict[int, bytes] = {1: b"", 2: b"", 3: b""}
    url = f"ws://{host}/exec/ns/p/app?{query}"
    async with connect(url, subprotocols=[protocol], proxy=None) as ws:  # type: ignore[list-item]
        assert ws.subprotocol == protocol
        if stdin is not None:
            await ws.send(b"\x00" + stdin)
            await ws.send(b"\xff\x00")
        try:
            async for message in ws:
                assert isinstance(message, bytes)
                out[message[0]] += message[1:]
        except ConnectionClosed:
            pass
    return out[1], out[2], json.loads(out[3])


async def test_exec(node: Any) -> None:
    async with node.running() as agent, serving(agent.app()) as host:
        await node.submit(SLEEP)
        await node.until_phase("Running")
        out, err, status = await execute(host, ["sh", "-c", "echo%20out;%20echo%20err%20>%262;%20exit%207"])
        assert (out, err) == (b"out\n", b"err\n")
        assert status["details"]["causes"][0] == {"reason": "ExitCode", "message": "7"}
        out, _, status = await execute(host, ["cat"], stdin=b"x" * 300_000)
        assert (len(out), status["status"]) == (300_000, "Success")
        out, _, _ = await execute(host, ["sh", "-c", "test%20-t%200%20%26%26%20echo%20terminal"], tty="1")
        assert out == b"terminal\r\n"
        _, _, status = await execute(host, ["no-such-program"], protocol="v4.channel.k8s.io")
        assert status["status"] == "Failure"
        assert "no-such-program" in status["message"]


async def test_a_terminal_is_resized_and_hung_up_on(node: Any) -> None:
    async with node.running() as agent, serving(agent.app()) as host:
        await node.submit(SLEEP)
        await node.until_phase("Running")
        url = f"ws://{host}/exec/ns/p/app?command=sh&input=1&output=1&tty=1"
        async with connect(url, subprotocols=["v5.channel.k8s.io"], proxy=None) as ws:  # type: ignore[list-item]
            await ws.send(b"\x04" + json.dumps({"Width": 132, "Height": 43}).encode())
            await ws.send(b"\x00stty size; exec sleep 4321\n")
            seen = b""
            while b"43 132" not in seen:
                message = await ws.recv()
                assert isinstance(message, bytes)
                seen += message[1:]
            await sleepers(host, at_least=1)
        await sleepers(host, at_least=0)


async def test_a_client_that_goes_while_its_input_waits_is_missed(node: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headrace.node.remote_command.PING_EVERY_S", 0.05)
    async with node.running() as agent, serving(agent.app()) as host:
        await node.submit(SLEEP)
        await node.until_phase("Running")
        url = f"ws://{host}/exec/ns/p/app?command=sleep&command=4321&input=1&output=1"
        async with connect(url, subprotocols=["v5.channel.k8s.io"], proxy=None) as ws:  # type: ignore[list-item]
            with anyio.move_on_after(1):
                for _ in range(100):
                    await ws.send(bytes(300_000))
                    await anyio.lowlevel.checkpoint()
            await sleepers(host, at_least=1)
            ws.transport.abort()
        await sleepers(host, at_least=0)


async def sleepers(host: str, *, at_least: int) -> None:
    """Wait until so many `sleep 4321` run in the container."""
    with anyio.fail_after(10):
        while True:
            out, _, _ = await execute(host, ["ps", "-e", "-o", "args="])
            if out.count(b"sleep 4321") == at_least:
                return


async def test_what_cannot_be_executed_is_said_before_the_handshake(node: Any) -> None:
    async with node.running() as agent, serving(agent.app()) as host:
        await node.submit(SLEEP)
        await node.until_phase("Running")
        for path, code in (
            ("/exec/ns/none/app?command=true&output=1", 404),
            ("/exec/ns/p/none?command=true&output=1", 404),
            ("/exec/ns/p/app?output=1", 422),
        ):
            with pytest.raises(InvalidStatus) as refused:
                async with connect(f"ws://{host}{path}", subprotocols=["v5.channel.k8s.io"], proxy=None):  # type: ignore[list-item]
                    pass
            assert refused.value.response.status_code == code


async def test_logs_and_pods(node: Any) -> None:
    async with node.running() as agent, serving(agent.app()) as host, httpx2.AsyncClient(trust_env=False) as http:
        base = f"http://{host}"
        await node.submit(SLEEP)
        await node.until_phase("Running")
        assert (await http.get(f"{base}/healthz")).text == "ok"
        assert (await http.get(f"{base}/containerLogs/ns/p/app")).text == "hello\n"
        assert (await http.get(f"{base}/containerLogs/ns/p/app?tailLines=0")).text == ""
        missing = await http.get(f"{base}/containerLogs/ns/p/none")
        assert (missing.status_code, "none" in missing.text) == (404, True)
        assert (await http.get(f"{base}/containerLogs/ns/p/app?previous=true")).status_code == 400
        assert (await http.get(f"{base}/containerLogs/ns/p/app?tailLines=many")).status_code == 422
        items = (await http.get(f"{base}/pods")).json()["items"]
        assert [item["status"]["phase"] for item in items] == ["Running"]
        assert (await http.post(f"{base}/portForward/ns/p")).status_code == 400
        assert (await http.post(f"{base}/attach/ns/p/app?output=1")).status_code == 400
        async with http.stream("GET", f"{base}/containerLogs/ns/p/app?follow=true") as answer:
            async for text in answer.aiter_text():
                assert text == "hello\n"
                break


TALKING = {
    "name": "app",
    "command": ["sh", "-c", "echo before; until [ -e /tmp/go ]; do sleep 0.02; done; echo out; echo err >&2"],
}


async def test_attaching_shows_what_is_said_from_now_on(node: Any) -> None:
    async with node.running() as agent, serving(agent.app()) as host:
        await node.submit(TALKING, restartPolicy="Never")
        await node.until_said("before")
        out: dict[int, bytes] = {1: b"", 2: b"", 3: b""}
        url = f"ws://{host}/attach/ns/p/app?output=1&error=1"
        with pytest.raises(InvalidStatus) as refused:
            async with connect(f"{url}&input=1", subprotocols=["v5.channel.k8s.io"], proxy=None):  # type: ignore[list-item]
                pass
        assert b"standard input is empty on this node" in (refused.value.response.body or b"")
        async with connect(url, subprotocols=["v5.channel.k8s.io"], proxy=None) as ws:  # type: ignore[list-item]
            await execute(host, ["touch", "/tmp/go"])
            async for message in ws:
                assert isinstance(message, bytes)
                out[message[0]] += message[1:]
        assert (out[1], out[2], json.loads(out[3])["status"]) == (b"out\n", b"err\n", "Success")


async def test_usage(node: Any) -> None:
    burn = "import time\nkept = b'x' * (48 << 20)\nwhile time.process_time() < 0.3: pass\ntime.sleep(1000)"
    cache = {"name": "cache", "emptyDir": {"medium": "Memory"}}
    fill = "head -c 20M /dev/zero > /cache/x; exec sleep 1000"
    side = {
        "name": "side",
        "command": ["/bin/sh", "-c", fill],
        "volumeMounts": [{"name": "cache", "mountPath": "/cache"}],
    }
    async with node.running() as agent, serving(agent.app()) as host, httpx2.AsyncClient() as client:
        await node.submit({"name": "app", "command": ["python3", "-c", burn]}, side, volumes=[cache])
        await node.until_phase("Running")

        async def used() -> tuple[Any, Any]:
            summary = (await client.get(f"http://{host}/stats/summary")).json()
            return summary, summary["pods"][0]

        with anyio.fail_after(20):
            while True:
                summary, pod = await used()
                app, other = sorted(pod["containers"], key=lambda one: str(one["name"]))
                total = pod["memory"]["workingSetBytes"]
                if app["cpu"]["usageCoreNanoSeconds"] > 3e8 and total > 68 << 20:
                    break
                await anyio.sleep(0.05)
        assert (app["name"], other["name"]) == ("app", "side")
        assert other["memory"]["workingSetBytes"] < 20 << 20 < 48 << 20 < app["memory"]["workingSetBytes"]
        assert pod["podRef"]["name"] == "p"
        assert summary["node"]["memory"]["workingSetBytes"] > total
        assert summary["node"]["cpu"]["usageCoreNanoSeconds"] > pod["cpu"]["usageCoreNanoSeconds"]
        text = (await client.get(f"http://{host}/metrics/resource")).text
        samples = {(one.name, *one.labels.values()): one.value for f in parsed(text) for one in f.samples}
        assert samples["container_cpu_usage_seconds_total", "app", "ns", "p"] > 0.3
        assert samples["resource_scrape_error",] == 0
