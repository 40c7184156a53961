"""The controllers together, on a fake cluster: from a label to a verified mount, and back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
import trio.testing

from headrace.cluster.cache import Cache
from headrace.cluster.controller import Group
from headrace.cluster.events import Recorder
from headrace.cluster.fake import FakeCluster
from headrace.cluster.protocol import MergePatch
from headrace.data.act import Patch, Plan, perform
from headrace.data.client import ClientTools
from headrace.data.modes.mode import Capabilities
from headrace.data.operations.reconciler import operation_controllers
from headrace.data.resolve import Resolver
from headrace.data.runtime.observe import DatasetObserver
from headrace.data.runtime.reconciler import runtime_controller
from headrace.data.verify.pod import ProbeSettings
from headrace.data.verify.reconciler import Verifier
from headrace.data.verify.turn import POLL_S
from headrace.data.wrapper.objects import dataset_name, dataset_ref
from headrace.data.wrapper.reconciler import wrapper_controller
from headrace.errors import Conflict, InvalidSpec, NotFound, Unavailable
from headrace.spec.conditions import find_condition
from headrace.spec.kind import Doc, Json, Kind, Ref
from headrace.spec.kinds import (
    CONFIG_MAP,
    DATA_LOAD,
    DATASET,
    EVENT,
    PERSISTENT_VOLUME,
    PERSISTENT_VOLUME_CLAIM,
    POD,
    SECRET,
    THIN_RUNTIME,
)

pytestmark = pytest.mark.anyio

CLAIM = Ref("vision", "starfs")


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


class World:
    """A fake cluster with all controllers of this package on it."""

    def __init__(self, make: Any) -> None:
        self.cluster = FakeCluster()
        self.cache = Cache(self.cluster, clock=self.cluster.clock)
        self.observer = DatasetObserver(self.cache)
        self.resolver = Resolver(self.cache, self.observer)
        tell = Recorder(self.cluster, "headrace-data", clock=self.cluster.clock).event
        verifier = Verifier(
            self.cluster,
            self.cache,
            self.observer,
            tell,
            self.cluster.clock,
            capabilities_of=lambda _pool: Capabilities(tools=ClientTools(served=("served",))),
        )
        arguments = (self.cluster, self.cache)
        self.controllers = [
            wrapper_controller(*arguments, tell, self.cluster.clock),
            runtime_controller(*arguments, self.observer, tell, self.cluster.clock, further=verifier.begin),
            verifier.controller(),
            *operation_controllers(*arguments, tell, self.cluster.clock),
        ]
        self.make = make

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with Group(self.cache, self.controllers):
            await self.settle()
            yield

    @staticmethod
    async def settle() -> None:
        """Let everything that can happen now happen; the clock of the tasks jumps, nobody waits."""
        await anyio.sleep(2)

    def put(self, *docs: Doc[Any]) -> None:
        for doc in docs:
            self.cluster.seed(doc.kind, doc.raw)

    async def get(self, kind: Kind[Any], ref: Ref) -> Doc[Any] | None:
        try:
            return await self.cluster.get(kind, ref)
        except NotFound:
            return None

    async def condition(self, kind: Kind[Any], ref: Ref, type: str) -> Json:
        doc = await self.cluster.get(kind, ref)
        found = find_condition(doc, type)
        assert found is not None, doc.status
        return found

    async def label(self, profile: str | None) -> None:
        labels = {"metadata": {"labels": {"fluid.io/runtime-profile": profile}}}
        await self.cluster.patch(PERSISTENT_VOLUME_CLAIM, CLAIM, MergePatch(labels))
        await self.settle()

    async def probes(self) -> list[Doc[Any]]:
        pods = (await self.cluster.list(POD)).items
        return [pod for pod in pods if "headrace.io/probe" in pod.labels and not pod.is_deleting]

    async def finish_probe(self, status: Json) -> None:
        for pod in await self.probes():
            await self.cluster.patch(POD, pod.ref, MergePatch({"status": status}), subresource="status")
        await self.settle()

    async def events(self, name: str) -> list[str]:
        events = (await self.cluster.list(EVENT)).items
        return [str(e.raw["reason"]) for e in events if e.raw["involvedObject"]["name"] == name]


@pytest.fixture
def world(make: Any) -> World:
    world = World(make)
    world.put(make.claim(profile=None), make.volume(), make.profile(), make.pool("cloud"))
    return world


LISTED: Json = {
    "phase": "Succeeded",
    "containerStatuses": [{"name": "probe", "state": {"terminated": {"exitCode": 0, "message": "1 9 4 0 0"}}}],
}


async def test_from_a_label_to_a_verified_mount_and_back(world: World) -> None:
    async with world.running():
        assert not (await world.cluster.list(DATASET)).items
        await world.label("juicefs")
        ref = dataset_ref(CLAIM)
        dataset = await world.cluster.get(DATASET, ref)
        assert dataset.status["phase"] == "Bound"
        assert (await world.cluster.get(THIN_RUNTIME, ref)).status["fusePhase"] == "Ready"
        assert await world.get(CONFIG_MAP, Ref("vision", f"{ref.name}-fuse-conf"))
        claim = await world.condition(PERSISTENT_VOLUME_CLAIM, CLAIM, "headrace.io/DatasetReady")
        assert (claim["status"], claim["reason"]) == ("True", "DatasetReady")
        assert not await world.get(PERSISTENT_VOLUME_CLAIM, ref)

        assert len(await world.probes()) == 1
        state = world.resolver.state(CLAIM)
        assert state.refusal("cloud", "broker")[0] == "MountNotVerified"
        await world.finish_probe(LISTED)
        assert (await world.condition(DATASET, ref, "MountVerified"))["status"] == "True"
        assert not await world.probes()
        state = world.resolver.state(CLAIM)
        assert (state.is_shared, state.is_ready, state.verified_pools) == (True, True, frozenset({"cloud"}))
        assert state.refusal("cloud", "broker") == ("", "")
        assert state.size_bytes == 5
        resolved = world.resolver.dataset(CLAIM)
        assert resolved is not None
        assert (resolved.claim, resolved.name) == ("starfs", dataset_name("starfs"))

        await world.label(None)
        assert not await world.get(DATASET, ref)
        assert not await world.get(THIN_RUNTIME, ref)
        after = await world.cluster.get(PERSISTENT_VOLUME_CLAIM, CLAIM)
        assert find_condition(after, "headrace.io/DatasetReady") is None
        assert not after.finalizers
        assert "Unwrapped" in await world.events("starfs")
        assert world.resolver.dataset(CLAIM) is None
        assert world.resolver.state(CLAIM).refusal("cloud", "broker")[0] == "ClaimNotShareable"
        assert world.resolver.state(CLAIM).refusal("own", "native") == ("", "")


async def test_a_missing_profile_is_said_and_heals(world: World) -> None:
    async with world.running():
        await world.label("juicfs")
        said = await world.condition(PERSISTENT_VOLUME_CLAIM, CLAIM, "headrace.io/DatasetReady")
        assert (said["status"], said["reason"]) == ("False", "ProfileNotFound")
        assert "found: juicefs." in said["message"]
        assert "ProfileNotFound" in await world.events("starfs")
        with pytest.raises(Unavailable, match="juicfs"):
            world.resolver.dataset(CLAIM)
        world.put(world.make.profile("ossfs"))
        await world.settle()
        said = await world.condition(PERSISTENT_VOLUME_CLAIM, CLAIM, "headrace.io/DatasetReady")
        assert "found: juicefs, ossfs." in said["message"]
        world.put(world.make.profile("juicfs"))
        await world.settle()
        said = await world.condition(PERSISTENT_VOLUME_CLAIM, CLAIM, "headrace.io/DatasetReady")
        assert said["status"] == "True"


async def test_a_claim_that_waits_for_its_first_consumer_is_pending_and_then_bound(world: World, make: Any) -> None:
    waiting = make.claim(status={"phase": "Pending"}, spec={"volumeName": ""})
    world.put(waiting)
    async with world.running():
        dataset = await world.cluster.get(DATASET, dataset_ref(CLAIM))
        assert dataset.status["phase"] == "Pending"
        said = await world.condition(PERSISTENT_VOLUME_CLAIM, CLAIM, "headrace.io/DatasetReady")
        assert said["status"] == "Unknown"
        assert world.resolver.state(CLAIM).refusal("own", "native") == ("", "")
        assert world.resolver.state(CLAIM).refusal("cloud", "broker")[0] == "ClaimPending"
        assert not await world.probes()
        world.put(make.claim())
        await world.settle()
        assert (await world.cluster.get(DATASET, dataset_ref(CLAIM))).status["phase"] == "Bound"


async def test_a_pod_in_use_keeps_its_dataset(world: World) -> None:
    async with world.running():
        await world.label("juicefs")
        ref = dataset_ref(CLAIM)
        volume = {"name": "d", "csi": {"driver": "fuse.headrace.io", "volumeAttributes": {"dataset": ref.name}}}
        pod = world.make.doc(POD, "job", spec={"containers": [], "volumes": [volume]}, status={"phase": "Running"})
        world.put(pod)
        await world.settle()
        await world.label(None)
        dataset = await world.cluster.get(DATASET, ref)
        assert dataset.is_deleting
        assert "job" in (await world.condition(DATASET, ref, "Ready"))["message"]
        ended = MergePatch({"status": {"phase": "Succeeded"}})
        await world.cluster.patch(POD, pod.ref, ended, subresource="status")
        await world.settle()
        assert not await world.get(DATASET, ref)
        assert not await world.get(THIN_RUNTIME, ref)


async def test_a_changed_label_rewraps_in_place(world: World, make: Any) -> None:
    world.put(make.profile("rclone", fileSystemType="rclone"))
    async with world.running():
        await world.label("juicefs")
        before = await world.cluster.get(DATASET, dataset_ref(CLAIM))
        await world.label("rclone")
        after = await world.cluster.get(DATASET, dataset_ref(CLAIM))
        assert after.uid == before.uid
        resolved = world.resolver.dataset(CLAIM)
        assert resolved is not None
        assert resolved.client.profile == "rclone"
        assert "Rewrapped" in await world.events("starfs")


async def test_a_failed_probe_says_the_clients_words_and_a_new_secret_tries_again(world: World, make: Any) -> None:
    csi = {**make.volume().spec["csi"], "nodePublishSecretRef": {"name": "jfs", "namespace": "vision"}}
    world.put(make.volume(csi=csi), make.doc(SECRET, "jfs", data={"token": "eA=="}))
    async with world.running():
        await world.label("juicefs")
        words = {"name": "fluid-fuse-0", "state": {"terminated": {"exitCode": 1, "message": "403 access denied"}}}
        await world.finish_probe({"phase": "Failed", "initContainerStatuses": [words]})
        ref = dataset_ref(CLAIM)
        said = await world.condition(DATASET, ref, "MountVerified")
        assert said["status"] == "False"
        assert "403 access denied" in said["message"]
        reason, sentence = world.resolver.state(CLAIM).refusal("cloud", "broker")
        assert reason == "MountFailed"
        assert "403 access denied" in sentence
        assert not await world.probes()
        await world.cluster.patch(SECRET, Ref("vision", "jfs"), MergePatch({"data": {"token": "eQ=="}}))
        await world.settle()
        assert len(await world.probes()) == 1
        await world.finish_probe(LISTED)
        assert (await world.condition(DATASET, ref, "MountVerified"))["status"] == "True"


async def test_a_client_that_hangs_is_quoted_from_its_log(world: World) -> None:
    async with world.running():
        await world.label("juicefs")
        (pod,) = await world.probes()
        world.cluster.script_logs(pod.ref, [b"dial tcp 10.0.0.1: timeout\n"], container="fluid-fuse-0")
        world.cluster.clock.advance(100)  # type: ignore[attr-defined]
        await anyio.sleep(10)
        said = await world.condition(DATASET, dataset_ref(CLAIM), "MountVerified")
        assert said["reason"] == "NotServed"
        assert "dial tcp 10.0.0.1: timeout" in said["message"]


async def test_a_pool_is_not_flooded_with_probes(world: World, make: Any) -> None:
    names = [f"c{number:02}" for number in range(30)]
    world.put(*(make.volume(name) for name in names), *(make.claim(name) for name in names))
    refs = [dataset_ref(Ref("vision", name)) for name in names]
    async with world.running():
        reasons = [(await world.condition(DATASET, ref, "MountVerified"))["reason"] for ref in refs]
        assert {*reasons} == {"Queued", "Verifying"}
        most = 0
        while probes := await world.probes():
            most = max(most, len(probes))
            await world.finish_probe(LISTED)
            await anyio.sleep(POLL_S)
        assert {(await world.condition(DATASET, ref, "MountVerified"))["status"] for ref in refs} == {"True"}
        assert ProbeSettings().at_once <= most <= 2 * ProbeSettings().at_once  # some begin at the same moment


async def test_the_pools_annotation_narrows_where_probes_go(world: World, make: Any) -> None:
    world.put(make.pool("own", "native"), make.pool("far"))
    world.put(make.claim(metadata={"annotations": {"headrace.io/pools": "own, far"}}))
    async with world.running():
        pools = {pod.labels["headrace.io/pool"] for pod in await world.probes()}
        assert pools == {"own", "far"}
        assert world.resolver.state(CLAIM).refusal("cloud", "broker")[0] == "PoolNotAllowed"


async def test_probes_do_not_take_a_claim_away_from_its_node(world: World, make: Any) -> None:
    world.put(make.pool("own", "native"), make.claim(spec={"accessModes": ["ReadWriteOnce"]}))
    async with world.running():
        assert {pod.labels["headrace.io/pool"] for pod in await world.probes()} == {"cloud"}


async def test_a_plain_dataset_owns_its_claim_and_ends_with_it(world: World, make: Any) -> None:
    world.put(make.dataset(), make.runtime())
    async with world.running():
        ref = Ref("vision", "demo")
        claim = await world.cluster.get(PERSISTENT_VOLUME_CLAIM, ref)
        assert claim.spec["volumeName"] == "vision-demo"
        assert await world.get(PERSISTENT_VOLUME, Ref("", "vision-demo"))
        resolved = world.resolver.dataset(ref)
        assert resolved is not None
        assert resolved.claim == "demo"
        await world.cluster.delete(DATASET, ref)
        await world.settle()
        assert not await world.get(DATASET, ref)
        assert not await world.get(PERSISTENT_VOLUME, Ref("", "vision-demo"))
        assert not await world.get(PERSISTENT_VOLUME_CLAIM, ref)


async def test_a_config_map_that_was_deleted_comes_back(world: World, make: Any) -> None:
    world.put(make.dataset(), make.runtime())
    async with world.running():
        await world.cluster.delete(CONFIG_MAP, Ref("vision", "demo-fuse-conf"))
        await world.settle()
        assert await world.get(CONFIG_MAP, Ref("vision", "demo-fuse-conf"))


async def test_conflicts_and_lost_answers_only_delay(world: World, make: Any) -> None:
    world.cluster.fail_next("patch", Conflict("not now"), times=3)
    world.cluster.fail_next("create", Unavailable("gone"), times=2, after=True)
    world.put(make.claim())
    async with world.running():
        await anyio.sleep(60)
        assert (await world.cluster.get(DATASET, dataset_ref(CLAIM))).status["phase"] == "Bound"
        assert len(await world.probes()) == 1


async def test_warm_up_is_refused_with_a_sentence(world: World, make: Any) -> None:
    world.put(make.doc(DATA_LOAD, "warm", spec={"dataset": {"name": "demo"}}))
    async with world.running():
        load = await world.cluster.get(DATA_LOAD, Ref("vision", "warm"))
        assert load.status["phase"] == "Failed"
        said = await world.condition(DATA_LOAD, load.ref, "Failed")
        assert said["reason"] == "Unsupported"
        assert "not" in said["message"]


@pytest.mark.parametrize("claim", ["nothing"])
async def test_claims_that_are_not_there(world: World, claim: str) -> None:
    async with world.running():
        assert world.resolver.state(Ref("vision", claim)).refusal("own", "native")[0] == "ClaimNotFound"
        with pytest.raises(NotFound, match=claim):
            world.resolver.dataset(Ref("vision", claim))


async def test_a_claim_that_cannot_be_had_is_refused_for_good(world: World, make: Any) -> None:
    world.put(make.claim(), make.profile(restrict={"namespaces": ["other"]}))
    async with world.running():
        with pytest.raises(InvalidSpec, match="namespace vision"):
            world.resolver.dataset(CLAIM)


@pytest.mark.parametrize(
    ("csi", "annotation", "refused"),
    [(True, None, True), (True, "own,cloud", True), (False, None, True), (False, "own,cloud", False)],
)
async def test_an_ordinary_claim_leaves_its_nodes_only_when_its_owner_says_so(
    world: World, make: Any, csi: bool, annotation: str | None, refused: bool
) -> None:
    annotations = {"headrace.io/pools": annotation} if annotation else {}
    world.put(make.claim("out", profile=None, metadata={"annotations": annotations}))
    source = make.volume("out").spec if csi else {"hostPath": {"path": "/x"}}
    world.put(make.doc(PERSISTENT_VOLUME, "pv-out", spec=source))
    async with world.running():
        reason, _ = world.resolver.state(Ref("vision", "out")).refusal("cloud", "broker")
        assert reason == ("ClaimNotShareable" if refused else "")


async def test_patches_of_one_plan_build_on_each_other(world: World, make: Any) -> None:
    world.put(make.dataset())
    before = await world.cluster.get(DATASET, Ref("vision", "demo"))
    meta = {"resourceVersion": before.version}
    one = Patch(DATASET, before.ref, {"metadata": {**meta, "finalizers": ["x"]}})
    two = Patch(DATASET, before.ref, {"metadata": meta, "status": {"phase": "Bound"}}, "status")

    async def tell(*_said: Any) -> None: ...

    await perform(Plan((one, two)), world.cluster, world.cache, tell)
    after = await world.cluster.get(DATASET, before.ref)
    assert (after.finalizers, after.status["phase"]) == (("x",), "Bound")
    with pytest.raises(Conflict):
        await perform(Plan((two,)), world.cluster, world.cache, tell)
