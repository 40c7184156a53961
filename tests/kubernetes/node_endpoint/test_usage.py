"""What a node of ours and its pods use, asked through a real API server."""

from __future__ import annotations

import json
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.kubernetes.fixtures import wait
from tests.kubernetes.node_endpoint.pods import Pods
from tests.kubernetes.virtual_node.machine import Machine

BUSY = "kept = b'x' * (64 << 20)\nwhile True: pass"
MEBIBYTE = 1 << 20


@pytest.fixture(scope="module")
def busy(reached: Machine, reached_namespace: str, tmp_path_factory: pytest.TempPathFactory) -> Pods:
    """A pod `busy`, which keeps 64 MiB and a processor."""
    made = Pods(reached.access, reached.name, reached_namespace, tmp_path_factory.mktemp("client"), "websocket")
    made.make("busy", "python3", "-c", BUSY)
    return made


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
