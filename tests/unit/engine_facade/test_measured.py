"""From counters to what `kubectl top` shows."""

from __future__ import annotations

import pytest

from headrace.engine.facade.measured import (
    NODE_ITSELF,
    Counters,
    Key,
    Look,
    Usage,
    node_metrics,
    parse,
    pod_metrics,
    usage,
)

APP: Key = ("ns", "p", "app")
EXPOSITION = """\
# HELP node_cpu_usage_seconds_total Cumulative cpu time consumed by the node in core-seconds
# TYPE node_cpu_usage_seconds_total counter
node_cpu_usage_seconds_total 9.5 1767225600250
# TYPE node_memory_working_set_bytes gauge
node_memory_working_set_bytes 2.097152e+08 1767225600250
# TYPE pod_cpu_usage_seconds_total counter
pod_cpu_usage_seconds_total{namespace="ns",pod="p"} 2.0 1767225600250
# TYPE container_cpu_usage_seconds_total counter
container_cpu_usage_seconds_total{container="app",namespace="ns",pod="p"} 1.5 1767225600250
container_cpu_usage_seconds_total{container="half",namespace="ns",pod="p"} 1.5 1767225600250
# TYPE container_memory_working_set_bytes gauge
container_memory_working_set_bytes{container="app",namespace="ns",pod="p"} 6.7108864e+07 1767225600250
# TYPE container_start_time_seconds gauge
container_start_time_seconds{container="app",namespace="ns",pod="p"} 1.76722554e+09
# TYPE resource_scrape_error gauge
resource_scrape_error 0.0
"""


def test_a_kubelets_exposition_is_read() -> None:
    assert parse(EXPOSITION) == Look(
        1767225600.25,
        {NODE_ITSELF: Counters(9.5, 200 << 20, 0.0), APP: Counters(1.5, 64 << 20, 1767225540.0)},
    )


@pytest.mark.parametrize("text", ["", "# TYPE resource_scrape_error gauge\nresource_scrape_error 1.0\n", "<html> {"])
def test_a_node_that_was_not_measured_is_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse(text)


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        pytest.param(Counters(10, 1, 50), Counters(12, 7, 50), Usage(104.0, 4.0, 0.5, 7), id="went on"),
        pytest.param(Counters(10, 1, 50), Counters(10, 7, 50), Usage(104.0, 4.0, 0.0, 7), id="did nothing"),
        pytest.param(None, Counters(3, 7, 102), Usage(104.0, 2.0, 1.5, 7), id="started since"),
        pytest.param(Counters(90, 1, 50), Counters(3, 7, 102), Usage(104.0, 2.0, 1.5, 7), id="started again since"),
        pytest.param(None, Counters(3, 7, 50), None, id="ran unseen"),
        pytest.param(Counters(10, 1, 50), Counters(9, 7, 50), None, id="fell"),
        pytest.param(None, Counters(3, 7, 104), None, id="started this instant"),
        pytest.param(None, Counters(3, 7, 105), None, id="its clock is ahead"),
    ],
)
def test_what_was_used_between_two_looks(before: Counters | None, now: Counters, expected: Usage | None) -> None:
    earlier = Look(100.0, {} if before is None else {APP: before})
    assert usage(earlier, Look(104.0, {APP: now})).get(APP) == expected


def test_a_node_that_lost_its_world_is_left_out_once() -> None:
    looks = [Look(at_s, {NODE_ITSELF: Counters(cpu_s, 1, 0)}) for at_s, cpu_s in ((1.0, 50), (2.0, 3), (3.0, 4))]
    assert usage(looks[0], looks[1]) == {}
    assert usage(looks[1], looks[2])[NODE_ITSELF].cores == 1.0


def test_objects_are_metrics_servers() -> None:
    used = Usage(1767225600.25, 4.0, 0.5, 64 << 20)
    head = {"apiVersion": "metrics.k8s.io/v1beta1", "timestamp": "2026-01-01T00:00:00Z"}
    meta = {"name": "own", "labels": {"a": "b"}, "creationTimestamp": "2026-01-01T00:00:00Z"}
    amounts = {"cpu": "500000000n", "memory": "65536Ki"}
    node = {"metadata": {"name": "own", "uid": "u", "labels": {"a": "b"}, "annotations": {"c": "d"}}}
    assert node_metrics(node, used) == {
        **head,
        "kind": "NodeMetrics",
        "metadata": meta,
        "window": "4.000s",
        "usage": amounts,
    }
    pod = {"metadata": {"name": "p", "namespace": "ns"}}
    assert pod_metrics(pod, {"b": used, "a": used._replace(window_s=9.5)}) == {
        **head,
        "kind": "PodMetrics",
        "metadata": {"name": "p", "namespace": "ns", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "window": "9.500s",
        "containers": [{"name": "a", "usage": amounts}, {"name": "b", "usage": amounts}],
    }
