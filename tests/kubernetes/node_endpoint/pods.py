"""Pods on a node of ours, and how they are reached: kubectl, or another command line, as one of three clients."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.contract.conftest import kubectl_path
from tests.kubernetes.access import Access
from tests.kubernetes.fixtures import wait
from tests.kubernetes.roles import MERGE, write_kubeconfig

WITHIN_S = 30.0
KUBECTL = (str(kubectl_path()),)
HEADRACE = (sys.executable, "-m", "headrace.cli")
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
_BY_SPDY = {"KUBECTL_REMOTE_COMMAND_WEBSOCKETS": "false", "KUBECTL_PORT_FORWARD_WEBSOCKETS": "false"}


class Pods:
    """Pods in a namespace.

    Args:
        way: `websocket`, which the API server passes on to a node that says it takes it; `websocket-translated`, of which
            it makes SPDY where a node does not; `spdy`, which it passes on.
    """

    def __init__(self, access: Access, node: str, namespace: str, home: Path, way: str) -> None:
        self.access = access
        self.namespace = namespace
        self.way = way
        self._node = node
        write_kubeconfig(access, access.token, "admin", home / "kubeconfig", namespace)
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "KUBECONFIG": str(home / "kubeconfig"),
            **(_BY_SPDY if way == "spdy" else {}),
        }

    def be_reached(self) -> None:
        """Have the node say what it takes; after some minutes its agent says again what it really takes."""
        features = None if self.way == "websocket-translated" else ["ExtendWebSocketsToKubelet"]
        body = {"status": {"declaredFeatures": features}}
        self.access.call("PATCH", f"/api/v1/nodes/{self._node}/status", body, MERGE)

    def make(self, name: str, *command: str, container: str = "app", labels: Mapping[str, str] | None = None) -> None:
        """Make a pod on the node and wait until it runs. Idempotent."""
        with self.access.client() as client:
            if client.get(f"{self._path}/{name}").status_code == 404:
                self.access.call("POST", self._path, self._body(name, command, container, labels or {}))

        def is_running() -> bool:
            return bool(self.access.call("GET", f"{self._path}/{name}")["status"]["phase"] == "Running")

        wait(is_running, f"{name} runs")

    def run(
        self, *words: str, stdin: bytes | None = None, code: int = 0, program: Sequence[str] = KUBECTL
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a command line; it must end with `code`."""
        given: dict[str, Any] = {"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}
        done = subprocess.run([*program, *words], env=self._environment, capture_output=True, timeout=WITHIN_S, **given)
        assert done.returncode == code, f"{' '.join(words)}: {done.returncode} {done.stdout!r} {done.stderr!r}"
        return done

    @contextlib.contextmanager
    def running(
        self, *words: str, program: Sequence[str] = KUBECTL, **options: Any
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Run a command line beside the test; it is killed in the end."""
        piped = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, **options}
        with subprocess.Popen([*program, *words], env=self._environment, **piped) as process:
            try:
                yield process
            finally:
                process.kill()

    def processes(self, name: str = "main") -> str:
        """Return the command lines in a pod."""
        return self.run("exec", name, "--", "ps", "-e", "-o", "args=").stdout.decode()

    def _body(self, name: str, command: Sequence[str], container: str, labels: Mapping[str, str]) -> dict[str, Any]:
        ip = {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
        main = {"name": container, "image": "host", "command": list(command), "env": [ip]}
        spec = {"terminationGracePeriodSeconds": 1, "restartPolicy": "Never", "containers": [main]}
        return {"metadata": {"name": name, "labels": dict(labels)}, "spec": {"nodeName": self._node, **spec}}

    @property
    def _path(self) -> str:
        return f"/api/v1/namespaces/{self.namespace}/pods"
