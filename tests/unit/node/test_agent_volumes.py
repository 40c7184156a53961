"""Volumes through the agent: claims, drivers, memory, and what a pod that waits for one is told."""

from __future__ import annotations

import base64
import datetime as dt
from collections.abc import Mapping
from typing import Any

import anyio
import pytest

from headrace.errors import Unavailable
from headrace.spec.conditions import find_condition
from headrace.spec.kinds import PERSISTENT_VOLUME, PERSISTENT_VOLUME_CLAIM, POD, SECRET

pytestmark = pytest.mark.anyio

DRIVER = "fuse.headrace.io"
PREPARED = "PodReadyToStartContainers"


@pytest.fixture
def anyio_backend(make_believe_time: tuple[str, dict[str, Any]]) -> tuple[str, dict[str, Any]]:
    return make_believe_time


class FakeDriver:
    """Writes down its orders, fails where told, and notices two orders of one volume at a time."""

    name = DRIVER
    persistent = True
    ephemeral = True

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.published: dict[str, Mapping[str, Any]] = {}
        self.failures: list[Exception] = []
        self.illness = ""
        self._busy: set[str] = set()

    async def _work(self, verb: str, volume_id: str) -> None:
        assert volume_id not in self._busy, "two orders of one volume at a time"
        self._busy.add(volume_id)
        try:
            self.calls.append((verb, volume_id))
            await anyio.sleep(0.05)
            if self.failures and verb in {"stage", "publish"}:
                raise self.failures.pop()
        finally:
            self._busy.discard(volume_id)

    async def stage(self, *, volume_id: str, **more: Any) -> None:
        await self._work("stage", volume_id)

    async def publish(self, *, volume_id: str, target: str, **more: Any) -> None:
        await self._work("publish", volume_id)
        self.published[target] = {"volume_id": volume_id, **more}

    async def unpublish(self, *, volume_id: str, target: str) -> None:
        await self._work("unpublish", volume_id)
        self.published.pop(target, None)

    async def unstage(self, *, volume_id: str) -> None:
        await self._work("unstage", volume_id)

    async def healthy(self, *, volume_id: str, target: str) -> str:
        return self.illness


def pv(name: str = "pv1", **source: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": source}


def csi_pv() -> dict[str, Any]:
    csi = {
        "driver": DRIVER,
        "volumeHandle": "vol-1",
        "volumeAttributes": {"profile": "juicefs"},
        "nodePublishSecretRef": {"namespace": "storage", "name": "keys"},
    }
    return pv(csi=csi, mountOptions=["ro"])


def claim(phase: str = "Bound", volume: str = "pv1") -> dict[str, Any]:
    meta = {"name": "data", "namespace": "ns"}
    return {"metadata": meta, "spec": {"volumeName": volume}, "status": {"phase": phase}}


def user(path: str = "/data", **mount: Any) -> dict[str, Any]:
    return {"name": "app", "volumeMounts": [{"name": "v", "mountPath": path, **mount}]}


CLAIM = [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]


async def test_a_claim_of_a_driver_is_staged_published_and_undone(bench: Any) -> None:
    driver = bench.drivers[DRIVER] = FakeDriver()
    bench.cluster.seed(PERSISTENT_VOLUME, csi_pv())
    bench.cluster.seed(PERSISTENT_VOLUME_CLAIM, claim())
    keys = {"metadata": {"name": "keys", "namespace": "storage"}, "data": {"a": base64.b64encode(b"b").decode()}}
    bench.cluster.seed(SECRET, keys)
    async with bench.running():
        one = await bench.submit(user(readOnly=True, subPath="train"), volumes=CLAIM)
        two = await bench.submit(user(), name="q", volumes=CLAIM)
        await bench.until_phase("Running", "p")
        await bench.until_phase("Running", "q")
        target = str(bench.place(one.uid).volume("v") / "mount")
        published = driver.published[target]
        assert published["secrets"] == {"a": b"b"}
        assert published["attributes"] == {"profile": "juicefs"}
        assert published["pod"] == {
            "name": "p",
            "namespace": "ns",
            "uid": one.uid,
            "service_account": "default",
            "node": "own",
            "ephemeral": "false",
        }
        order = next(o for o in bench.world.ops("container.start") if o["pod"] == one.uid)
        mount = next(m for m in order["mounts"] if m["target"] == "/data")
        assert (mount["source"], mount["sub_path"], mount["read_only"]) == (target, "train", True)
        await bench.cluster.delete(POD, one.ref)
        await bench.until(lambda: bench.pod("p") is None)
        assert ("unstage", "vol-1") not in driver.calls, "the other pod still uses it"
        await bench.cluster.delete(POD, two.ref)
        await bench.until(lambda: bench.pod("q") is None)
        assert driver.calls[-2:] == [("unpublish", "vol-1"), ("unstage", "vol-1")]
        assert driver.published == {}


async def test_the_world_is_attached_until_cancelled_drivers_have_cleaned_up(bench: Any) -> None:
    began, happened = anyio.Event(), []
    attach = bench.world.attach

    async def attaching(serve: Any) -> None:
        try:
            await attach(serve)
        finally:
            happened.append("detached")

    class Tidy(FakeDriver):
        async def publish(self, *, volume_id: str, target: str, **more: Any) -> None:
            began.set()
            try:
                await anyio.sleep_forever()
            finally:
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(1)
                    happened.append("tidied")

    bench.world.attach = attaching
    bench.drivers[DRIVER] = Tidy()
    bench.cluster.seed(PERSISTENT_VOLUME, pv(csi={"driver": DRIVER, "volumeHandle": "vol-1"}))
    bench.cluster.seed(PERSISTENT_VOLUME_CLAIM, claim())
    async with bench.running():
        await bench.submit(user(), volumes=CLAIM)
        await began.wait()
    assert happened == ["tidied", "detached"]


async def test_a_claim_that_is_not_bound_is_waited_for(bench: Any) -> None:
    directory = bench.home.parent / "pv"
    directory.mkdir(exist_ok=True)
    bench.cluster.seed(PERSISTENT_VOLUME_CLAIM, claim(phase="Pending"))
    async with bench.running():
        await bench.submit(user(), volumes=CLAIM)
        await bench.until(lambda: "FailedMount" in bench.notes.reasons())
        assert "Claim data is not bound to a volume yet" in bench.notes.said[0][1]
        assert bench.entry("app")["state"] == {"waiting": {"reason": "ContainerCreating"}}
        said = await bench.until(lambda: find_condition(bench.pod()["status"]["conditions"], PREPARED))
        assert (said["status"], said["reason"]) == ("False", "NotPrepared")
        assert "Claim data is not bound to a volume yet" in said["message"]
        bench.cluster.seed(PERSISTENT_VOLUME, pv(hostPath={"path": str(directory)}))
        bench.cluster.seed(PERSISTENT_VOLUME_CLAIM, claim())
        await bench.until_running()
        said = find_condition(bench.pod()["status"]["conditions"], PREPARED) or {}
        assert (said["status"], said["message"]) == ("True", "")
        mounts = bench.world.ops("container.start")[0]["mounts"]
        assert next(m["source"] for m in mounts if m["target"] == "/data") == str(directory)


@pytest.mark.parametrize(
    ("volume", "sentence"),
    [
        ({"csi": {"driver": DRIVER}}, f"driver {DRIVER} is not registered on node own"),
        ({"persistentVolumeClaim": {"claimName": "no"}}, 'persistentvolumeclaim "no" not found'),
        ({"secret": {"secretName": "no"}}, 'secret "no" not found'),
        ({"nfs": {"server": "s"}}, "nfs is not supported"),
        ({"hostPath": {"path": "/does/not/exist"}}, "cannot be used"),
        ({"emptyDir": {"medium": "HugePages"}}, "medium 'HugePages' is not supported"),
    ],
)
async def test_what_cannot_be_mounted_is_said(bench: Any, volume: dict[str, Any], sentence: str) -> None:
    async with bench.running():
        await bench.submit(user(), volumes=[{"name": "v", **volume}])
        said = await bench.until(lambda: [text for reason, text in bench.notes.said if reason == "FailedMount"])
        assert sentence in said[0]
        assert 'volume "v"' in said[0]
        await bench.idle(100)
        assert bench.pod()["status"]["phase"] == "Pending"
        assert not bench.world.ops("container.start")


async def test_a_claim_that_nobody_mounts_is_not_waited_for(bench: Any) -> None:
    async with bench.running():
        await bench.submit("app", volumes=[{"name": "kept", "persistentVolumeClaim": {"claimName": "gone"}}])
        await bench.until_phase("Running")


async def test_inline_volumes_know_their_pod(bench: Any) -> None:
    driver = bench.drivers[DRIVER] = FakeDriver()
    inline = {"driver": DRIVER, "volumeAttributes": {"dataset": "d", "role": "data"}}
    async with bench.running():
        pod = await bench.submit(
            user(mountPropagation="HostToContainer", subPath="ds"), volumes=[{"name": "v", "csi": inline}]
        )
        await bench.until_phase("Running")
        (published,) = driver.published.values()
        assert published["pod"]["ephemeral"] == "true"
        assert published["volume_id"].startswith("csi-")
        assert [verb for verb, _ in driver.calls] == ["publish"]
        order = bench.world.ops("container.start")[0]
        assert order["mounts"][0]["propagation"] == "HostToContainer"
        await bench.cluster.delete(POD, pod.ref)
        await bench.until(lambda: bench.pod() is None)
        assert [verb for verb, _ in driver.calls] == ["publish", "unpublish"]


async def test_a_driver_that_fails_is_asked_again(bench: Any) -> None:
    driver = bench.drivers[DRIVER] = FakeDriver()
    driver.failures = [Unavailable("storage is away"), Unavailable("storage is away")]
    async with bench.running():
        await bench.submit(user(), volumes=[{"name": "v", "csi": {"driver": DRIVER}}])
        await bench.until_phase("Running")
        assert [verb for verb, _ in driver.calls] == ["publish"] * 3
        assert bench.notes.reasons().count("FailedMount") == 2


async def test_deletion_interrupts_a_mount_that_does_not_come(bench: Any) -> None:
    driver = bench.drivers[DRIVER] = FakeDriver()
    driver.failures = [Unavailable("storage is away")] * 10**6
    async with bench.running():
        pod = await bench.submit(user(), volumes=[{"name": "v", "csi": {"driver": DRIVER}}])
        await bench.until(lambda: "FailedMount" in bench.notes.reasons())
        await bench.cluster.delete(POD, pod.ref)
        await bench.until(lambda: bench.pod() is None, within_s=10)
        assert driver.calls[-1][0] == "unpublish"


async def test_a_container_is_not_started_over_an_ill_volume(bench: Any) -> None:
    driver = bench.drivers[DRIVER] = FakeDriver()
    driver.illness = "nobody serves the mount"
    bench.cluster.seed(PERSISTENT_VOLUME, pv(csi={"driver": DRIVER, "volumeHandle": "vol-1"}))
    bench.cluster.seed(PERSISTENT_VOLUME_CLAIM, claim())
    async with bench.running():
        await bench.submit(user(), volumes=CLAIM)
        waiting = await bench.until(
            lambda: (w := bench.entry("app")["state"].get("waiting", {})).get("reason") == "CreateContainerError" and w
        )
        assert "nobody serves the mount" in waiting["message"]
        assert not bench.world.ops("container.start")
        driver.illness = ""
        await bench.until_running()
        assert driver.calls.count(("publish", "vol-1")) > 1, "published again to heal it"


async def test_memory_volumes_have_a_size(bench: Any) -> None:
    app = {**user("/m"), "resources": {"limits": {"memory": "1Gi"}}}
    async with bench.running():
        pod = await bench.submit(app, volumes=[{"name": "v", "emptyDir": {"medium": "Memory", "sizeLimit": "2Gi"}}])
        await bench.until_phase("Running")
        (options,) = bench.world.mounts.values()
        assert options["size_bytes"] == 2**30, "never more than the pod's memory"
        await bench.cluster.delete(POD, pod.ref)
        await bench.until(lambda: bench.pod() is None)
        assert bench.world.mounts == {}


async def test_an_empty_dir_that_outgrows_its_limit_evicts_the_pod(bench: Any) -> None:
    async with bench.running():
        pod = await bench.submit(user(), volumes=[{"name": "v", "emptyDir": {"sizeLimit": "8Ki"}}])
        await bench.until_phase("Running")
        (bench.place(pod.uid).volume("v") / "mount" / "big").write_bytes(b"x" * 20000)
        evicted = await bench.until_phase("Failed")
        assert evicted["status"]["reason"] == "Evicted"
        assert 'EmptyDir volume "v" exceeds the limit "8Ki"' in evicted["status"]["message"]


async def test_a_service_account_token_is_renewed(bench: Any) -> None:
    asked: list[Any] = []

    def answer(_query: Any, body: Any) -> dict[str, Any]:
        asked.append(body)
        until = bench.clock.now().timestamp() + 1000
        at = dt.datetime.fromtimestamp(until, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return {"status": {"token": f"t{len(asked)}", "expirationTimestamp": at}}

    bench.cluster.script_request("POST", "/api/v1/namespaces/ns/serviceaccounts/robot/token", answer)
    sources = [{"serviceAccountToken": {"path": "token", "expirationSeconds": 1000}}]
    async with bench.running():
        pod = await bench.submit(
            user("/t"), serviceAccountName="robot", volumes=[{"name": "v", "projected": {"sources": sources}}]
        )
        await bench.until_phase("Running")
        file = bench.place(pod.uid).volume("v") / "mount/token"
        assert file.read_text() == "t1"
        assert asked[0]["spec"]["boundObjectRef"]["uid"] == pod.uid
        await bench.idle(700)
        assert len(asked) == 1
        bench.cluster.fail_next("request", Unavailable("away"), times=2)
        await bench.until(lambda: file.read_text() == "t2", within_s=200)
        assert len(asked) == 2, "a failed renewal keeps the old token and is tried again, not at once"
