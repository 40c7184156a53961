"""What a joined node does with pods: those of a Service find each other, DaemonSets' wait, and a killed agent loses none."""

from __future__ import annotations

import os
import signal
import socket
from typing import Any

import pytest
from tests.kubernetes.roles import apply, gone, path_of, until
from tests.kubernetes.virtual_node import pods
from tests.kubernetes.virtual_node.machine import Machine
from tests.storage import free_ports

from headrace.spec.kind import Json


def test_two_workers_find_each_other(machine: Machine, space: str, pool: Json) -> None:
    """By name, as a gang does, although a node may not read others' pods."""
    service: Json = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "pair", "namespace": space},
        "spec": {"clusterIP": "None", "publishNotReadyAddresses": True, "selector": {"gang": "pair"}},
    }
    listens = (
        "import socket,sys; s=socket.create_server(('', 28417)); s.settimeout(60); s.accept()[0].sendall(b'hello')"
    )
    connects = (
        "import socket,time\n"
        "for _ in range(600):\n"
        "    try: print(socket.create_connection(('pair-0.pair', 28417)).recv(5).decode()); break\n"
        "    except OSError: time.sleep(.1)\n"
        "else: raise SystemExit('nobody there')"
    )
    gang = []
    for index, program in enumerate((listens, connects)):
        name = f"pair-{index}"
        main = {"command": ["python3", "-c", program]}
        body = pods.pod(space, name, pool["metadata"]["name"], "", hostname=name, subdomain="pair", main=main)
        body["metadata"]["labels"]["gang"] = "pair"
        gang.append(body)
    apply(machine.access, service, *gang)
    for body in gang:
        pods.await_phase(machine, body, "Succeeded")
    slices = machine.access.call("GET", f"/apis/discovery.k8s.io/v1/namespaces/{space}/endpointslices")["items"]
    assert [each for each in slices if each["metadata"]["labels"]["kubernetes.io/service-name"] == "pair"]


@pytest.fixture
def daemon_set(machine: Machine, space: str) -> Any:
    main = {"name": "main", "image": "registry.test/agent:1", "securityContext": {"privileged": True}}
    body: Json = {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": "everywhere", "namespace": space},
        "spec": {
            "selector": {"matchLabels": {"app": "everywhere"}},
            "template": {
                "metadata": {"labels": {"app": "everywhere"}},
                "spec": {
                    "tolerations": [{"operator": "Exists"}],
                    "nodeSelector": {"kubernetes.io/hostname": machine.name},
                    "containers": [main],
                },
            },
        },
    }
    apply(machine.access, body)
    yield body
    machine.access.call("DELETE", path_of(body))
    gone(machine.access, path_of(body))


def test_a_daemon_sets_pod_is_parked(machine: Machine, space: str, daemon_set: Json) -> None:
    access = machine.access
    listed = f"/api/v1/namespaces/{space}/pods?labelSelector=app%3Deverywhere"

    def parked() -> list[Json]:
        found = access.call("GET", listed)["items"]
        named = [
            {"apiVersion": "v1", "kind": "Pod", **each} for each in found
        ]  # a list's items do not say what they are
        return [each for each in named if each["status"].get("reason") == "Parked"]

    (first,) = until(parked, "the pod is parked", machine.told)
    assert first["status"]["phase"] == "Pending"
    assert "Keep DaemonSet everywhere away" in first["status"]["message"]
    assert "NotIn [virtual-kubelet]" in first["status"]["message"]
    assert "podIP" not in first["status"]
    access.call("DELETE", path_of(first))
    gone(access, path_of(first))
    (second,) = until(parked, "the next one is parked, too", machine.told)
    events = f"/api/v1/namespaces/{space}/events?fieldSelector=involvedObject.uid%3D{second['metadata']['uid']}"
    told = [each for each in access.call("GET", events)["items"] if each["reason"] == "Parked"]
    assert [each.get("count") for each in told] in ([], [1])  # told once; the status comes before the event


def test_a_killed_agent_loses_no_pod(machine: Machine, space: str, pool: Json) -> None:
    (port,) = free_ports(1)
    program = (
        "import socket, time\n"
        f"began, server = str(time.time_ns()).encode(), socket.create_server(('', {port}))\n"
        "while True:\n"
        "    with server.accept()[0] as client: client.sendall(began)"
    )
    body = pods.pod(space, "lasting", pool["metadata"]["name"], "", main={"command": ["python3", "-c", program]})
    apply(machine.access, body)
    pods.await_phase(machine, body, "Running")
    addresses = {each["type"]: each["address"] for each in machine.node["status"]["addresses"]}

    def began() -> bytes:
        try:
            with socket.create_connection((addresses["InternalIP"], port), 5) as client:
                return client.recv(99)
        except OSError:
            return b""

    before = until(began, "the pod answers", machine.told)
    pid = machine.pid("node")
    os.kill(pid, signal.SIGKILL)
    until(lambda: _another(machine, pid), "the supervisor has started another agent", machine.told)
    after = pods.run(machine, pods.pod(space, "after", pool["metadata"]["name"], "true"))
    assert after["status"]["phase"] == "Succeeded"
    assert began() == before
    (container,) = machine.access.call("GET", path_of(body))["status"]["containerStatuses"]
    assert (container["restartCount"], container["ready"]) == (0, True)
    machine.access.call("DELETE", path_of(body))
    gone(machine.access, path_of(body))
    assert began() == b""


def _another(machine: Machine, pid: int) -> bool:
    try:
        return machine.pid("node") != pid
    except (OSError, ValueError):
        return False
