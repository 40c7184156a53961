"""A node of ours behind a real API server: kubectl reaches into its pods by WebSocket and by SPDY.

A client's WebSocket becomes SPDY in the API server, or goes on as it is to a node that says it can take it; a client's
SPDY goes through.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import socket
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.contract.conftest import kubectl_path
from tests.kubernetes.access import Access
from tests.kubernetes.cluster.own import OwnCluster
from tests.kubernetes.fixtures import wait
from tests.kubernetes.reached_node import virtual_node

from headrace.sandbox.testing import missing_features
from headrace.spec.kind import Json

NODE = "virtual-cloud"
WITHIN_S = 30.0
MAIN = "echo first line; echo oops >&2; exec sleep 1000"
ECHO = """
import os, socketserver

class Echo(socketserver.StreamRequestHandler):
    def handle(self):
        while data := self.request.recv(65536):
            self.request.sendall(data)
        self.request.sendall(b"bye")

class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True

with Server((os.environ["IP"], 0), Echo) as server:
    print("port", server.server_address[1], flush=True)
    server.serve_forever()
"""
WAYS = {
    "websocket": {},
    "spdy": {"KUBECTL_REMOTE_COMMAND_WEBSOCKETS": "false", "KUBECTL_PORT_FORWARD_WEBSOCKETS": "false"},
}


@pytest.fixture(scope="module")
def endpoint(
    own_kubernetes: OwnCluster | None, bare_kubernetes: Access, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The URL of a node's endpoint."""
    if own_kubernetes is None:
        pytest.skip("The cluster of KUBECONFIG does not know this machine. Nodes of ours are not tested.")
    if why := missing_features().get("userns"):
        pytest.skip(f"NO USER NAMESPACES, PODS ARE NOT RUN: {why}")
    log = tmp_path_factory.mktemp("node") / "agent.log"
    with virtual_node(bare_kubernetes, own_kubernetes.credentials, own_kubernetes.address, NODE, log) as url:
        yield url


class Pods:
    """A namespace with a pod `main` that says two lines, and `echo`, which listens."""

    def __init__(self, access: Access, namespace: str, home: Path, way: str) -> None:
        self.way = way
        self.access = access
        self.namespace = namespace
        self.command = [str(kubectl_path()), "--namespace", namespace]
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "KUBECONFIG": str(access.kubeconfig),
            **WAYS[way],
        }

    def make(self, name: str, *command: str, **more: Any) -> None:
        ip = {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
        container = {"name": "app", "image": "host", "command": list(command), "env": [ip]}
        spec: Json = {
            "nodeName": NODE,
            "containers": [container],
            "terminationGracePeriodSeconds": 1,
            "restartPolicy": "Never",
            **more,
        }
        self.access.call("POST", self._path, {"metadata": {"name": name}, "spec": spec})

    def until_running(self, name: str) -> None:
        def is_running() -> bool:
            return bool(self.access.call("GET", f"{self._path}/{name}")["status"]["phase"] == "Running")

        wait(is_running, f"{name} runs: {self.access.call('GET', f'{self._path}/{name}')}")

    def run(self, *words: str, stdin: bytes | None = None, code: int = 0) -> subprocess.CompletedProcess[bytes]:
        """Run kubectl; it must end with `code`."""
        given: dict[str, Any] = {"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}
        done = subprocess.run(
            [*self.command, *words], env=self.environment, capture_output=True, timeout=WITHIN_S, **given
        )
        assert done.returncode == code, f"kubectl {' '.join(words)}: {done.returncode} {done.stdout!r} {done.stderr!r}"
        return done

    @contextlib.contextmanager
    def running(self, *words: str, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
        """Run kubectl beside the test."""
        piped = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, **options}
        with subprocess.Popen([*self.command, *words], env=self.environment, **piped) as process:
            try:
                yield process
            finally:
                process.kill()

    def processes(self, name: str = "main") -> str:
        return self.run("exec", name, "--", "ps", "-e", "-o", "args=").stdout.decode()

    @property
    def _path(self) -> str:
        return f"/api/v1/namespaces/{self.namespace}/pods"


@pytest.fixture(scope="module")
def namespace(endpoint: str, bare_kubernetes: Access) -> Iterator[str]:
    made = bare_kubernetes.call("POST", "/api/v1/namespaces", {"metadata": {"generateName": "reached-"}})
    name: str = made["metadata"]["name"]
    account = f"/api/v1/namespaces/{name}/serviceaccounts/default"
    with bare_kubernetes.client() as client:
        wait(lambda: client.get(account).is_success, f"{name} has its service account")
    yield name
    bare_kubernetes.call("DELETE", f"/api/v1/namespaces/{name}")


@pytest.fixture(scope="module", params=list(WAYS))
def pods(
    request: pytest.FixtureRequest, bare_kubernetes: Access, namespace: str, tmp_path_factory: pytest.TempPathFactory
) -> Pods:
    made = Pods(bare_kubernetes, namespace, tmp_path_factory.mktemp("kubectl"), request.param)
    if bare_kubernetes.call("GET", f"/api/v1/namespaces/{namespace}/pods")["items"] == []:
        made.make("main", "sh", "-c", MAIN)
        made.make("echo", "python3", "-c", ECHO)
    for name in ("main", "echo"):
        made.until_running(name)
    return made


def test_a_command_with_input_output_and_exit_code(pods: Pods) -> None:
    done = pods.run("exec", "main", "--", "sh", "-c", "echo out; echo err >&2; exit 7", code=7)
    assert done.stdout == b"out\n"
    assert done.stderr.startswith(b"err\n")
    block = bytes(range(256)) * 20_000
    assert pods.run("exec", "-i", "main", "--", "cat", stdin=block).stdout == block
    assert pods.run("exec", "-i", "main", "--", "head", "-c", "3", stdin=block).stdout == block[:3]
    assert b"no-such-program" in pods.run("exec", "main", "--", "no-such-program", code=1).stderr


def test_much_output_arrives_whole(pods: Pods) -> None:
    done = pods.run("exec", "main", "--", "sh", "-c", "head -c 50000000 /dev/zero; echo done >&2")
    assert (len(done.stdout), done.stderr) == (50_000_000, b"done\n")


def test_a_terminal(pods: Pods) -> None:
    ours, theirs = pty.openpty()
    try:
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 43, 132, 0, 0))
        with pods.running("exec", "-it", "main", "--", "sh", stdin=theirs, stdout=theirs, stderr=theirs) as process:
            os.write(ours, b"until [ \"$(stty size)\" = '43 132' ]; do sleep 0.05; done; stty size; exit 5\n")
            assert b"\n43 132" in _read_until(ours, b"\n43 132")
            assert process.wait(WITHIN_S) == 5
    finally:
        os.close(ours)
        os.close(theirs)


def _read_until(fd: int, text: bytes) -> bytes:
    seen = b""
    end = time.monotonic() + WITHIN_S
    while text not in seen:
        assert time.monotonic() < end, seen
        seen += os.read(fd, 4096)
    return seen


def test_a_command_of_a_client_that_is_killed_ends(pods: Pods) -> None:
    with pods.running("exec", "-i", "main", "--", "sleep", "4323"):
        wait(lambda: "sleep 4323" in pods.processes(), "the command runs")
    wait(lambda: "sleep 4323" not in pods.processes(), "the command has ended with its client")


def test_files_are_copied(pods: Pods, tmp_path: Path) -> None:
    (tmp_path / "there").write_bytes(bytes(range(256)) * 4000)
    pods.run("cp", str(tmp_path / "there"), "main:/tmp/copied")
    pods.run("cp", "main:/tmp/copied", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == (tmp_path / "there").read_bytes()


def test_ports_are_forwarded(pods: Pods) -> None:
    port = int(pods.run("logs", "echo").stdout.split()[1])
    with pods.running("port-forward", "pod/echo", f":{port}") as process:
        assert process.stdout is not None
        found = re.search(rb"127.0.0.1:(\d+) ->", process.stdout.readline())
        assert found
        block = bytes(range(256)) * 8000
        for _ in range(2):
            with socket.create_connection(("127.0.0.1", int(found[1])), timeout=WITHIN_S) as connection:
                connection.sendall(block)
                connection.shutdown(socket.SHUT_WR)
                assert b"".join(iter(lambda: connection.recv(65536), b"")) == block + b"bye"
    with pods.running("port-forward", "pod/echo", ":9") as process:
        assert process.stdout is not None
        found = re.search(rb"127.0.0.1:(\d+) ->", process.stdout.readline())
        assert found
        with socket.create_connection(("127.0.0.1", int(found[1])), timeout=WITHIN_S) as connection:
            with contextlib.suppress(ConnectionResetError):
                assert connection.recv(10) == b""
        said = b"".join(iter(process.stdout.readline, b"") if process.wait(WITHIN_S) is not None else ())
        assert b"connection refused" in said


def test_logs(pods: Pods) -> None:
    assert pods.run("logs", "main").stdout == b"first line\noops\n"
    assert pods.run("logs", "main", "--tail=1").stdout == b"oops\n"
    said = pods.run("logs", "main", "--previous", code=1).stderr
    assert b'previous terminated container "app" in pod "main" not found' in said
    assert b"container none is not valid" in pods.run("logs", "main", "-c", "none", code=1).stderr


def test_a_log_is_followed_to_its_end(pods: Pods) -> None:
    name = f"ending-{pods.way}"
    pods.make(name, "sh", "-c", "echo begun; until [ -e /tmp/go-on ]; do sleep 0.05; done; echo ended")
    pods.until_running(name)
    with pods.running("logs", "-f", name) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        pods.run("exec", name, "--", "touch", "/tmp/go-on")
        assert process.stdout.read() == b"ended\n"
        assert process.wait(WITHIN_S) == 0
