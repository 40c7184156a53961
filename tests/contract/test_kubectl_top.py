"""kubectl 1.37 `top`: the façade asks nodes' agents, here a small kubelet, and computes `metrics.k8s.io`.

A real API server has this from metrics-server: `tests/kubernetes` has the node's side of it.
"""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request as HttpRequest
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp
from tests.kubernetes.fixtures import wait

BASE = "/apis/metrics.k8s.io/v1beta1"
MERGE = "application/merge-patch+json"


class Kubelet:
    """Tells counters that rise with the time: 1.515 cores of the node, a quarter of one by each container of pod `p`."""

    def __init__(self) -> None:
        self.asked = 0
        self.namespace = ""
        self.started_s = time.time()
        self.app = Starlette(routes=[Route("/metrics/resource", self._metrics)])

    async def _metrics(self, _http: HttpRequest) -> Response:
        self.asked += 1
        now = time.time()
        at, ran_s = round(now * 1000), now - self.started_s
        lines = [f"node_cpu_usage_seconds_total {1.515 * ran_s} {at}", f"node_memory_working_set_bytes {1 << 30} {at}"]
        for container in ("main", "side"):
            labels = f'{{container="{container}",namespace="{self.namespace}",pod="p"}}'
            lines += [
                f"container_cpu_usage_seconds_total{labels} {0.25 * ran_s} {at}",
                f"container_memory_working_set_bytes{labels} {64 << 20} {at}",
                f"container_start_time_seconds{labels} {self.started_s}",
            ]
        return PlainTextResponse("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def own_kubelet(run_server: Any, authority: Any, own_facade: Any) -> Iterator[Kubelet]:
    made = Kubelet()

    async def serve(run: Callable[[ASGIApp], Awaitable[None]]) -> None:
        await run(made.app)

    options = {"ssl_ca_certs": str(authority.certificate), "ssl_cert_reqs": ssl.CERT_REQUIRED}
    with run_server(serve, authority.server("kubelet"), **options) as port:
        for name, its_port in (("measured", port), ("lost", 1)):
            status = {
                "capacity": {"cpu": "4", "memory": "4Gi"},
                "allocatable": {"cpu": "3", "memory": "4Gi"},
                "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
                "daemonEndpoints": {"kubeletEndpoint": {"Port": its_port}},
            }
            own_facade.call("POST", "/api/v1/nodes", {"metadata": {"name": name, "labels": {"of": "top"}}})
            own_facade.call("PATCH", f"/api/v1/nodes/{name}/status", {"status": status}, MERGE)
        yield made
    for name in ("measured", "lost"):
        own_facade.call("DELETE", f"/api/v1/nodes/{name}")


@pytest.fixture
def kubelet(request: pytest.FixtureRequest) -> Kubelet:
    if request.config.getoption("kubernetes"):
        pytest.skip("metrics.k8s.io is metrics-server's on a real cluster")
    found: Kubelet = request.getfixturevalue("own_kubelet")
    found.namespace, found.started_s = request.getfixturevalue("namespace"), time.time()
    return found


@pytest.fixture
def pods(kubelet: Kubelet, facade: Any, namespace: str) -> None:
    """Pod `p` runs on the node that is measured, `lost` on one that is not, and `waits` has none."""
    for name, node, phase in (("p", "measured", "Running"), ("lost", "lost", "Running"), ("waits", "", "Pending")):
        containers = [{"name": one, "image": "host"} for one in ("main", "side")]
        spec = {"containers": containers, "schedulerName": "nobody", "nodeName": node}
        path = f"/api/v1/namespaces/{namespace}/pods"
        facade.call("POST", path, {"metadata": {"name": name, "labels": {"app": name}}, "spec": spec})
        facade.call("PATCH", f"{path}/{name}/status", {"status": {"phase": phase}}, MERGE)
    with facade.client() as client:  # what was told within the last second is told again
        measured = f"{BASE}/namespaces/{namespace}/pods/p"
        wait(lambda: client.get(measured).is_success, "pod p is measured")


def rows(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def millicores(text: str) -> int:
    assert text.endswith("m")
    return int(text[:-1])


@pytest.mark.usefixtures("kubelet")
def test_top_node(kubectl: Any) -> None:
    header, *found = rows(kubectl("top", "node", "-l", "of=top").stdout)
    measured, lost = sorted(found, reverse=True)
    assert header == ["NAME", "CPU(cores)", "CPU(%)", "MEMORY(bytes)", "MEMORY(%)"]
    assert (measured[0], measured[2:]) == ("measured", ["50%", "1024Mi", "25%"])  # 50.5 %, rounded down
    assert 1500 < millicores(measured[1]) < 1530
    assert lost == ["lost", *["<unknown>"] * 4]


@pytest.mark.usefixtures("pods")
def test_top_pod(kubectl: Any) -> None:
    header, *found = rows(kubectl("top", "pod").stdout)
    assert header == ["NAME", "CPU(cores)", "MEMORY(bytes)"]
    [(name, cpu, memory)] = found  # others are on a node that tells nothing, or on none
    assert (name, memory) == ("p", "128Mi")
    assert 480 < millicores(cpu) < 520
    containers = rows(kubectl("top", "pod", "p", "--containers", "--no-headers").stdout)
    assert [(row[0], row[1], row[3]) for row in containers] == [("p", "main", "64Mi"), ("p", "side", "64Mi")]
    assert rows(kubectl("top", "pod", "-A", "-l", "app=p", "--no-headers").stdout)[0][1] == "p"
    assert "not found" in kubectl("top", "pod", "waits", fails=True).stderr
    assert "cannot be reached" in kubectl("top", "pod", "lost", fails=True).stderr


@pytest.mark.usefixtures("pods")
def test_metrics_are_objects_like_others(kubectl: Any, facade: Any, namespace: str) -> None:
    listed = kubectl("api-resources", "--api-group", "metrics.k8s.io", "--no-headers").stdout
    assert [(row[0], row[-1]) for row in rows(listed)] == [("nodes", "NodeMetrics"), ("pods", "PodMetrics")]
    found = json.loads(kubectl("get", "pods.metrics.k8s.io", "p", "-o", "json").stdout)
    assert (found["kind"], found["metadata"]["namespace"]) == ("PodMetrics", namespace)
    assert rows(kubectl("get", "nodes.metrics.k8s.io", "measured").stdout)[1][0] == "measured"
    assert facade.call("GET", f"{BASE}/pods?labelSelector=app%3Dnobody") == {
        "kind": "PodMetricsList",
        "apiVersion": "metrics.k8s.io/v1beta1",
        "metadata": {},
        "items": [],
    }
    with facade.client() as client:
        assert client.get(f"{BASE}/pods?watch=true").status_code == 501
        assert client.post(f"{BASE}/nodes", json={}).status_code == 404


def test_who_may_not_read_everything_reads_no_metrics(kubelet: Kubelet, facade: Any) -> None:
    before = kubelet.asked
    with facade.client(facade.tokens.ensure("somebody", ("people",))) as client:
        assert client.get(f"{BASE}/nodes").status_code == 403
    with facade.client("") as client:
        assert client.get(f"{BASE}/pods").status_code == 401
    assert kubelet.asked == before
