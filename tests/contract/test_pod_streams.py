"""Reaching into pods with kubectl 1.37 and RemoteCluster: through the façade to a node's agent, here a small kubelet.

With `--kubernetes` the agent is a whole kubelet, and the pod runs.
"""

from __future__ import annotations

import json
import ssl
import subprocess
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Protocol

import anyio
import pytest
from starlette.applications import Starlette
from starlette.requests import Request as HttpRequest
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp
from starlette.websockets import WebSocket
from tests.kubernetes.fixtures import wait

from headrace.cluster.remote import RemoteCluster
from headrace.errors import HeadraceError, NotFound
from headrace.spec.kind import Ref

LOG = b"first line\nsecond line\n"
FAIL = ("sh", "-c", "echo no good >&2; exit 3")
MAIN = """
echo first line; echo second line
until [ -e /tmp/go-on ]; do sleep 0.1; done
echo last line
"""


class Kubelet:
    """What a kubelet does for logs and exec, with canned output."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.gate = threading.Event()
        self.app = Starlette(
            routes=[
                Route("/containerLogs/{namespace}/{pod}/{container}", self._logs),
                WebSocketRoute("/exec/{namespace}/{pod}/{container}", self._exec),
            ]
        )

    def go_on(self) -> None:
        """Let a followed log end."""
        self.gate.set()

    async def _logs(self, http: HttpRequest) -> Response:
        self.asked.append(f"{http.url.path}?{http.url.query}")
        if http.path_params["container"] == "waiting":
            text = f'container "waiting" in pod "{http.path_params["pod"]}" is waiting to start: ContainerCreating'
            return PlainTextResponse(text, 400)
        if "follow" not in http.query_params:
            return Response(LOG)

        async def lines() -> Any:
            yield LOG
            await anyio.to_thread.run_sync(self.gate.wait, 10)
            yield b"last line\n"

        return StreamingResponse(lines())

    async def _exec(self, socket: WebSocket) -> None:
        self.asked.append(f"{socket.url.path}?{socket.url.query}")
        if socket.path_params["container"] == "gone":
            await socket.send_denial_response(PlainTextResponse('container not found ("gone")', 404))
            return
        offered = socket.scope["subprotocols"]
        await socket.accept("v5.channel.k8s.io" if "v5.channel.k8s.io" in offered else "v4.channel.k8s.io")
        program, *words = socket.query_params.getlist("command")
        exit_code = 0
        if program == "echo":
            await socket.send_bytes(b"\x01" + " ".join(words).encode() + b"\n")
        elif program == "cat":
            await self._echo(socket)
        elif (program, *words) == FAIL:
            await socket.send_bytes(b"\x02" + b"no good\n")
            exit_code = 3
        await socket.send_bytes(b"\x03" + json.dumps(_ended(exit_code)).encode())
        await socket.close()

    async def _echo(self, socket: WebSocket) -> None:
        """Send standard input back until its end, which is message [255, 0] in v5."""
        while True:
            message = await socket.receive_bytes()
            if message == b"\xff\x00":
                return
            if message[:1] == b"\x00":
                await socket.send_bytes(b"\x01" + message[1:])


def _ended(exit_code: int) -> dict[str, Any]:
    if exit_code == 0:
        return {"metadata": {}, "status": "Success"}
    cause = {"reason": "ExitCode", "message": str(exit_code)}
    return {
        "metadata": {},
        "status": "Failure",
        "reason": "NonZeroExitCode",
        "message": f"command terminated with non-zero exit code: {exit_code}",
        "details": {"causes": [cause]},
    }


@pytest.fixture(scope="module")
def own_kubelet(run_server: Any, authority: Any, facade: Any) -> Iterator[Kubelet]:
    """A kubelet that only takes certificates of our authority, and its Node."""
    made = Kubelet()

    async def serve(run: Callable[[ASGIApp], Awaitable[None]]) -> None:
        await run(made.app)

    options = {"ssl_ca_certs": str(authority.certificate), "ssl_cert_reqs": ssl.CERT_REQUIRED}
    with run_server(serve, authority.server("kubelet"), **options) as port:
        status = {
            "addresses": [{"type": "Hostname", "address": "fake"}, {"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        }
        facade.call("POST", "/api/v1/nodes", {"metadata": {"name": "fake"}})
        facade.call("PATCH", "/api/v1/nodes/fake/status", {"status": status}, "application/merge-patch+json")
        yield made
    facade.call("DELETE", "/api/v1/nodes/fake")


class Node(Protocol):
    """What cases need of a node's agent."""

    def go_on(self) -> None:
        """Let the container's main program print its last line and end."""


class RealNode:
    def __init__(self, kubectl: Any) -> None:
        self._kubectl = kubectl

    def go_on(self) -> None:
        self._kubectl("exec", "p", "-c", "main", "--", "touch", "/tmp/go-on")


@pytest.fixture
def kubelet(request: pytest.FixtureRequest) -> Node:
    if request.config.getoption("kubernetes"):
        return RealNode(request.getfixturevalue("kubectl"))
    made: Kubelet = request.getfixturevalue("own_kubelet")
    made.asked.clear()
    made.gate.clear()
    return made


@pytest.fixture
def pod(request: pytest.FixtureRequest, kubelet: Node, facade: Any, namespace: str) -> str:
    """A pod with three containers: one runs, one waits to be started, one has ended."""
    if request.config.getoption("kubernetes"):
        _run_pod(facade, namespace, request.getfixturevalue("busybox"))
    else:
        containers = [{"name": name, "image": "host"} for name in ("main", "waiting", "gone")]
        body = {"metadata": {"name": "p"}, "spec": {"containers": containers, "nodeName": "fake"}}
        facade.call("POST", f"/api/v1/namespaces/{namespace}/pods", body)
    return "p"


def _run_pod(facade: Any, namespace: str, image: str) -> None:
    containers = [
        {"name": "main", "image": image, "command": ["sh", "-c", MAIN]},
        {"name": "waiting", "image": "nowhere.test/nothing:1", "imagePullPolicy": "Never"},
        {"name": "gone", "image": image, "command": ["true"]},
    ]
    spec = {"containers": containers, "restartPolicy": "Never", "terminationGracePeriodSeconds": 0}
    path = f"/api/v1/namespaces/{namespace}/pods"
    facade.call("POST", path, {"metadata": {"name": "p"}, "spec": spec})

    def has_begun() -> bool:
        with facade.client() as client:
            if client.get(f"{path}/p/log?container=main").content != LOG:
                return False
        statuses = facade.call("GET", f"{path}/p")["status"].get("containerStatuses", ())
        states = {each["name"]: each["state"] for each in statuses}
        return "running" in states.get("main", ()) and "terminated" in states.get("gone", ())

    wait(has_begun, "the pod has begun")


def test_logs(kubectl: Any, pod: str) -> None:
    assert kubectl("logs", pod, "-c", "main").stdout == LOG.decode()


@pytest.mark.embedded("looks at what its own node's agent is asked")
def test_the_agent_is_asked_what_kubectl_was(kubectl: Any, own_kubelet: Kubelet, pod: str, namespace: str) -> None:
    kubectl("logs", pod, "-c", "main", "--tail=5", "--timestamps", "--previous", "--since=10s")
    path, _, query = own_kubelet.asked[-1].partition("?")
    assert path == f"/containerLogs/{namespace}/p/main"
    assert set(query.split("&")) == {"tailLines=5", "timestamps=true", "previous=true", "sinceSeconds=10"}
    kubectl("exec", "-i", pod, "-c", "main", "--", "echo", "a b", "ü")
    asked = f"/exec/{namespace}/p/main?command=echo&command=a+b&command=%C3%BC&input=1&output=1"
    assert own_kubelet.asked[-1].startswith(asked)


def test_logs_are_followed(kubectl_command: Any, kubelet: Node, pod: str) -> None:
    words, environment = kubectl_command
    with subprocess.Popen(
        [*words, "logs", "-f", pod, "-c", "main"], env=environment, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"first line\n"
        assert process.stdout.readline() == b"second line\n"
        kubelet.go_on()
        assert process.stdout.read() == b"last line\n"
        assert process.wait(10) == 0


def test_the_agents_refusal_is_passed_on(kubectl: Any, pod: str) -> None:
    assert (
        'container "waiting" in pod "p" is waiting to start' in kubectl("logs", pod, "-c", "waiting", fails=True).stderr
    )
    assert "is not valid for pod p" in kubectl("logs", pod, "-c", "nobody", fails=True).stderr
    assert 'container not found ("gone")' in kubectl("exec", pod, "-c", "gone", "--", "echo", fails=True).stderr


def test_exec_gives_output_and_exit_code(kubectl: Any, pod: str) -> None:
    assert kubectl("exec", pod, "-c", "main", "--", "echo", "a b", "ü").stdout == "a b ü\n"
    failed = kubectl("exec", pod, "-c", "main", "--", *FAIL, fails=True)
    assert failed.returncode == 3
    assert failed.stderr.startswith("no good\n")


def test_exec_carries_standard_input(kubectl: Any, pod: str) -> None:
    text = "".join(f"line {number}\n" for number in range(20_000))
    assert kubectl("exec", "-i", pod, "-c", "main", "--", "cat", stdin=text).stdout == text


@pytest.mark.embedded("a real API server serves both")
def test_what_is_not_served_says_so(kubectl: Any, pod: str) -> None:
    assert "Attaching" in kubectl("attach", pod, "-c", "main", fails=True).stderr


@pytest.mark.embedded("a real API server still speaks SPDY")
def test_exec_over_spdy_is_told_what_to_use(kubectl: Any, pod: str) -> None:
    done = kubectl("exec", pod, "-c", "main", "--", "echo", fails=True, KUBECTL_REMOTE_COMMAND_WEBSOCKETS="false")
    assert "WebSocket" in done.stderr


def test_the_log_of_a_pod_without_a_node_is_empty(kubectl: Any, facade: Any, namespace: str) -> None:
    spec = {"containers": [{"name": "main", "image": "host"}], "schedulerName": "nobody"}
    body = {"metadata": {"name": "q"}, "spec": spec}
    facade.call("POST", f"/api/v1/namespaces/{namespace}/pods", body)
    assert kubectl("logs", "q").stdout == ""
    assert "does not have a host assigned" in kubectl("exec", "q", "--", "true", fails=True).stderr
    assert "not found" in kubectl("logs", "nobody", fails=True).stderr


def test_an_agent_that_is_away_is_named(kubectl: Any, facade: Any, namespace: str) -> None:
    node = f"{namespace}-away"
    facade.call("POST", "/api/v1/nodes", {"metadata": {"name": node}})
    status = {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": 1}},
    }
    facade.call("PATCH", f"/api/v1/nodes/{node}/status", {"status": status}, "application/merge-patch+json")
    body = {"metadata": {"name": "r"}, "spec": {"containers": [{"name": "main", "image": "host"}], "nodeName": node}}
    facade.call("POST", f"/api/v1/namespaces/{namespace}/pods", body)
    assert "127.0.0.1:1" in kubectl("logs", "r", fails=True).stderr
    assert "127.0.0.1:1" in kubectl("exec", "r", "--", "echo", fails=True).stderr
    facade.call("DELETE", f"/api/v1/nodes/{node}")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.anyio
async def test_our_own_client_reads_logs_and_runs_commands(
    kubelet: Node, facade: Any, pod: str, namespace: str
) -> None:
    ref = Ref(namespace, pod)
    async with RemoteCluster.from_kubeconfig(facade.kubeconfig) as cluster:
        async with cluster.logs(ref, container="main", tail_lines=3) as chunks:
            assert b"".join([chunk async for chunk in chunks]) == LOG
        done = await cluster.exec(ref, ["echo", "a b"], container="main")
        assert (done.exit_code, done.stdout) == (0, b"a b\n")
        done = await cluster.exec(ref, FAIL, container="main")
        assert (done.exit_code, done.stderr) == (3, b"no good\n")
        done = await cluster.exec(ref, ["cat"], container="main", stdin=b"x" * 100_000)
        assert done.stdout == b"x" * 100_000
        kubelet.go_on()
        async with cluster.logs(ref, container="main", follow=True) as chunks:
            assert b"".join([chunk async for chunk in chunks]) == LOG + b"last line\n"


@pytest.mark.anyio
async def test_our_own_client_is_told_why_not(facade: Any, pod: str, namespace: str) -> None:
    async with RemoteCluster.from_kubeconfig(facade.kubeconfig) as cluster:
        with pytest.raises(HeadraceError, match="is waiting to start"):
            async with cluster.logs(Ref(namespace, pod), container="waiting"):
                pass
        with pytest.raises(HeadraceError, match="container not found"):
            await cluster.exec(Ref(namespace, pod), ["echo"], container="gone")
        with pytest.raises(NotFound):
            await cluster.exec(Ref(namespace, "nobody"), ["echo"])
