"""Pods of others: where they can come decides what they become. And nobody gets into a client's container."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import anyio
import pytest
import trio.testing

from headrace.admission.chain import admitters
from headrace.admission.injector import PodInjector
from headrace.cluster.cache import Cache
from headrace.cluster.fake import FakeCluster
from headrace.cluster.protocol import MergePatch
from headrace.data.client import ClientTools
from headrace.data.modes.mode import Capabilities
from headrace.data.resolve import Resolver
from headrace.data.runtime.observe import DatasetObserver
from headrace.data.wrapper.objects import dataset_body, dataset_ref, runtime_body
from headrace.engine.pipeline.request import AdmissionRequest, Admitter, User
from headrace.errors import Denied
from headrace.spec.kind import Doc, Json, Kind
from headrace.spec.kinds import (
    DATASET,
    NODE,
    PERSISTENT_VOLUME,
    PERSISTENT_VOLUME_CLAIM,
    POD,
    POOL,
    THIN_RUNTIME,
    THIN_RUNTIME_PROFILE,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


def obj(kind: Kind[Any], name: str, **fields: Any) -> Json:
    meta = {"name": name, "uid": f"{kind.singular}-{name}", **fields.pop("metadata", {})}
    if kind.namespaced:
        meta["namespace"] = "vision"
    return {"apiVersion": kind.api_version, "kind": kind.name, "metadata": meta, **fields}


def node(name: str, labels: dict[str, str], *taints: str, cpu: int = 0, **spec: Any) -> Json:
    spec["taints"] = [{"key": taint, "effect": "NoSchedule"} for taint in taints]
    ready = {"conditions": [{"type": "Ready", "status": "True"}], "allocatable": {"cpu": cpu, "pods": 9}}
    return obj(NODE, name, metadata={"labels": labels}, spec=spec, status=ready)


def pool(name: str, mode: str, selector: dict[str, str] | None = None) -> Json:
    nodes = {"selector": selector} if selector else {}
    return obj(POOL, name, spec={"kind": "own", "dataAccess": {"mode": mode}, "nodes": nodes})


class World:
    """One labelled claim that is ready, one ordinary claim, and whatever pools and nodes a test has."""

    def __init__(self) -> None:
        self.cluster = FakeCluster()
        self.cache = Cache(self.cluster)
        self.observer = DatasetObserver(self.cache)
        resolver = Resolver(self.cache, self.observer)
        capabilities = Capabilities(tools=ClientTools(served=("served",)))
        self.injector = PodInjector(self.cache, resolver, lambda _pool: capabilities, {"system:headrace"})
        self.chain: Sequence[Admitter] = admitters(
            self.cache, self.observer, resolver, capabilities_of=lambda _pool: capabilities, trusted={"system:headrace"}
        )
        claim = obj(
            PERSISTENT_VOLUME_CLAIM,
            "starfs",
            metadata={"labels": {"fluid.io/runtime-profile": "juicefs"}},
            spec={"volumeName": "pv", "accessModes": ["ReadWriteMany"]},
            status={"phase": "Bound"},
        )
        csi = {"driver": "csi.starfs.io", "volumeHandle": "v"}
        self.cluster.seed(PERSISTENT_VOLUME_CLAIM, claim, obj(PERSISTENT_VOLUME_CLAIM, "plain", spec={}))
        self.cluster.seed(PERSISTENT_VOLUME, obj(PERSISTENT_VOLUME, "pv", spec={"csi": csi}))
        profile = {"fileSystemType": "starfs", "fuse": {"image": "starfs:1"}}
        self.cluster.seed(THIN_RUNTIME_PROFILE, obj(THIN_RUNTIME_PROFILE, "juicefs", spec=profile))
        doc = Doc(PERSISTENT_VOLUME_CLAIM, claim)
        verified = {"phase": "Bound", "pools": [{"pool": "cloud", "verified": "True"}]}
        self.cluster.seed(DATASET, {**dataset_body(doc), "status": verified})
        self.cluster.seed(THIN_RUNTIME, runtime_body(doc, "juicefs"))

    def put(self, *objects: Json) -> None:
        kinds: dict[str, Kind[Any]] = {"Node": NODE, "Pool": POOL, "Pod": POD, "Dataset": DATASET}
        for raw in objects:
            self.cluster.seed(kinds[raw["kind"]], raw)

    async def synced(self) -> None:
        await anyio.sleep(1)

    async def admit(self, pod: Json, user: str = "ann") -> Json | None:
        return (await self.answer(pod, user))[0]

    async def answer(self, pod: Json, user: str = "ann") -> tuple[Json | None, list[str]]:
        """Return what becomes of a pod, and the warnings."""
        await self.synced()
        request = AdmissionRequest(
            user=User(user), operation="CREATE", kind=POD, namespace="vision", name=pod["metadata"]["name"], object=pod
        )
        return await self.injector.admit(request), request.warnings


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    world.put(pool("own", "native"), pool("cloud", "broker"))
    world.put(node("own-1", {"node-restriction.kubernetes.io/headrace-pool": "own"}))
    world.put(node("cloud-1", {"node-restriction.kubernetes.io/headrace-pool": "cloud"}))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(world.cache.run)
        yield world
        tasks.cancel_scope.cancel()


def pod(claim: str = "starfs", labels: dict[str, str] | None = None, **spec: Any) -> Json:
    mounts = [{"name": "d", "mountPath": "/data", "readOnly": True}]
    return obj(
        POD,
        "train",
        metadata={"labels": labels or {}},
        spec={
            "containers": [{"name": "main", "image": "x", "volumeMounts": mounts}],
            "volumes": [{"name": "d", "persistentVolumeClaim": {"claimName": claim}}],
            **spec,
        },
    )


INJECT = {"serverless.fluid.io/inject": "true"}


def is_injected(result: Json | None) -> bool:
    return result is not None and bool(result["spec"].get("initContainers"))


def requirement(result: Json | None) -> list[Json]:
    assert result is not None
    required = result["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    expressions: list[Json] = required["nodeSelectorTerms"][0]["matchExpressions"]
    return expressions


async def test_a_pod_that_could_land_anywhere_stays_native_and_is_pinned(world: World) -> None:
    result = await world.admit(pod())
    assert not is_injected(result)
    assert requirement(result) == [
        {"key": "node-restriction.kubernetes.io/headrace-pool", "operator": "NotIn", "values": ["cloud"]}
    ]


@pytest.mark.parametrize(
    "spec",
    [
        {"nodeName": "cloud-1"},
        {"nodeSelector": {"node-restriction.kubernetes.io/headrace-pool": "cloud"}},
        {
            "affinity": {
                "nodeAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": {
                        "nodeSelectorTerms": [
                            {
                                "matchExpressions": [
                                    {
                                        "key": "node-restriction.kubernetes.io/headrace-pool",
                                        "operator": "In",
                                        "values": ["cloud"],
                                    }
                                ]
                            }
                        ]
                    }
                }
            }
        },
    ],
)
async def test_a_pod_that_can_only_come_to_the_cloud_is_injected(world: World, spec: Json) -> None:
    result = await world.admit(pod(**spec))
    assert is_injected(result)
    assert result is not None
    assert result["spec"].get("affinity") == spec.get("affinity")


@pytest.mark.parametrize(
    "spec", [{"nodeName": "own-1"}, {"nodeSelector": {"node-restriction.kubernetes.io/headrace-pool": "own"}}]
)
async def test_a_pod_that_can_only_come_to_its_own_nodes_is_left_alone(world: World, spec: Json) -> None:
    assert await world.admit(pod(**spec)) is None


async def test_a_taint_keeps_pods_from_the_cloud(world: World) -> None:
    world.put(node("cloud-1", {"node-restriction.kubernetes.io/headrace-pool": "cloud"}, "virtual-kubelet.io/provider"))
    assert await world.admit(pod()) is None
    tolerant = pod(tolerations=[{"key": "virtual-kubelet.io/provider", "operator": "Exists"}])
    assert requirement(await world.admit(tolerant))


async def test_what_was_found_out_for_one_pod_is_found_out_anew_when_something_changed(world: World) -> None:
    cloudy = pod(nodeSelector={"node-restriction.kubernetes.io/headrace-pool": "cloud"})
    first = await world.admit(cloudy)
    world.cluster.seed(
        THIN_RUNTIME_PROFILE,
        obj(THIN_RUNTIME_PROFILE, "juicefs", spec={"fileSystemType": "starfs", "fuse": {"image": "starfs:2"}}),
    )
    second = await world.admit(cloudy)
    assert first is not None
    assert second is not None
    assert [each["spec"]["initContainers"][0]["image"] for each in (first, second)] == ["starfs:1", "starfs:2"]
    assert requirement(await world.admit(pod()))
    world.put(pool("cloud", "native"))
    assert await world.admit(pod()) is None


async def test_a_node_that_is_not_ready_now_is_still_a_place_to_come_to(world: World) -> None:
    world.put(node("own-1", {"node-restriction.kubernetes.io/headrace-pool": "own"}, "node.kubernetes.io/not-ready"))
    assert not is_injected(await world.admit(pod()))


async def test_fluids_label_sends_a_pod_to_the_cloud(world: World) -> None:
    result = await world.admit(pod(labels=INJECT))
    assert is_injected(result)
    assert requirement(result) == [
        {"key": "node-restriction.kubernetes.io/headrace-pool", "operator": "In", "values": ["cloud"]}
    ]


async def test_fluids_label_works_before_the_first_cloud_node(world: World) -> None:
    await world.cluster.delete(NODE, Doc(NODE, node("cloud-1", {})).ref)
    assert is_injected(await world.admit(pod(labels=INJECT)))
    assert is_injected(await world.admit(pod(nodeSelector={"node-restriction.kubernetes.io/headrace-pool": "cloud"})))


async def test_two_clouds_of_one_mode_are_one_question_and_of_two_are_two(world: World) -> None:
    world.put(pool("other", "broker"), node("other-1", {"node-restriction.kubernetes.io/headrace-pool": "other"}))
    result = await world.admit(pod(labels=INJECT))
    assert requirement(result)[0]["values"] == ["cloud", "other"]
    world.put(pool("other", "materialise"))
    with pytest.raises(Denied, match="different ways") as refusal:
        await world.admit(pod(labels=INJECT))
    assert "nodeSelector" in refusal.value.hint


async def test_the_label_and_a_selection_that_contradict_each_other(world: World) -> None:
    with pytest.raises(Denied, match="leads to no pool"):
        await world.admit(pod(labels=INJECT, nodeSelector={"node-restriction.kubernetes.io/headrace-pool": "own"}))


async def test_a_pool_told_by_another_label(world: World) -> None:
    selector = {"kubernetes.io/os": "linux", "type": "virtual-kubelet"}
    world.put(
        pool("cloud", "broker", selector), node("cloud-1", selector), node("own-1", {"kubernetes.io/os": "linux"})
    )
    assert requirement(await world.admit(pod())) == [
        {"key": "type", "operator": "NotIn", "values": ["virtual-kubelet"]}
    ]


@pytest.mark.parametrize(
    ("case", "user"),
    [
        (pod("plain", nodeSelector={"node-restriction.kubernetes.io/headrace-pool": "cloud"}), "ann"),
        (pod("nothing", nodeSelector={"node-restriction.kubernetes.io/headrace-pool": "cloud"}), "ann"),
        (pod(labels={"fluid.io/enable-injection": "false"}), "ann"),
        (pod(nodeSelector={"node-restriction.kubernetes.io/headrace-pool": "cloud"}), "system:headrace"),
    ],
)
async def test_who_is_left_alone(world: World, case: Json, user: str) -> None:
    assert await world.admit(case, user) is None


async def test_a_dataset_that_is_not_ready_refuses_the_pod_with_its_reason(world: World) -> None:
    await world.cluster.delete(
        THIN_RUNTIME_PROFILE, Doc(THIN_RUNTIME_PROFILE, obj(THIN_RUNTIME_PROFILE, "juicefs")).ref
    )
    with pytest.raises(Denied, match="There is no profile juicefs"):
        await world.admit(pod(nodeSelector={"node-restriction.kubernetes.io/headrace-pool": "cloud"}))
    assert not is_injected(await world.admit(pod()))


async def test_an_injected_pod_is_admitted_again_unchanged(world: World) -> None:
    once = await world.admit(pod(labels=INJECT))
    assert once is not None
    twice = await world.admit(once)
    assert twice is None


# -- a pod that says it may go to the cloud too ------------------------------------------------------------------------

TAINT = "virtual-kubelet.io/provider"
TOLERANT = {"tolerations": [{"key": TAINT, "operator": "Exists"}]}
CHOICE = "headrace.io/pool-choice"


def wanting(cpu: int, claim: str = "starfs", **spec: Any) -> Json:
    made = pod(claim, **{**TOLERANT, **spec})
    made["spec"]["containers"][0]["resources"] = {"requests": {"cpu": cpu}}
    return made


def peak(world: World, own_cpu: int = 4, **own: Any) -> None:
    """Own node and cloud node with room, the cloud's with a taint of its own."""
    world.put(node("own-1", {"node-restriction.kubernetes.io/headrace-pool": "own"}, cpu=own_cpu, **own))
    world.put(node("cloud-1", {"node-restriction.kubernetes.io/headrace-pool": "cloud"}, TAINT, cpu=64))


async def test_a_pod_that_tolerates_the_clouds_taint_stays_at_home_while_there_is_room(world: World) -> None:
    peak(world)
    result, warnings = await world.answer(wanting(4))
    assert not is_injected(result)
    assert requirement(result) == [
        {"key": "node-restriction.kubernetes.io/headrace-pool", "operator": "NotIn", "values": ["cloud"]}
    ]
    assert result is not None
    assert result["metadata"]["annotations"][CHOICE].startswith("Stays on nodes with the claim's driver: own-1 has")
    assert warnings == []
    assert await world.admit(result) is None


@pytest.mark.parametrize("own", [{"own_cpu": 3}, {"unschedulable": True}])
async def test_it_goes_to_the_cloud_with_its_client_when_there_is_none(world: World, own: dict[str, Any]) -> None:
    peak(world, **own)
    result, warnings = await world.answer(wanting(4))
    assert is_injected(result)
    assert result is not None
    assert requirement(result) == [
        {"key": "node-restriction.kubernetes.io/headrace-pool", "operator": "In", "values": ["cloud"]}
    ]
    assert [f"Pod train: {result['metadata']['annotations'][CHOICE]}"] == warnings
    assert "Goes to pool cloud: no node" in warnings[0]
    assert await world.admit(result) is None


async def test_pods_on_their_way_take_room_too(world: World) -> None:
    """Two pods in one moment: the second is not sent after the first into the same hole."""
    peak(world)
    world.put({**wanting(2), "metadata": {"name": "first", "namespace": "vision", "uid": "1"}})
    assert not is_injected(await world.admit(wanting(2)))
    assert is_injected(await world.admit(wanting(3)))
    bound = {**wanting(4), "metadata": {"name": "first", "namespace": "vision", "uid": "1"}}
    bound["spec"]["nodeName"] = "own-1"
    world.put(bound)
    assert is_injected(await world.admit(wanting(1)))


@pytest.mark.parametrize(
    "tolerations",
    [
        [{"operator": "Exists"}],
        [{"key": "own/gpu", "operator": "Exists"}, {"operator": "Exists", "effect": "NoSchedule"}],
    ],
)
async def test_who_tolerates_everything_has_not_asked_for_the_cloud(world: World, tolerations: list[Json]) -> None:
    world.put(node("own-1", {"node-restriction.kubernetes.io/headrace-pool": "own"}, "own/gpu", cpu=0))
    world.put(node("cloud-1", {"node-restriction.kubernetes.io/headrace-pool": "cloud"}, TAINT, "own/gpu", cpu=64))
    assert not is_injected(await world.admit(wanting(4, tolerations=tolerations)))
    assert is_injected(await world.admit(wanting(4, tolerations=[*tolerations, *TOLERANT["tolerations"]])))


async def test_data_that_cannot_go_there_keeps_it_at_home_and_says_why(world: World) -> None:
    peak(world, own_cpu=4, unschedulable=True)
    claim = Doc(PERSISTENT_VOLUME_CLAIM, obj(PERSISTENT_VOLUME_CLAIM, "starfs"))
    failed = {"phase": "Bound", "pools": [{"pool": "cloud", "verified": "False", "message": "no such host"}]}
    await world.cluster.patch(DATASET, dataset_ref(claim.ref), MergePatch({"status": failed}), subresource="status")
    result, [warning] = await world.answer(wanting(4))
    assert not is_injected(result)
    assert "it cannot go to pool cloud: Claim vision/starfs could not be mounted in pool cloud: no such host" in warning
    assert "delete the pod and make it anew" in warning


async def test_a_claim_that_is_not_shared_keeps_the_whole_pod_at_home(world: World) -> None:
    peak(world, unschedulable=True)
    both = wanting(4)
    both["spec"]["volumes"].append({"name": "e", "persistentVolumeClaim": {"claimName": "plain"}})
    result, [warning] = await world.answer(both)
    assert not is_injected(result)
    assert "Claim vision/plain has no label" in warning


async def test_where_a_claim_may_go_holds_for_pods_of_others_too(world: World) -> None:
    claim = obj(PERSISTENT_VOLUME_CLAIM, "starfs")
    only = MergePatch({"metadata": {"annotations": {"headrace.io/pools": "own, other"}}})
    await world.cluster.patch(PERSISTENT_VOLUME_CLAIM, Doc(PERSISTENT_VOLUME_CLAIM, claim).ref, only)
    with pytest.raises(Denied, match="can only come to cloud, and claim starfs may only go to these pools: other, own"):
        await world.admit(pod(nodeSelector={"node-restriction.kubernetes.io/headrace-pool": "cloud"}))
    world.put(pool("other", "broker"), node("other-1", {"node-restriction.kubernetes.io/headrace-pool": "other"}))
    assert requirement(await world.admit(pod(labels=INJECT)))[0]["values"] == ["other"]
    peak(world, unschedulable=True)
    assert not is_injected(await world.admit(wanting(4)))


# -- the other admitters ---------------------------------------------------------------------------------------------


async def through(world: World, **request: Any) -> AdmissionRequest:
    await world.synced()
    full = {"user": User("ann"), "kind": POD, "namespace": "vision", "name": "train", **request}
    review = AdmissionRequest(**full)
    for admitter in world.chain:
        await admitter.admit(review)
    return review


async def test_nobody_gets_into_a_pod_that_is_nothing_but_a_client(world: World) -> None:
    for subresource, operation in (("exec", "CONNECT"), ("attach", "CONNECT"), ("ephemeralcontainers", "UPDATE")):
        with pytest.raises(Denied, match="kubectl logs fluid-fuse-set-abc"):
            await through(world, operation=operation, subresource=subresource, name="fluid-fuse-set-abc", object={})


@pytest.mark.parametrize("container", ["fluid-fuse-0", "fluid-materialise-1"])
async def test_nobody_gets_into_a_clients_container(world: World, container: str) -> None:
    for subresource in ("exec", "attach"):
        connect = {"operation": "CONNECT", "subresource": subresource, "options": {"container": container}}
        with pytest.raises(Denied, match="storage's secret"):
            await through(world, **connect)
        await through(world, **connect, user=User("system:headrace"))
    debug = {"spec": {"ephemeralContainers": [{"name": "d", "targetContainerName": container}]}}
    with pytest.raises(Denied, match=container):
        await through(world, operation="UPDATE", subresource="ephemeralcontainers", object=debug, old={})


async def test_the_apps_containers_are_open(world: World) -> None:
    await through(world, operation="CONNECT", subresource="exec", options={"container": "main"})
    await through(world, operation="CONNECT", subresource="exec", options={})
    await through(world, operation="CONNECT", subresource="log", options={"container": "fluid-fuse-0"})


async def test_deleting_what_is_in_use_warns_of_whom_it_hits(world: World) -> None:
    name = dataset_body(Doc(PERSISTENT_VOLUME_CLAIM, obj(PERSISTENT_VOLUME_CLAIM, "starfs")))["metadata"]["name"]
    csi = {"driver": "fuse.headrace.io", "volumeAttributes": {"dataset": name}}
    world.put(
        obj(POD, "busy", spec={"containers": [], "volumes": [{"name": "d", "csi": csi}]}, status={"phase": "Running"})
    )
    review = await through(world, operation="DELETE", kind=DATASET, name=name)
    assert "busy" in review.warnings[0]
    review = await through(world, operation="DELETE", kind=THIN_RUNTIME_PROFILE, namespace="", name="juicefs")
    assert name in review.warnings[0]
    review = await through(world, operation="DELETE", kind=DATASET, name="other")
    assert review.warnings == []
