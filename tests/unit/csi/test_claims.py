"""Which pod may have which PersistentVolume: pod, claim and volume bound to each other, and its own namespace's Dataset."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from headrace.cluster.fake import FakeCluster
from headrace.csi.claims import ClaimPermit, ClaimRequest, Use
from headrace.csi.permit import Terms
from headrace.errors import Denied, HeadraceError, NotFound, Unsupported
from headrace.spec.kind import Json, Ref
from headrace.spec.kinds import PERSISTENT_VOLUME, PERSISTENT_VOLUME_CLAIM, POD

pytestmark = pytest.mark.anyio

_ATTRIBUTES = {"dataset": "d", "namespace": "ns"}
_REQUEST = ClaimRequest(volume_id="handle", attributes=_ATTRIBUTES, pod="p", namespace="ns", uid="u1")
_OURS = Ref("ns", "d")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class World:
    """A pod, its claim and the volume, as they should be; a test changes something of it."""

    def __init__(self) -> None:
        meta = {"name": "p", "namespace": "ns", "uid": "u1"}
        mounts = [{"name": "v", "mountPath": "/data"}]
        volumes = [{"name": "e", "emptyDir": {}}, {"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]
        spec = {"nodeName": "n1", "containers": [{"name": "main", "volumeMounts": mounts}], "volumes": volumes}
        self.pod: Json = {"metadata": meta, "spec": spec, "status": {"phase": "Pending"}}
        claim = {"name": "c", "namespace": "ns", "uid": "c1"}
        self.claim: Json = {"metadata": claim, "spec": {"volumeName": "pv"}, "status": {"phase": "Bound"}}
        csi = {"driver": "fuse.headrace.io", "volumeHandle": "handle", "volumeAttributes": dict(_ATTRIBUTES)}
        self.volume: Json = {"metadata": {"name": "pv"}, "spec": {"csi": csi, "claimRef": dict(claim)}}
        self.terms = Terms()

    @property
    def csi(self) -> Json:
        found: Json = self.volume["spec"]["csi"]
        return found

    @property
    def mount(self) -> Json:
        found: Json = self.pod["spec"]["containers"][0]["volumeMounts"][0]
        return found

    @property
    def source(self) -> Json:
        found: Json = self.pod["spec"]["volumes"][1]["persistentVolumeClaim"]
        return found

    async def ask(self, **changes: Any) -> Use:
        cluster = FakeCluster()
        cluster.seed(POD, self.pod)
        cluster.seed(PERSISTENT_VOLUME_CLAIM, self.claim)
        cluster.seed(PERSISTENT_VOLUME, self.volume)

        async def terms_of(namespace: str, dataset: str) -> Terms:
            if dataset != "d":
                raise NotFound("none")
            assert namespace == "ns"
            return self.terms

        return await ClaimPermit(cluster, "n1", terms_of)(replace(_REQUEST, **changes))


async def test_a_pod_of_this_node_gets_the_dataset_of_its_claims_volume() -> None:
    assert await World().ask() == Use(dataset=_OURS, read_only=False)


def _second_reader(world: World) -> None:
    world.mount["readOnly"] = True
    world.pod["spec"]["initContainers"] = [{"name": "first", "volumeMounts": [{"name": "v", "mountPath": "/x"}]}]


@pytest.mark.parametrize(
    ("change", "read_only"),
    [
        (lambda world: world.mount.update(readOnly=True), True),
        (lambda world: world.source.update(readOnly=True), True),
        (lambda world: setattr(world, "terms", Terms(read_only=True)), True),
        (_second_reader, False),
        (lambda world: world.pod["spec"]["containers"][0].pop("volumeMounts"), False),
    ],
    ids=["every mount", "the pod's volume", "the Dataset", "one of two mounts", "mounted nowhere"],
)
async def test_where_nobody_writes_the_mount_itself_is_read_only(
    change: Callable[[World], Any], *, read_only: bool
) -> None:
    world = World()
    change(world)
    assert (await world.ask()).read_only is read_only


@pytest.mark.parametrize(
    ("change", "request_", "error", "says"),
    [
        (None, {"pod": "q"}, Denied, "no pod ns/q"),
        (None, {"uid": "u2"}, Denied, "its uid is u1, not u2"),
        (lambda w: w.pod["spec"].update(nodeName="n2"), {}, Denied, "bound to n2, and this is node n1"),
        (lambda w: w.pod["status"].update(phase="Failed"), {}, Denied, "has ended"),
        (None, {"volume_id": "other"}, Denied, "no claim that is bound to .* with the handle other"),
        (lambda w: w.source.update(claimName="none"), {}, Denied, "no claim that is bound"),
        (lambda w: w.claim["status"].update(phase="Pending"), {}, Denied, "no claim that is bound"),
        (lambda w: w.csi.update(driver="other"), {}, Denied, "no claim that is bound"),
        # A claim of the same name that was made anew, and a volume that is another claim's.
        (lambda w: w.volume["spec"]["claimRef"].update(uid="c0"), {}, Denied, "no claim that is bound"),
        (lambda w: w.volume["spec"]["claimRef"].update(namespace="other"), {}, Denied, "no claim that is bound"),
        (None, {"attributes": {**_ATTRIBUTES, "namespace": "victim"}}, Denied, "other volumeAttributes"),
        (
            lambda w: w.csi["volumeAttributes"].update(namespace="victim"),
            {"attributes": {**_ATTRIBUTES, "namespace": "victim"}},
            Denied,
            "is of Dataset victim/d, and pod ns/p is of namespace ns",
        ),
        (
            lambda w: w.csi.update(volumeAttributes={"profile": "juicefs"}),
            {"attributes": {"profile": "juicefs"}},
            Unsupported,
            "names no Dataset",
        ),
        (
            lambda w: w.csi["volumeAttributes"].update(dataset="gone"),
            {"attributes": {**_ATTRIBUTES, "dataset": "gone"}},
            NotFound,
            "Dataset ns/gone, which does not exist",
        ),
    ],
)
async def test_who_is_refused(
    change: Callable[[World], Any] | None, request_: dict[str, Any], error: type[HeadraceError], says: str
) -> None:
    world = World()
    if change is not None:
        change(world)
    with pytest.raises(error, match=says):
        await world.ask(**request_)
