"""Node, Lease and CSINode: made, kept alive, and left to their operators."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from headrace.cluster.protocol import MergePatch
from headrace.errors import Unavailable
from headrace.node.heartbeat import Heartbeat
from headrace.spec.kind import Ref
from headrace.spec.kinds import CSI_NODE, LEASE, NODE

pytestmark = pytest.mark.anyio

NAME = Ref("", "own")
LEASE_NAME = Ref("kube-node-lease", "own")


@pytest.fixture
def anyio_backend(make_believe_time: tuple[str, dict[str, Any]]) -> tuple[str, dict[str, Any]]:
    return make_believe_time


class Driver:
    name = "fuse.headrace.io"


def heartbeat(bench: Any) -> Heartbeat:
    return Heartbeat(bench.config(), bench.cluster, {"fuse.headrace.io": Driver()}, bench.clock)  # type: ignore[dict-item]


def ready(node: Any) -> dict[str, Any]:
    found: dict[str, Any] = next(c for c in node.status["conditions"] if c["type"] == "Ready")
    return found


async def test_registration(bench: Any) -> None:
    beat = heartbeat(bench)
    await beat.beat()
    node = await bench.cluster.get(NODE, NAME)
    assert node.labels["kubernetes.io/hostname"] == "own"
    assert node.spec["podCIDR"] == "127.64.0.0/24"
    assert node.status["allocatable"] == {"cpu": "4", "memory": "8Gi", "pods": "110"}
    assert node.status["declaredFeatures"] == ["ExtendWebSocketsToKubelet"]
    assert node.status["daemonEndpoints"] == {"kubeletEndpoint": {"Port": 10250}}
    assert ready(node)["status"] == "False"
    csi = await bench.cluster.get(CSI_NODE, NAME)
    assert csi.spec["drivers"][0]["name"] == "fuse.headrace.io"
    lease = await bench.cluster.get(LEASE, LEASE_NAME)
    assert lease.spec["holderIdentity"] == "own"


async def test_readiness_is_written_at_once_and_leases_every_ten_seconds(bench: Any) -> None:
    beat = heartbeat(bench)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(beat.run)
        await bench.idle(1)
        beat.set_ready(True, "KubeletReady", "ok")
        await bench.idle(0.01)
        node = await bench.cluster.get(NODE, NAME)
        assert ready(node)["status"] == "True"
        since = ready(node)["lastTransitionTime"]
        writes, leases = bench.cluster.count("patch", NODE), bench.cluster.count("patch", LEASE)
        await bench.idle(100)
        assert bench.cluster.count("patch", NODE) == writes, "nothing changed, nothing is written"
        assert 9 <= bench.cluster.count("patch", LEASE) - leases <= 11
        await bench.idle(250)
        node = await bench.cluster.get(NODE, NAME)
        assert ready(node)["lastTransitionTime"] == since
        assert ready(node)["lastHeartbeatTime"] > since
        tasks.cancel_scope.cancel()


async def test_a_node_that_was_silent_says_anew_how_it_is(bench: Any) -> None:
    beat = heartbeat(bench)
    beat.set_ready(True, "KubeletReady", "ok")
    await beat.beat()
    unknown = {"status": {"conditions": [{"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown"}]}}
    await bench.cluster.patch(NODE, NAME, MergePatch(unknown), subresource="status")
    await beat.beat()
    assert ready(await bench.cluster.get(NODE, NAME))["status"] == "Unknown", "a beat in time writes no status"
    await anyio.sleep(41)
    await beat.beat()
    assert ready(await bench.cluster.get(NODE, NAME))["status"] == "True"


async def test_a_node_that_exists_keeps_its_cordon(bench: Any) -> None:
    await heartbeat(bench).beat()
    await bench.cluster.patch(NODE, NAME, MergePatch({"spec": {"unschedulable": True, "taints": [{"key": "x"}]}}))
    await heartbeat(bench).beat()
    node = await bench.cluster.get(NODE, NAME)
    assert node.spec["unschedulable"] is True
    assert node.spec["taints"] == [{"key": "x"}]


async def test_a_node_that_was_deleted_is_registered_again(bench: Any) -> None:
    beat = heartbeat(bench)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(beat.run)
        await bench.idle(1)
        await bench.cluster.delete(NODE, NAME)
        beat.set_ready(True, "KubeletReady", "ok")
        await bench.idle(5)
        assert ready(await bench.cluster.get(NODE, NAME))["status"] == "True"
        tasks.cancel_scope.cancel()


async def test_a_server_that_is_away_is_waited_for(bench: Any) -> None:
    beat = heartbeat(bench)
    bench.cluster.fail_next("create", Unavailable("away"), times=3)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(beat.run)
        await bench.idle(10)
        assert (await bench.cluster.get(NODE, NAME)).name == "own"
        tasks.cancel_scope.cancel()


async def test_the_agent_is_ready_only_while_its_world_answers(bench: Any) -> None:
    async def is_ready(value: str) -> None:
        await bench.until(
            lambda: (
                (n := bench.cluster._table(NODE).objects.get(NAME))
                and next(
                    c["status"]
                    for c in n["status"].get("conditions", [{"type": "Ready", "status": ""}])
                    if c["type"] == "Ready"
                )
                == value
            )
        )

    async with bench.running():
        await is_ready("True")
        bench.world.go_away()
        await is_ready("False")
        bench.world.come_back()
        await is_ready("True")
