"""What a node tells of its usage, in a kubelet's two forms."""

import httpx2
import pytest

from headrace.clock import SystemClock
from headrace.errors import HeadraceError, Unavailable
from headrace.node import server
from headrace.node.usage import (
    ContainerUsage,
    Figures,
    KnownPod,
    NodeUsage,
    PodUsage,
    metrics,
    pods_of,
    summary,
)
from headrace.node.world import WorldRefused

AT_NS = 1_767_225_600_000_000_000  # 2026-01-01T00:00:00Z
APP = ContainerUsage("app", AT_NS - 60 * 10**9, Figures(1_500_000_000, 64 << 20), 256 << 20)
SIDE = ContainerUsage("side", AT_NS - 30 * 10**9, Figures(1, 1 << 20), 0)
POD = PodUsage("ns", "p", "uid-p", AT_NS - 61 * 10**9, Figures(2_000_000_000, 80 << 20), (APP, SIDE))
NODE = NodeUsage(
    name="own",
    at_ns=AT_NS,
    started_ns=AT_NS - 3600 * 10**9,
    allocatable_bytes=1 << 30,
    used=Figures(9_000_000_000, 200 << 20),
    agent=Figures(4_000_000_000, 90 << 20),
    agent_started_ns=AT_NS - 600 * 10**9,
    pods=(POD,),
)


def test_the_summary_has_what_is_known_and_nothing_else() -> None:
    time = "2026-01-01T00:00:00Z"
    assert summary(NODE) == {
        "node": {
            "nodeName": "own",
            "startTime": "2025-12-31T23:00:00Z",
            "cpu": {"time": time, "usageCoreNanoSeconds": 9_000_000_000},
            "memory": {"time": time, "workingSetBytes": 200 << 20, "availableBytes": 824 << 20},
            "systemContainers": [
                {
                    "name": "kubelet",
                    "startTime": "2025-12-31T23:50:00Z",
                    "cpu": {"time": time, "usageCoreNanoSeconds": 4_000_000_000},
                    "memory": {"time": time, "workingSetBytes": 90 << 20},
                }
            ],
        },
        "pods": [
            {
                "podRef": {"name": "p", "namespace": "ns", "uid": "uid-p"},
                "startTime": "2025-12-31T23:58:59Z",
                "cpu": {"time": time, "usageCoreNanoSeconds": 2_000_000_000},
                "memory": {"time": time, "workingSetBytes": 80 << 20},
                "containers": [
                    {
                        "name": "app",
                        "startTime": "2025-12-31T23:59:00Z",
                        "cpu": {"time": time, "usageCoreNanoSeconds": 1_500_000_000},
                        "memory": {"time": time, "workingSetBytes": 64 << 20, "availableBytes": 192 << 20},
                    },
                    {
                        "name": "side",
                        "startTime": "2025-12-31T23:59:30Z",
                        "cpu": {"time": time, "usageCoreNanoSeconds": 1},
                        "memory": {"time": time, "workingSetBytes": 1 << 20},
                    },
                ],
            }
        ],
    }


def test_metrics_are_a_kubelets() -> None:
    lines = metrics(NODE).decode().splitlines()
    samples = [line for line in lines if not line.startswith("#")]
    at = "1767225600000"
    assert samples == [
        f"node_cpu_usage_seconds_total 9.0 {at}",
        f"node_memory_working_set_bytes 2.097152e+08 {at}",
        f'pod_cpu_usage_seconds_total{{namespace="ns",pod="p"}} 2.0 {at}',
        f'pod_memory_working_set_bytes{{namespace="ns",pod="p"}} 8.388608e+07 {at}',
        f'container_cpu_usage_seconds_total{{container="app",namespace="ns",pod="p"}} 1.5 {at}',
        f'container_cpu_usage_seconds_total{{container="side",namespace="ns",pod="p"}} 1e-09 {at}',
        f'container_memory_working_set_bytes{{container="app",namespace="ns",pod="p"}} 6.7108864e+07 {at}',
        f'container_memory_working_set_bytes{{container="side",namespace="ns",pod="p"}} 1.048576e+06 {at}',
        'container_start_time_seconds{container="app",namespace="ns",pod="p"} 1.76722554e+09',
        'container_start_time_seconds{container="side",namespace="ns",pod="p"} 1.76722557e+09',
        "resource_scrape_error 0.0",
    ]
    assert "# TYPE container_cpu_usage_seconds_total counter" in lines
    assert "# TYPE pod_memory_working_set_bytes gauge" in lines


def test_a_node_that_cannot_be_measured_says_so() -> None:
    assert [line for line in metrics(None).decode().splitlines() if line[0] != "#"] == ["resource_scrape_error 1.0"]


def test_the_worlds_answer_gets_names() -> None:
    told = {"container": "app", "attempt": 3, "started_wall_ns": 7, "cpu_ns": 5, "memory_bytes": 6}
    answer = {
        "pods": [
            {"pod": "uid-b", "cpu_ns": 1, "memory_bytes": 2, "containers": []},
            {"pod": "uid-gone", "cpu_ns": 1, "memory_bytes": 2, "containers": [told]},
            {"pod": "uid-a", "cpu_ns": 8, "memory_bytes": 9, "containers": [told]},
        ]
    }
    known = {"uid-b": KnownPod("ns", "b", 4, {}), "uid-a": KnownPod("ns", "a", 3, {"app": 11, "other": 12})}
    assert pods_of(answer, known) == (
        PodUsage("ns", "a", "uid-a", 3, Figures(8, 9), (ContainerUsage("app", 7, Figures(5, 6), 11),)),
        PodUsage("ns", "b", "uid-b", 4, Figures(1, 2), ()),
    )


class Unmeasured:
    """A node that cannot be measured, as the endpoint sees it."""

    def __init__(self, why: HeadraceError) -> None:
        self._why = why

    async def usage(self) -> NodeUsage:
        raise self._why

    def ports(self) -> None: ...


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("why", "expected"),
    [(Unavailable("The world does not answer."), 503), (WorldRefused("there is no op usage", code="Invalid"), 409)],
    ids=["world lost", "world of an earlier version"],
)
async def test_a_scraper_is_told_that_nothing_is_known(why: HeadraceError, expected: int) -> None:
    transport = httpx2.ASGITransport(server.app(Unmeasured(why), SystemClock()))  # type: ignore[arg-type]
    async with httpx2.AsyncClient(transport=transport, base_url="http://node") as client:
        resource, stats = await client.get("/metrics/resource"), await client.get("/stats/summary")
    assert (resource.status_code, resource.text.splitlines()[-1]) == (200, "resource_scrape_error 1.0")
    assert (stats.status_code, stats.text) == (expected, str(why))
