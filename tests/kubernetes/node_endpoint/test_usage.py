"""What a node of ours and its pods use, asked through a real API server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.kubernetes.cluster.own import OwnCluster
from tests.kubernetes.fixtures import wait
from tests.kubernetes.node_endpoint import metrics_server
from tests.kubernetes.node_endpoint.pods import Pods
from tests.kubernetes.roles import until
from tests.kubernetes.virtual_node.machine import Machine

BUSY = "kept = b'x' * (64 << 20)\nwhile True: pass"
MEBIBYTE = 1 << 20


@pytest.fixture(scope="module")
def busy(reached: Machine, reached_namespace: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pods]:
    """A pod `busy`, which keeps 64 MiB and a processor, until the module's tests have ended."""
    made = Pods(reached.access, reached.name, reached_namespace, tmp_path_factory.mktemp("client"), "websocket")
    made.make("busy", "python3", "-c", BUSY)
    yield made
    made.access.call("DELETE", f"/api/v1/namespaces/{reached_namespace}/pods/busy?gracePeriodSeconds=0")


def proxied(pods: Pods, node: str, path: str) -> str:
    return pods.run("get", "--raw", f"/api/v1/nodes/{node}/proxy{path}").stdout.decode()


def test_metrics_for_metrics_server_and_prometheus(busy: Pods, reached: Machine) -> None:
    def values() -> dict[str, float]:
        families = text_string_to_metric_families(proxied(busy, reached.name, "/metrics/resource"))
        return {
            sample.name: sample.value
            for family in families
            for sample in family.samples
            if sample.labels.get("pod", "busy") == "busy"
        }

    wait(lambda: values()["container_memory_working_set_bytes"] > 64 * MEBIBYTE, "busy has its memory")
    before = values()
    wait(lambda: values()["container_cpu_usage_seconds_total"] > before["container_cpu_usage_seconds_total"], "it runs")
    after = values()
    for resource in ("cpu_usage_seconds_total", "memory_working_set_bytes"):
        assert 0 < after[f"container_{resource}"] <= after[f"pod_{resource}"] < after[f"node_{resource}"]
    assert after["container_start_time_seconds"] > 1.7e9
    assert after["resource_scrape_error"] == 0


def test_the_summary(busy: Pods, reached: Machine) -> None:
    summary: Any = json.loads(proxied(busy, reached.name, "/stats/summary"))
    assert summary["node"]["nodeName"] == reached.name
    [pod] = [one for one in summary["pods"] if one["podRef"]["name"] == "busy"]
    about = busy.access.call("GET", f"/api/v1/namespaces/{busy.namespace}/pods/busy")
    assert pod["podRef"] == {"name": "busy", "namespace": busy.namespace, "uid": about["metadata"]["uid"]}
    assert pod["startTime"] == about["status"]["startTime"]
    [container] = pod["containers"]
    assert container["startTime"] == about["status"]["containerStatuses"][0]["state"]["running"]["startedAt"]
    assert container["cpu"]["usageCoreNanoSeconds"] > 0


def test_metrics_server_scrapes_it_and_kubectl_top_shows_it(
    busy: Pods, reached: Machine, own_kubernetes: OwnCluster, tmp_path: Path
) -> None:
    busy.make("idle", "sleep", "1000")

    def top(*words: str) -> dict[str, list[str]]:
        lines = busy.run("top", *words, "--no-headers").stdout.decode().splitlines()
        return {name: rest for name, *rest in map(str.split, lines)}

    with metrics_server.running(busy.access, own_kubernetes.credentials.authority, tmp_path):
        until(lambda: metrics_of(busy, "idle"), "it has looked twice")
        pods, nodes = top("pod"), top("node")
    assert int(pods["busy"][0].removesuffix("m")) > 100
    assert 64 <= int(pods["busy"][1].removesuffix("Mi")) < 128
    assert int(pods["idle"][0].removesuffix("m")) < 20  # what uses hardly anything is there too
    assert int(nodes[reached.name][0].removesuffix("m")) > 100


def metrics_of(pods: Pods, name: str) -> bool:
    with pods.access.client() as client:
        return client.get(f"/apis/metrics.k8s.io/v1beta1/namespaces/{pods.namespace}/pods/{name}").is_success
