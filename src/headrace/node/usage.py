"""What a node and its pods use, and the two forms in which a kubelet tells it. Pure.

The node's figure is everything in its world (pods, those that have ended too as far as time goes, and our own processes
that hold and serve them) and the agent's process. It is not the machine's, where others may work as well; an agent that
serves two nodes counts with each. What is not known here, such as network, disks and rates, is left out.
Source: kubernetes `staging/src/k8s.io/kubelet/pkg/apis/stats/v1alpha1/types.go`,
`pkg/kubelet/metrics/collectors/resource_metrics.go`.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any, NamedTuple

from headrace.clock import format_time
from headrace.spec.kind import Json

TEXT = "text/plain; version=0.0.4; charset=utf-8"


class Figures(NamedTuple):
    """Time of all processors since the beginning of what is measured, and memory in use (kubelet's working set)."""

    cpu_ns: int
    memory_bytes: int


class ContainerUsage(NamedTuple):
    """A container that runs; `limit_bytes` 0 for one without."""

    name: str
    started_ns: int
    used: Figures
    limit_bytes: int


class PodUsage(NamedTuple):
    """A pod; what it used has that of its ended containers and of its volumes in memory in it."""

    namespace: str
    name: str
    uid: str
    started_ns: int
    used: Figures
    containers: tuple[ContainerUsage, ...]


class NodeUsage(NamedTuple):
    """A node at `at_ns`, wall time."""

    name: str
    at_ns: int
    started_ns: int
    allocatable_bytes: int
    used: Figures
    agent: Figures
    agent_started_ns: int
    pods: tuple[PodUsage, ...]


class KnownPod(NamedTuple):
    """What the agent knows of a pod: the world knows uids only."""

    namespace: str
    name: str
    started_ns: int
    limits_bytes: Mapping[str, int]


def pods_of(answer: Json, known: Mapping[str, KnownPod]) -> tuple[PodUsage, ...]:
    """Return the pods of a world's answer to `usage`, without those that nobody knows any more."""
    found = []
    for told in answer["pods"]:
        pod = known.get(told["pod"])
        if pod is None:
            continue
        containers = tuple(
            ContainerUsage(
                one["container"], one["started_wall_ns"], figures(one), pod.limits_bytes.get(one["container"], 0)
            )
            for one in told["containers"]
        )
        found.append(PodUsage(pod.namespace, pod.name, told["pod"], pod.started_ns, figures(told), containers))
    return tuple(sorted(found))


def figures(told: Json) -> Figures:
    """Return the figures in a world's answer."""
    return Figures(int(told["cpu_ns"]), int(told["memory_bytes"]))


def summary(node: NodeUsage) -> Json:
    """Return the Summary at `/stats/summary`."""
    time = _time(node.at_ns)
    return {
        "node": {
            "nodeName": node.name,
            "systemContainers": [
                {"name": "kubelet", "startTime": _time(node.agent_started_ns), **_stats(time, node.agent)}
            ],
            "startTime": _time(node.started_ns),
            **_stats(time, node.used, node.allocatable_bytes),
        },
        "pods": [
            {
                "podRef": {"name": pod.name, "namespace": pod.namespace, "uid": pod.uid},
                "startTime": _time(pod.started_ns),
                "containers": [
                    {"name": one.name, "startTime": _time(one.started_ns), **_stats(time, one.used, one.limit_bytes)}
                    for one in pod.containers
                ],
                **_stats(time, pod.used),
            }
            for pod in node.pods
        ],
    }


def _stats(time: str, used: Figures, limit_bytes: int = 0) -> Json:
    memory: Json = {"time": time, "workingSetBytes": used.memory_bytes}
    if limit_bytes:
        memory["availableBytes"] = max(0, limit_bytes - used.memory_bytes)
    return {"cpu": {"time": time, "usageCoreNanoSeconds": used.cpu_ns}, "memory": memory}


def _time(wall_ns: int) -> str:
    return format_time(dt.datetime.fromtimestamp(wall_ns / 1e9, dt.UTC))


def metrics(node: NodeUsage | None) -> bytes:
    """Return the text at `/metrics/resource`; None for a node that could not be measured."""
    from prometheus_client import CollectorRegistry, generate_latest  # 30 ms, and most nodes are never asked

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(node))
    return generate_latest(registry)


class _Collector:
    def __init__(self, node: NodeUsage | None) -> None:
        self._node = node

    def collect(self) -> list[Any]:
        from prometheus_client.core import GaugeMetricFamily

        error = GaugeMetricFamily(
            "resource_scrape_error", "1 if there was an error while getting container metrics, 0 otherwise"
        )
        error.add_metric([], float(self._node is None))
        return [*(_families(self._node) if self._node is not None else ()), error]


def _families(node: NodeUsage) -> list[Any]:
    from prometheus_client.core import GaugeMetricFamily

    at_s = node.at_ns / 1e9
    started = GaugeMetricFamily(
        "container_start_time_seconds",
        "Start time of the container since unix epoch in seconds",
        labels=["container", "namespace", "pod"],
    )
    of_node, of_pods, of_containers = (
        _Pair(level, labels, at_s)
        for level, labels in (
            ("node", []),
            ("pod", ["namespace", "pod"]),
            ("container", ["container", "namespace", "pod"]),
        )
    )
    of_node.add([], node.used)
    for pod in node.pods:
        of_pods.add([pod.namespace, pod.name], pod.used)
        for one in pod.containers:
            of_containers.add([one.name, pod.namespace, pod.name], one.used)
            started.add_metric([one.name, pod.namespace, pod.name], one.started_ns / 1e9)
    return [*of_node.families, *of_pods.families, *of_containers.families, started]


class _Pair:
    """The families of time and memory at one level."""

    def __init__(self, level: str, labels: list[str], at_s: float) -> None:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        self._at_s = at_s
        self._cpu = CounterMetricFamily(
            f"{level}_cpu_usage_seconds", f"Cumulative cpu time consumed by the {level} in core-seconds", labels=labels
        )
        self._memory = GaugeMetricFamily(
            f"{level}_memory_working_set_bytes", f"Current working set of the {level} in bytes", labels=labels
        )
        self.families = (self._cpu, self._memory)

    def add(self, labels: list[str], used: Figures) -> None:
        self._cpu.add_metric(labels, used.cpu_ns / 1e9, timestamp=self._at_s)
        self._memory.add_metric(labels, used.memory_bytes, timestamp=self._at_s)
