"""Ports of pods with kubectl 1.37 and plain WebSockets: through the façade to a node's agent, here the part that forwards.

The agent is real from its HTTP route on; what it would ask its world, whose port it is, is told by the test.
"""

from __future__ import annotations

import base64
import hashlib
import re
import signal
import socket
import socketserver
import ssl
import subprocess
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import anyio
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import WebSocketRoute
from starlette.types import ASGIApp
from starlette.websockets import WebSocket
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from headrace.node.port_forward import PortForward
from headrace.node.ports import PodPorts

pytestmark = pytest.mark.embedded("the agent takes the façade's certificate")

DEADLINE_S = 20.0
BLOCK = b"".join(number.to_bytes(4, "little") for number in range(1_000_000))


class Node:
    """A node's agent: which ports lead where, and when its pod is gone."""

    def __init__(self) -> None:
        self.ports: dict[int, str] = {}
        self.gone = threading.Event()
        self.asked: list[str] = []
        self.forward = PortForward(self.find)
        paths = ("/portForward/{namespace}/{pod}",)
        self.app = Starlette(routes=[WebSocketRoute(path, self.serve) for path in paths])

    async def serve(self, socket: WebSocket) -> None:
        self.asked.append(f"{socket.url.path}?{socket.url.query}")
        if socket.path_params["pod"] == "stopped":
            await socket.send_denial_response(PlainTextResponse("unable to forward port: the sandbox is gone", 500))
            return
        await self.forward.serve(socket)

    def find(self, namespace: str, pod: str, uid: str = "") -> PodPorts:
        return PodPorts(self, namespace, pod, "some-uid", "127.64.0.9", self.until_gone)  # type: ignore[arg-type]

    async def request(self, op: str, *, port: int, **_: Any) -> dict[str, Any]:
        return {"address": self.ports.get(port, ""), "foreign": False}

    async def until_gone(self) -> None:
        await anyio.to_thread.run_sync(self.gone.wait, abandon_on_cancel=True)


class Program(socketserver.ThreadingTCPServer):
    """A program in the pod. By the first letter: echo until the end of input, then its digest; or a large answer."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.port = self.server_address[1]
        threading.Thread(target=self.serve_forever, daemon=True).start()


class _Handler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        peer: socket.socket = self.request
        match peer.recv(1):
            case b"e":
                while data := peer.recv(65536):
                    peer.sendall(data)
            case b"d":
                digest = hashlib.sha256()
                while data := peer.recv(65536):
                    digest.update(data)
                peer.sendall(digest.hexdigest().encode())
            case b"b":
                peer.sendall(BLOCK)
            case b"r":  # hang up with a reset
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes([1, 0, 0, 0, 0, 0, 0, 0]))


@pytest.fixture(scope="module")
def node(run_server: Any, authority: Any, facade: Any) -> Iterator[Node]:
    """An agent that only takes certificates of our authority, and its Node."""
    made = Node()

    async def serve(run: Callable[[ASGIApp], Awaitable[None]]) -> None:
        await run(made.app)

    options = {"ssl_ca_certs": str(authority.certificate), "ssl_cert_reqs": ssl.CERT_REQUIRED}
    with run_server(serve, authority.server("forwarding"), **options) as port:
        status = {
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        }
        facade.call("POST", "/api/v1/nodes", {"metadata": {"name": "forwarding"}})
        facade.call("PATCH", "/api/v1/nodes/forwarding/status", {"status": status}, "application/merge-patch+json")
        yield made
        made.gone.set()
    facade.call("DELETE", "/api/v1/nodes/forwarding")


@pytest.fixture
def program(node: Node) -> Iterator[Program]:
    """A program that listens at 80 and 81 of the pod."""
    with Program() as made:
        node.ports = {made.port: "127.0.0.1"}
        yield made
        made.shutdown()


@pytest.fixture
def pod(node: Node, facade: Any, namespace: str) -> str:
    """A running pod of the agent's, of a Service."""
    node.asked.clear()
    node.gone.clear()
    return make_pod(facade, namespace, "p")


def make_pod(facade: Any, namespace: str, name: str, phase: str = "Running") -> str:
    metadata = {"name": name, "labels": {"app": "web"}}
    ports = [{"name": "http", "containerPort": 80}]
    spec = {"containers": [{"name": "main", "image": "host", "ports": ports}], "nodeName": "forwarding"}
    pods = f"/api/v1/namespaces/{namespace}/pods"
    facade.call("POST", pods, {"metadata": metadata, "spec": spec})
    ready = [{"type": "Ready", "status": "True"}]
    status = {"status": {"phase": phase, "podIP": "127.64.0.9", "conditions": ready}}
    facade.call("PATCH", f"{pods}/{name}/status", status, "application/merge-patch+json")
    return name


class Forwarding:
    """A running `kubectl port-forward`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.local: list[int] = []

    def await_ports(self, count: int) -> None:
        assert self.process.stdout is not None
        while len(self.local) < count:
            line = self.process.stdout.readline()
            assert line, "kubectl ended: " + (self.process.stderr.read() if self.process.stderr else "")
            if found := re.match(r"Forwarding from 127\.0\.0\.1:(\d+) -> \d+", line):
                self.local.append(int(found[1]))

    def connect(self, place: int = 0) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.local[place]), DEADLINE_S)

    def ask(self, sent: bytes, place: int = 0) -> bytes:
        """Send everything, end, and return everything that comes; kubectl may hang up before it has read all."""
        received = bytearray()
        with self.connect(place) as connection:
            sender = threading.Thread(target=_send, args=(connection, sent))
            sender.start()
            with suppress(ConnectionResetError):
                while data := connection.recv(65536):
                    received += data
            sender.join(DEADLINE_S)
        return bytes(received)

    def end(self) -> tuple[int, str]:
        """The exit code and standard error once kubectl has ended."""
        _, errors = self.process.communicate(timeout=DEADLINE_S)
        return self.process.returncode, errors


def _send(connection: socket.socket, data: bytes) -> None:
    with suppress(OSError):
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)


@pytest.fixture
def forward(kubectl_command: Any, node: Node) -> Callable[..., Any]:
    """`with forward("pod/p", 80) as forwarding:`, ended with Ctrl-C where it still runs."""
    command, environment = kubectl_command

    @contextmanager
    def run(target: str, *ports: int | str) -> Iterator[Forwarding]:
        words = [*command, "port-forward", "--address=127.0.0.1", target, *(f":{port}" for port in ports)]
        with subprocess.Popen(
            words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            try:
                made = Forwarding(process)
                made.await_ports(len(ports))
                yield made
            finally:
                if process.poll() is None:
                    process.send_signal(signal.SIGINT)
                    process.communicate(timeout=DEADLINE_S)

    return run


def test_a_port_is_forwarded(forward: Any, node: Node, pod: str, program: Program, namespace: str) -> None:
    with forward("pod/p", program.port) as forwarding:
        assert forwarding.ask(b"ehello") == b"hello"
        assert forwarding.ask(b"eagain") == b"again"
    assert node.asked == [f"/portForward/{namespace}/p?"]


def test_large_transfers_arrive_whole(forward: Any, pod: str, program: Program) -> None:
    digest = hashlib.sha256(BLOCK).hexdigest()
    with forward("pod/p", program.port) as forwarding:
        assert hashlib.sha256(forwarding.ask(b"b")).hexdigest() == digest
        assert forwarding.ask(b"d" + BLOCK) == digest.encode()


def test_several_ports_and_connections_at_once(forward: Any, node: Node, pod: str, program: Program) -> None:
    with Program() as other:
        node.ports[other.port] = "127.0.0.1"
        with forward("pod/p", program.port, other.port) as forwarding:
            connections = [forwarding.connect(number % 2) for number in range(10)]
            for number, connection in enumerate(connections):
                connection.sendall(b"e" + str(number).encode())
            for number, connection in reversed(list(enumerate(connections))):
                assert connection.recv(10) == str(number).encode()
                connection.close()
        other.shutdown()


def test_one_that_hangs_up_hurts_no_other(forward: Any, pod: str, program: Program) -> None:
    with forward("pod/p", program.port) as forwarding, forwarding.connect() as steady:
        steady.sendall(b"ea")
        assert steady.recv(1) == b"a"
        assert forwarding.ask(b"r") == b""
        with forwarding.connect() as quitter:
            quitter.sendall(b"b")
            quitter.recv(10)
        steady.sendall(b"b")
        assert steady.recv(1) == b"b"
        assert forwarding.ask(b"ehello") == b"hello"


def test_where_nothing_listens_it_is_said(forward: Any, pod: str, program: Program) -> None:
    with forward("pod/p", 9) as forwarding:
        assert forwarding.ask(b"x") == b""
        code, errors = forwarding.end()
    assert code == 1
    sentence = "error forwarding port 9 to pod p, uid some-uid: failed to connect to localhost:9 inside namespace"
    assert sentence in errors
    assert "dial tcp 127.64.0.9:9: connect: connection refused" in errors
    assert "lost connection to pod" in errors


def test_ctrl_c_ends_it(forward: Any, pod: str, program: Program) -> None:
    with forward("pod/p", program.port) as forwarding, forwarding.connect() as open_one:
        open_one.sendall(b"ex")
        assert open_one.recv(1) == b"x"
        forwarding.process.send_signal(signal.SIGINT)
        code, _ = forwarding.end()
    assert code == 0


def test_when_the_pod_is_gone_kubectl_ends(forward: Any, node: Node, pod: str, program: Program) -> None:
    with forward("pod/p", program.port) as forwarding, forwarding.connect() as open_one:
        open_one.sendall(b"ex")
        assert open_one.recv(1) == b"x"
        node.gone.set()
        assert open_one.recv(1) == b""
        code, errors = forwarding.end()
    assert (code, errors) == (1, "error: lost connection to pod\n")


def test_a_service_leads_to_its_pod(forward: Any, facade: Any, pod: str, program: Program, namespace: str) -> None:
    ports = [{"port": 8000, "targetPort": program.port}]
    body = {"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": ports}}
    facade.call("POST", f"/api/v1/namespaces/{namespace}/services", body)
    with forward("service/web", 8000) as forwarding:
        assert forwarding.ask(b"ehello") == b"hello"


def test_what_keeps_it_from_beginning_is_said(kubectl: Any, facade: Any, pod: str, namespace: str) -> None:
    make_pod(facade, namespace, "waiting", phase="Pending")
    said = kubectl("port-forward", "pod/waiting", ":80", fails=True).stderr
    assert "pod is not running. Current status=Pending" in said
    make_pod(facade, namespace, "stopped")
    assert "the sandbox is gone" in kubectl("port-forward", "pod/stopped", ":80", fails=True).stderr
    assert "not found" in kubectl("port-forward", "pod/nobody", ":80", fails=True).stderr
    by_spdy = kubectl("port-forward", "pod/p", ":80", fails=True, KUBECTL_PORT_FORWARD_WEBSOCKETS="false")
    assert "over WebSocket here, not over SPDY" in by_spdy.stderr
    assert kubectl("auth", "can-i", "create", "pods/portforward").stdout == "yes\n"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def upgrade(facade: Any, namespace: str, query: str, subprotocols: list[str], token: str | None = None) -> Any:
    """A WebSocket to the pod's ports, as a client without SPDY opens it."""
    return connect(
        f"{facade.url}/api/v1/namespaces/{namespace}/pods/p/portforward{query}".replace("https", "wss", 1),
        subprotocols=subprotocols or None,  # type: ignore[arg-type]
        additional_headers={"authorization": f"Bearer {token or facade.token}"},
        ssl=ssl.create_default_context(cafile=facade.authority.certificate),
        proxy=None,
    )


@pytest.mark.anyio
@pytest.mark.parametrize("subprotocol", ["v4.channel.k8s.io", ""])
async def test_channels(facade: Any, node: Node, pod: str, program: Program, namespace: str, subprotocol: str) -> None:
    offered = [subprotocol] if subprotocol else []
    async with upgrade(facade, namespace, f"?ports={program.port},9", offered) as ws:
        assert (ws.subprotocol or "") == subprotocol
        ports = [bytes([n]) + p.to_bytes(2, "little") for n, p in enumerate((program.port, program.port, 9, 9))]
        assert [await ws.recv() for _ in ports] == ports
        assert b"connection refused" in await ws.recv()
        await ws.send(b"\x00ehello")
        assert await ws.recv() == b"\x00hello"
    assert node.asked == [f"/portForward/{namespace}/p?port={program.port}&port=9"]


@pytest.mark.anyio
async def test_channels_in_base64(facade: Any, pod: str, program: Program, namespace: str) -> None:
    async with upgrade(facade, namespace, f"?ports={program.port}", ["v4.base64.channel.k8s.io"]) as ws:
        port = base64.b64encode(program.port.to_bytes(2, "little")).decode()
        assert [await ws.recv() for _ in range(2)] == [f"0{port}", f"1{port}"]
        await ws.send("0" + base64.b64encode(b"ehello").decode())
        assert await ws.recv() == "0" + base64.b64encode(b"hello").decode()


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("query", "subprotocols", "status", "why"),
    [
        ("", ["v4.channel.k8s.io"], 400, 'query parameter \\"port\\" is required'),
        (
            "?ports=http",
            ["v4.channel.k8s.io"],
            400,
            'cannot convert to []int32: strconv.ParseUint: parsing \\"http\\": invalid',
        ),
        ("?ports=80,65536", ["v4.channel.k8s.io"], 400, 'parsing \\"65536\\": value out of range'),
        ("?ports=0", ["v4.channel.k8s.io"], 400, "must be > 0"),
        ("?ports=80", ["v9"], 400, "The subprotocol is not known"),
    ],
)
async def test_what_cannot_be_asked(
    facade: Any, pod: str, namespace: str, query: str, subprotocols: list[str], status: int, why: str
) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with upgrade(facade, namespace, query, subprotocols):
            pass
    answer = refused.value.response
    assert answer.status_code == status
    assert why in (answer.body or b"").decode()


@pytest.mark.anyio
async def test_who_may_not_is_refused(facade: Any, pod: str, namespace: str) -> None:
    reader = facade.tokens.ensure("reader", ("readers",))
    with pytest.raises(InvalidStatus) as refused:
        async with upgrade(facade, namespace, "?ports=80", ["v4.channel.k8s.io"], token=reader):
            pass
    assert refused.value.response.status_code == 403
