"""The data plane's controllers and admitters on the real store and pipeline: what a fake may forgive, a server does not."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from headrace.admission.chain import admitters
from headrace.clock import SystemClock
from headrace.cluster.cache import Cache
from headrace.cluster.controller import Group
from headrace.cluster.events import Recorder
from headrace.cluster.protocol import MergePatch
from headrace.data.client import ClientTools
from headrace.data.modes.mode import Capabilities
from headrace.data.operations.reconciler import operation_controllers
from headrace.data.resolve import Resolver
from headrace.data.runtime.observe import DatasetObserver
from headrace.data.runtime.reconciler import runtime_controller
from headrace.data.verify.reconciler import Verifier
from headrace.data.wrapper.objects import dataset_ref
from headrace.data.wrapper.reconciler import wrapper_controller
from headrace.engine.client import LocalCluster
from headrace.engine.pipeline import Pipeline
from headrace.engine.pipeline.request import SYSTEM, User
from headrace.engine.pipeline.seeding import builtin_registry, seed
from headrace.engine.store.store import Store
from headrace.errors import Denied, NotFound
from headrace.spec.conditions import find_condition
from headrace.spec.kind import Doc, Json, Kind, Ref
from headrace.spec.kinds import (
    CONFIG_MAP,
    DATA_LOAD,
    DATASET,
    EVENT,
    NAMESPACE,
    PERSISTENT_VOLUME,
    PERSISTENT_VOLUME_CLAIM,
    POD,
    POOL,
    SECRET,
    THIN_RUNTIME,
    THIN_RUNTIME_PROFILE,
)

pytestmark = pytest.mark.anyio

CLAIM = Ref("vision", "digits")
CLIENT: Json = {"image": "host", "command": ["mount.sh"], "resources": {"requests": {"cpu": "100m"}}}
VOLUME: Json = {
    "metadata": {"name": "pv-digits"},
    "spec": {
        "capacity": {"storage": "1Gi"},
        "accessModes": ["ReadWriteMany"],
        "claimRef": {"namespace": "vision", "name": "digits"},
        "csi": {
            "driver": "fuse.headrace.io",
            "volumeHandle": "digits",
            "volumeAttributes": {"profile": "juicefs", "mountPoint": "juicefs://digits"},
            "nodePublishSecretRef": {"name": "jfs", "namespace": "vision"},
        },
    },
}
NEW_CLAIM: Json = {
    "metadata": {"name": "digits", "namespace": "vision"},
    "spec": {
        "accessModes": ["ReadWriteMany"],
        "volumeName": "pv-digits",
        "storageClassName": "",
        "resources": {"requests": {"storage": "1Gi"}},
    },
}
POD_BODY: Json = {
    "metadata": {"name": "train", "namespace": "vision"},
    "spec": {
        "nodeSelector": {"node-restriction.kubernetes.io/headrace-pool": "cloud"},
        "containers": [
            {
                "name": "main",
                "image": "host",
                "command": ["true"],
                "volumeMounts": [{"name": "d", "mountPath": "/data"}],
            }
        ],
        "volumes": [{"name": "d", "persistentVolumeClaim": {"claimName": "digits"}}],
    },
}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class World:
    """An engine with the data plane on it, and nobody who runs pods."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.cluster = LocalCluster(pipeline, SYSTEM)
        self.ann = LocalCluster(pipeline, User("ann", ("system:masters", "system:authenticated")))
        self.cache = Cache(self.cluster)
        clock = SystemClock()
        observer = DatasetObserver(self.cache)
        self.resolver = Resolver(self.cache, observer)
        tell = Recorder(self.cluster, "headrace-data").event
        capabilities = Capabilities(tools=ClientTools(served=("served",), path="/bin"))
        verifier = Verifier(self.cluster, self.cache, observer, tell, clock, capabilities_of=lambda _pool: capabilities)
        self.controllers = [
            wrapper_controller(self.cluster, self.cache, tell, clock),
            runtime_controller(self.cluster, self.cache, observer, tell, clock),
            verifier.controller(),
            *operation_controllers(self.cluster, self.cache, tell, clock),
        ]
        chain = admitters(
            self.cache, observer, self.resolver, capabilities_of=lambda _pool: capabilities, trusted={SYSTEM.name}
        )
        pipeline.admitters.extend(chain)

    async def until(self, what: str, reached: Callable[[], Awaitable[bool]]) -> None:
        try:
            with anyio.fail_after(10):
                while not await reached():  # noqa: ASYNC110 any object may make it true
                    await anyio.sleep(0.02)
        except TimeoutError:
            pytest.fail(f"did not come to: {what}")

    async def exists(self, kind: Kind[Any], ref: Ref) -> bool:
        try:
            await self.cluster.get(kind, ref)
        except NotFound:
            return False
        return True

    async def says(self, kind: Kind[Any], ref: Ref, type: str, status: str) -> None:
        async def reached() -> bool:
            if not await self.exists(kind, ref):
                return False
            condition = find_condition(await self.cluster.get(kind, ref), type)
            return condition is not None and condition["status"] == status

        await self.until(f"{kind.name} {ref} {type}={status}", reached)

    async def probe(self) -> Doc[Any]:
        async def reached() -> bool:
            return bool((await self.cluster.list(POD)).items)

        await self.until("a probe pod", reached)
        return (await self.cluster.list(POD)).items[0]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with Store(tmp_path / "objects.db", bookmark_s=0.05) as store:
        pipeline = Pipeline(store, builtin_registry(), clock=SystemClock(), admitters=[])
        await seed(pipeline)
        world = World(pipeline)
        cluster = world.cluster
        await cluster.create(NAMESPACE, {"metadata": {"name": "vision"}})
        fuse = {"fileType": "juicefs", "fuse": CLIENT}
        await cluster.create(THIN_RUNTIME_PROFILE, {"metadata": {"name": "juicefs"}, "spec": fuse})
        await cluster.create(SECRET, {"metadata": {"name": "jfs", "namespace": "vision"}, "stringData": {"token": "x"}})
        await cluster.create(PERSISTENT_VOLUME, VOLUME)
        await cluster.create(PERSISTENT_VOLUME_CLAIM, NEW_CLAIM)
        bound = MergePatch({"status": {"phase": "Bound"}})
        await cluster.patch(PERSISTENT_VOLUME_CLAIM, CLAIM, bound, subresource="status")
        pool = {"kind": "serverless", "capacity": {"cpu": 4, "memory": "8Gi"}, "dataAccess": {"mode": "broker"}}
        await cluster.create(POOL, {"metadata": {"name": "cloud"}, "spec": pool})
        ready = MergePatch({"status": {"conditions": [{"type": "Ready", "status": "True"}]}})
        await cluster.patch(POOL, Ref("", "cloud"), ready, subresource="status")
        async with Group(world.cache, world.controllers):
            yield world


async def label(world: World, profile: str | None) -> None:
    labels = MergePatch({"metadata": {"labels": {"fluid.io/runtime-profile": profile}}})
    await world.ann.patch(PERSISTENT_VOLUME_CLAIM, CLAIM, labels)


async def test_from_a_label_to_a_verified_mount_and_back(world: World) -> None:
    await label(world, "juicefs")
    ref = dataset_ref(CLAIM)
    await world.says(PERSISTENT_VOLUME_CLAIM, CLAIM, "headrace.io/DatasetReady", "True")
    config = await world.cluster.get(CONFIG_MAP, Ref("vision", f"{ref.name}-fuse-conf"))
    mounts = json.loads(config.raw["data"]["config.json"])["mounts"]
    assert mounts == [
        {
            "mountPoint": "juicefs://digits",
            "name": "digits",
            "path": "/",
            "options": {"token": "/etc/fluid/secrets/jfs/token"},
        }
    ]

    probe = await world.probe()
    assert probe.finalizers == ("headrace.io/metered",)
    assert probe.spec["initContainers"][0]["name"] == "fluid-fuse-0"
    listed = {"phase": "Succeeded", "containerStatuses": [{"name": "probe", "state": {"terminated": {"exitCode": 0}}}]}
    await world.cluster.patch(POD, probe.ref, MergePatch({"status": listed}), subresource="status")
    await world.says(DATASET, ref, "MountVerified", "True")
    pool = (await world.cluster.get(DATASET, ref)).view.status.pools[0]
    assert (pool.pool, pool.mode, pool.verified, pool.attempts) == ("cloud", "broker", "True", 0)
    metered = MergePatch({"metadata": {"finalizers": None}})
    await world.cluster.patch(POD, probe.ref, metered)

    injected = await world.ann.create(POD, POD_BODY, dry_run=True)
    assert injected.spec["initContainers"][0]["startupProbe"]["exec"]["command"][0] == "served"
    assert injected.annotations["headrace.io/submitted-by"] == "ann"
    assert not await world.exists(POD, injected.ref)

    claim = await world.cluster.get(PERSISTENT_VOLUME_CLAIM, CLAIM)
    assert claim.spec == {**NEW_CLAIM["spec"], "volumeMode": "Filesystem"}
    await label(world, None)

    async def unwrapped() -> bool:
        return not (await world.exists(DATASET, ref) or await world.exists(THIN_RUNTIME, ref))

    await world.until("no Dataset and ThinRuntime", unwrapped)

    async def told() -> bool:
        reasons = {e.raw["reason"] for e in (await world.cluster.list(EVENT)).items}
        return reasons >= {"DatasetReady", "MountVerified", "Unwrapped"}

    await world.until("events of all three", told)


async def test_a_pod_for_a_dataset_that_is_not_ready_is_refused_whole(world: World) -> None:
    await label(world, "juicfs")
    await world.says(PERSISTENT_VOLUME_CLAIM, CLAIM, "headrace.io/DatasetReady", "False")
    with pytest.raises(Denied, match=r"found: juicefs\."):
        await world.ann.create(POD, POD_BODY)


async def test_fluids_manifests_apply_and_say_what_is_not_carried_out(world: World) -> None:
    meta = {"name": "demo", "namespace": "vision"}
    spec = {"mounts": [{"mountPoint": "s3://bucket", "name": "b"}], "owner": {"uid": 0}, "unknown": 1}
    await world.ann.create(DATASET, {"metadata": meta, "spec": spec})
    await world.ann.create(THIN_RUNTIME, {"metadata": meta, "spec": {"profileName": "juicefs"}})
    await world.ann.create(DATA_LOAD, {"metadata": meta, "spec": {"dataset": {"name": "demo"}}})
    ref = Ref("vision", "demo")
    await world.says(DATASET, ref, "Ready", "True")
    dataset = await world.cluster.get(DATASET, ref)
    said = find_condition(dataset, "Unsupported")
    assert said is not None
    assert "spec.owner" in said["message"]
    assert dataset.spec["unknown"] == 1
    assert (await world.cluster.get(PERSISTENT_VOLUME_CLAIM, ref)).spec["volumeName"] == "vision-demo"
    await world.says(DATA_LOAD, ref, "Failed", "True")
    await world.ann.delete(DATASET, ref)

    async def gone() -> bool:
        return not await world.exists(PERSISTENT_VOLUME, Ref("", "vision-demo"))

    await world.until("no volume", gone)
