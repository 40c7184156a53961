"""Which pod may have which inline volume: the kubelet's word, confirmed by the API, and its own namespace's Datasets."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from headrace.cluster.fake import FakeCluster
from headrace.csi.permit import InlineRequest, PodPermit, Terms
from headrace.errors import Denied, NotFound
from headrace.spec.kind import Json
from headrace.spec.kinds import POD

pytestmark = pytest.mark.anyio

_REQUEST = InlineRequest(pod="p", namespace="ns", uid="u1", dataset="d", role="data")
_NODE = "n1"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def _volume(driver: str = "fuse.headrace.io", **attributes: str) -> Json:
    return {"name": f"v-{len(attributes)}", "csi": {"driver": driver, "volumeAttributes": attributes}}


def _pod(*more: Json, node: str = _NODE, phase: str = "Pending") -> Json:
    volumes = [_volume(dataset="d", role="data"), _volume(dataset="d", role="socket"), *more]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "namespace": "ns", "uid": "u1"},
        "spec": {"nodeName": node, "volumes": [{"name": "e", "emptyDir": {}}, *volumes]},
        "status": {"phase": phase},
    }


def _permit(pod: Json | None) -> PodPermit:
    cluster = FakeCluster()
    if pod is not None:
        cluster.seed(POD, pod)

    async def terms_of(namespace: str, dataset: str) -> Terms:
        assert "/" not in dataset, "it would be a path of the API"
        if (namespace, dataset) != ("ns", "d"):
            raise NotFound("none")
        return Terms(read_only=True)

    return PodPermit(cluster, _NODE, terms_of)


@pytest.mark.parametrize("role", ["data", "socket"])
async def test_a_pod_of_this_node_gets_the_terms_of_its_dataset(role: str) -> None:
    assert await _permit(_pod())(replace(_REQUEST, role=role)) == Terms(read_only=True)


async def test_volumes_of_other_drivers_are_none_of_ours() -> None:
    other = _volume("other.example", anything="goes")
    assert await _permit(_pod(other))(_REQUEST) == Terms(read_only=True)


@pytest.mark.parametrize(
    ("pod", "changes", "says"),
    [
        (None, {}, r"no pod ns/p"),
        (_pod(), {"pod": "q"}, r"no pod ns/q"),
        (_pod(), {"namespace": "other"}, r"no pod other/p"),
        (_pod(), {"uid": "u2"}, r"its uid is u1, not u2"),
        (_pod(node="n2"), {}, r"bound to n2, and this is node n1"),
        (_pod(node=""), {}, r"bound to no node yet"),
        (_pod(phase="Succeeded"), {}, r"has ended"),
        (_pod(), {"dataset": "e"}, r"has no volume of fuse\.headrace\.io with dataset e"),
        (_pod(), {"role": "root"}, r"role root"),
        (_pod(_volume(dataset="d", role="data", mountOptions="suid,dev")), {}, r"also sets mountOptions"),
        (
            _pod(_volume(**{"dataset": "d", "role": "data", "csi.storage.k8s.io/pod.namespace": "victim"})),
            {},
            r"also sets csi\.storage\.k8s\.io/pod\.namespace",
        ),
    ],
)
async def test_who_is_refused(pod: Json | None, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(Denied, match=says):
        await _permit(pod)(replace(_REQUEST, **changes))


@pytest.mark.parametrize("dataset", ["e", "other/d", "../other/d"])
async def test_a_dataset_of_another_namespace_is_not_there(dataset: str) -> None:
    pod = _pod(_volume(dataset=dataset, role="data"))
    with pytest.raises(NotFound, match=f"Pod ns/p asks for Dataset {dataset}.*own namespace only"):
        await _permit(pod)(replace(_REQUEST, dataset=dataset))
