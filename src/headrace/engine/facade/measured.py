"""What `metrics.k8s.io` tells, computed from two looks at a node's counters. Pure.

Source: k8s.io/metrics `pkg/apis/metrics/v1beta1/types.go`; metrics-server `pkg/storage`.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from headrace.clock import format_time
from headrace.spec.kind import Json

GROUP, VERSION = "metrics.k8s.io", "v1beta1"
API_VERSION = f"{GROUP}/{VERSION}"

Key = tuple[str, str, str]
"""Namespace, pod and container; all are empty for the node itself."""

NODE_ITSELF: Key = ("", "", "")

_CPU = ("node_cpu_usage_seconds_total", "container_cpu_usage_seconds_total")
_MEMORY = ("node_memory_working_set_bytes", "container_memory_working_set_bytes")
_STARTED = "container_start_time_seconds"


class Counters(NamedTuple):
    """Those of a container or a node; `started_s` is 0 for a node, and changes when a container starts again."""

    cpu_s: float
    memory_bytes: int
    started_s: float


class Look(NamedTuple):
    """All counters of a node at `at_s`, wall time."""

    at_s: float
    counters: Mapping[Key, Counters]


class Usage(NamedTuple):
    """What was used at `at_s`: CPU is the mean of the `window_s` seconds before."""

    at_s: float
    window_s: float
    cores: float
    memory_bytes: int


def parse(text: str) -> Look:
    """Return what a kubelet's `/metrics/resource` says; raises ValueError for what is no exposition or has no node."""
    from prometheus_client.parser import text_string_to_metric_families  # only who asks for metrics waits for it

    values: dict[str, dict[Key, float]] = {name: {} for name in (*_CPU, *_MEMORY, _STARTED)}
    at_s = 0.0
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name in values:
                labels = sample.labels
                key = (labels.get("namespace", ""), labels.get("pod", ""), labels.get("container", ""))
                values[sample.name][key] = sample.value
                at_s = max(at_s, float(sample.timestamp or 0))
    cpu, memory = values[_CPU[0]] | values[_CPU[1]], values[_MEMORY[0]] | values[_MEMORY[1]]
    if NODE_ITSELF not in cpu or not at_s:
        raise ValueError("the node could not be measured")
    started = values[_STARTED]
    return Look(
        at_s,
        {
            key: Counters(seconds, int(memory[key]), started.get(key, 0.0))
            for key, seconds in cpu.items()
            if key in memory
        },
    )


def usage(earlier: Look, later: Look) -> dict[Key, Usage]:
    """Return what was used between two looks.

    A container that started in between counts from its start. What has a counter that fell, as of a node whose world
    was lost, is left out until the next time.
    """
    found = {}
    for key, now in later.counters.items():
        before, since_s = earlier.counters.get(key), earlier.at_s
        if before is None or before.started_s != now.started_s:
            if now.started_s < since_s:
                continue  # it ran and was not seen
            before, since_s = Counters(0.0, 0, now.started_s), now.started_s
        window_s = later.at_s - since_s
        if window_s > 0 and now.cpu_s >= before.cpu_s:
            cores = (now.cpu_s - before.cpu_s) / window_s
            found[key] = Usage(later.at_s, window_s, cores, now.memory_bytes)
    return found


def node_metrics(node: Json, used: Usage) -> Json:
    """Return the NodeMetrics of a Node."""
    return {**_head("NodeMetrics", node, [used]), "usage": _amounts(used)}


def pod_metrics(pod: Json, used: Mapping[str, Usage]) -> Json:
    """Return the PodMetrics of a Pod; `used` is by container and not empty."""
    containers = [{"name": name, "usage": _amounts(one)} for name, one in sorted(used.items())]
    return {**_head("PodMetrics", pod, used.values()), "containers": containers}


def _head(kind: str, raw: Json, used: Iterable[Usage]) -> Json:
    meta = raw["metadata"]
    at = format_time(dt.datetime.fromtimestamp(max(one.at_s for one in used), dt.UTC))
    copied = {key: meta[key] for key in ("name", "namespace", "labels") if meta.get(key)}
    return {
        "kind": kind,
        "apiVersion": API_VERSION,
        "metadata": {**copied, "creationTimestamp": at},
        "timestamp": at,
        "window": f"{max(one.window_s for one in used):.3f}s",
    }


def _amounts(used: Usage) -> Json:
    return {"cpu": f"{round(used.cores * 1e9)}n", "memory": f"{used.memory_bytes // 1024}Ki"}
