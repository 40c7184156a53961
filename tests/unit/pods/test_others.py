"""Of a pod of somebody else's only what is counted is kept; of ours, and of those with no node yet, everything."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest

from headrace.cluster.cache import Cache
from headrace.cluster.fake import FakeCluster
from headrace.cluster.indexer import Indexer
from headrace.cluster.protocol import ALL, Change
from headrace.cluster.remote import RemoteCluster
from headrace.pods.others import read_pod
from headrace.pools.capacity import usage
from headrace.pools.occupancy import BoundPods
from headrace.spec.kind import Doc, Json, Ref
from headrace.spec.kinds import POD
from headrace.spec.resources import pod_requests

CONTAINER = {
    "name": "main",
    "image": "registry.test/app:1",
    "env": [{"name": "A", "value": "b"}],
    "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "1Gi"}},
}
SIDECAR = {**CONTAINER, "name": "beside", "restartPolicy": "Always"}
VOLUMES = [
    {"name": "data", "persistentVolumeClaim": {"claimName": "digits"}},
    {"name": "scratch", "emptyDir": {}},
    {"name": "ds", "csi": {"driver": "fuse.headrace.io", "volumeAttributes": {"dataset": "d"}}},
]


def pod(name: str = "p", *, node: str = "n1", version: str = "1", phase: str = "Running", **meta: Any) -> Json:
    spec: Json = {"containers": [CONTAINER], "initContainers": [SIDECAR], "volumes": VOLUMES, "overhead": {"cpu": "1m"}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "else", "uid": name, "resourceVersion": version, **meta},
        "spec": {**spec, "nodeName": node} if node else spec,
        "status": {"phase": phase, "podIP": "10.0.0.1", "containerStatuses": [{"name": "main", "ready": True}]},
    }


def read(body: Json) -> Json:
    return read_pod(json.dumps(body).encode())


def test_what_is_counted_is_kept_and_nothing_else() -> None:
    kept = read(pod(labels={"app": "web"}, annotations={"a": "b"}, managedFields=[{"manager": "m"}]))
    assert kept["metadata"] == {"name": "p", "namespace": "else", "uid": "p", "resourceVersion": "1"}
    assert kept["status"] == {"phase": "Running"}
    assert kept["spec"]["nodeName"] == "n1"
    assert "env" not in json.dumps(kept)
    assert "image" not in json.dumps(kept)
    assert pod_requests(kept) == pod_requests(pod())
    assert [volume for volume in kept["spec"]["volumes"] if "emptyDir" in volume] == []
    assert kept["spec"]["volumes"][0]["persistentVolumeClaim"] == {"claimName": "digits"}
    assert kept["spec"]["volumes"][1]["csi"]["volumeAttributes"] == {"dataset": "d"}
    assert read(pod(deletionTimestamp="2026-01-01T00:00:00Z"))["metadata"]["deletionTimestamp"]


@pytest.mark.parametrize(
    "body",
    [
        pod(node=""),
        pod(labels={"headrace.io/job": "digits"}),
        pod(finalizers=["headrace.io/metered"]),
        pod(labels={"done.sidecar.fluid.io/inject": "true"}),
        {"metadata": {"resourceVersion": "7"}},
        {**pod(node=""), "spec": {"containers": [{"name": "a", "resources": None}], "volumes": None}},
    ],
)
def test_our_pods_those_without_a_node_and_bookmarks_are_read_whole(body: Json) -> None:
    assert read(body) == body


def test_nothing_is_told_of_a_change_in_what_is_not_kept() -> None:
    indexer, told = Indexer(POD, ALL, FakeCluster().clock), list[str]()
    indexer.subscribe(lambda _old, new: told.append(new.status["phase"] if new else "gone"))
    changed = pod(version="3")
    changed["status"] |= {"podIP": "10.0.0.2"}
    steps = (pod(phase="Pending"), pod(version="2"), changed, pod(version="4", phase="Succeeded"))
    for body in steps:
        indexer.apply(Change("MODIFIED", Doc(POD, read(body))))
    assert told == ["Pending", "Running", "Succeeded"]
    assert indexer.version == "4"
    indexer.apply(Change("DELETED", Doc(POD, read(pod(version="5", phase="Succeeded")))))
    assert told[-1] == "gone"
    assert indexer.list() == []


@pytest.mark.anyio
async def test_lists_are_read_as_a_process_wants_them() -> None:
    answer = {"metadata": {"resourceVersion": "9"}, "items": [pod("a"), pod("b"), pod("ours", node="")]}
    transport = httpx2.MockTransport(lambda _request: httpx2.Response(200, json=answer))
    client = httpx2.AsyncClient(base_url="https://cluster.test", transport=transport)
    async with RemoteCluster(client, readings={POD: read_pod}) as cluster:
        page = await cluster.list(POD)
    first, second, ours = (doc.raw for doc in page.items)
    assert first["spec"] is second["spec"]
    assert ours == pod("ours", node="")


@pytest.mark.anyio
async def test_what_nodes_are_used_for_is_kept_as_pods_come_change_and_go() -> None:
    cache = Cache(FakeCluster())
    bound = BoundPods(cache)
    indexer: Any = cache._indexers[POD]
    steps = [
        pod("a"),
        pod("b", node="n2"),
        pod("c", node=""),
        pod("c", node="n1", version="2"),
        pod("a", phase="Succeeded", version="3"),
        pod("b", node="n2", version="4", phase="Failed"),
    ]
    for body in steps:
        indexer.apply(Change("MODIFIED", Doc(POD, read(body))))
        assert dict(bound.used) == usage(indexer.list())
    indexer.apply(Change("DELETED", Doc(POD, read(pod("c", version="9")))))
    assert dict(bound.used) == {}
    assert indexer.get(Ref("else", "c")) is None
