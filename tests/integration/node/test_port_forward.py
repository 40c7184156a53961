"""Ports of real pods through the node's endpoint: found by whose they are, ended with the pod."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx2
import pytest
import uvicorn
from httpx2.websockets import AsyncWebSocketSession, WebSocketDisconnect
from starlette.applications import Starlette
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from headrace.engine.facade.options import UVICORN_OPTIONS
from headrace.node import spdy
from headrace.spec.kind import Ref
from headrace.spec.kinds import POD

pytestmark = pytest.mark.anyio

SERVER = """
import os, socket, socketserver, sys

class Echo(socketserver.StreamRequestHandler):
    def handle(self):
        while data := self.request.recv(65536):
            self.request.sendall(data)
        self.request.sendall(b" from " + os.environ["IP"].encode())

class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True

address = sys.argv[1] or os.environ["IP"]
with Server((address, 0), Echo) as server:
    print("port", server.server_address[1], flush=True)
    server.serve_forever()
"""


def server(address: str) -> dict[str, Any]:
    ip = {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
    return {"name": "app", "command": ["python3", "-c", SERVER, address], "env": [ip]}


@asynccontextmanager
async def serving(app: Starlette) -> AsyncIterator[str]:
    """Serve the endpoint without TLS on a port of its own; yield `host:port`."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        running = uvicorn.Server(uvicorn.Config(app, log_level="critical", **UVICORN_OPTIONS))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(running.serve, [listener])
            while not running.started:  # noqa: ASYNC110 - uvicorn has no event for it
                await anyio.sleep(0.005)
            yield f"127.0.0.1:{listener.getsockname()[1]}"
            running.should_exit = True


def channels(host: str, port: int, pod: str = "p") -> Any:
    url = f"ws://{host}/portForward/ns/{pod}?port={port}"
    return connect(url, subprotocols=["v4.channel.k8s.io"], proxy=None)  # type: ignore[list-item]


@asynccontextmanager
async def tunnel(url: str) -> AsyncIterator[AsyncWebSocketSession]:
    """A WebSocket with kubectl's subprotocol, which `websockets` refuses to offer because of its slash."""
    async with httpx2.AsyncClient(trust_env=False) as http:
        async with http.websocket(url, subprotocols=["SPDY/3.1+portforward.k8s.io"]) as ws:
            assert ws.subprotocol == "SPDY/3.1+portforward.k8s.io"
            yield ws


async def rest_of(ws: AsyncWebSocketSession, reader: spdy.Reader) -> list[spdy.Frame]:
    """Every frame until the server closes."""
    seen: list[spdy.Frame] = []
    try:
        while True:
            seen += reader.feed(await ws.receive_bytes())
    except WebSocketDisconnect:
        return seen


async def port_of(node: Any, name: str = "p") -> int:
    return int((await node.until_said("port", name)).split()[1])


async def failure(host: str, port: int) -> str:
    """The sentence with which a connection to `port` fails."""
    async with channels(host, port) as ws:
        begun = [await ws.recv(), await ws.recv()]
        assert begun == [bytes([number]) + port.to_bytes(2, "little") for number in (0, 1)]
        said = await ws.recv()
        assert isinstance(said, bytes)
        assert said[0] == 1
        with pytest.raises(ConnectionClosed):
            await ws.recv()
        return said[1:].decode()


@pytest.mark.parametrize("address", ["", "0.0.0.0", "127.0.0.1"])
async def test_a_pods_port_is_reached_wherever_it_binds(node: Any, address: str) -> None:
    async with node.running() as agent, serving(agent.app()) as host:
        await node.submit(server(address))
        await node.until_phase("Running")
        async with channels(host, await port_of(node)) as ws:
            await ws.recv()
            await ws.recv()
            await ws.send(b"\x00hello")
            assert await ws.recv() == b"\x00hello"


async def test_what_the_pod_does_not_listen_on_is_not_forwarded(node: Any) -> None:
    async with node.running() as agent, serving(agent.app()) as host:
        await node.submit(server(""))
        await node.until_phase("Running")
        with socket.create_server(("0.0.0.0", 0)) as ours:
            port = ours.getsockname()[1]
            assert "connection refused (a process outside the pod listens" in await failure(host, port)
        said = await failure(host, port)
        assert f"failed to connect to localhost:{port} inside namespace" in said
        assert said.endswith("connect: connection refused")


async def test_the_client_is_told_when_the_pod_ends(node: Any) -> None:
    async with node.running() as agent, serving(agent.app()) as host:
        await node.submit(server(""), terminationGracePeriodSeconds=1)
        await node.until_phase("Running")
        async with tunnel(f"http://{host}/portForward/ns/p") as ws:
            writer, reader = spdy.Writer(), spdy.Reader()
            headers = {"port": str(await port_of(node)), "requestID": "0"}
            await ws.send_bytes(writer.encode(spdy.SynStream(1, headers | {"streamType": "error"})))
            await ws.send_bytes(writer.encode(spdy.SynStream(3, headers | {"streamType": "data"})))
            await ws.send_bytes(writer.encode(spdy.Data(3, b"hello")))
            seen: list[spdy.Frame] = []
            while spdy.Data(3, b"hello") not in seen:
                seen += reader.feed(await ws.receive_bytes())
            await node.cluster.delete(POD, Ref("ns", "p"))
            seen += await rest_of(ws, reader)
            assert seen[-1] == spdy.GoAway(3)
        await node.until(lambda: node.pod() is None)


async def test_what_cannot_be_forwarded_is_said_before_the_handshake(node: Any) -> None:
    async with node.running() as agent, serving(agent.app()) as host:
        await node.submit({"name": "app", "command": ["true"]}, restartPolicy="Never")
        await node.until_phase("Succeeded")
        for query, offered, code, why in (
            ("p?port=80", "v4.channel.k8s.io", 400, "pod is not running. Current status=Succeeded"),
            ("none?port=80", "v4.channel.k8s.io", 404, 'pod "none" of namespace ns is not on node own'),
            ("p/other?port=80", "v4.channel.k8s.io", 404, "with uid other"),
            ("p", "v4.channel.k8s.io", 400, 'query parameter "port" is required'),
            ("p?port=80", "v3", 400, "needs one of the subprotocols"),
        ):
            with pytest.raises(InvalidStatus) as refused:
                async with connect(f"ws://{host}/portForward/ns/{query}", subprotocols=[offered], proxy=None):  # type: ignore[list-item]
                    pass
            assert refused.value.response.status_code == code
            assert why in (refused.value.response.body or b"").decode()
