"""PersistentVolumes of a real node against a world and a broker that only take notes: what is asked for, and given back."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, cast

import anyio
import pytest
from tests.unit.csi.test_verbs import NotingWorld

from headrace.cluster.fake import FakeCluster
from headrace.csi.asking import NodeMounts, Wanted
from headrace.csi.broker import Broker
from headrace.csi.claims import ClaimRequest, Use
from headrace.csi.inline import pair_name
from headrace.csi.node_volumes import Deadline, NodeVolumes
from headrace.errors import Denied, Unavailable
from headrace.spec.kind import Json, Ref
from headrace.spec.kinds import NODE_MOUNT

pytestmark = pytest.mark.anyio

_DATASET = Ref("ns", "d")
_WANTED = Wanted(dataset=_DATASET, read_only=True)
_POD = {"name": "p", "namespace": "ns", "uid": "u1"}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Served:
    """A broker at which some clients' pods are served."""

    def __init__(self) -> None:
        self.uids: set[str] = set()

    async def start(self) -> None:
        pass

    async def state(self, pair: str) -> Json | None:
        found = [uid for uid in self.uids if pair_name(uid, _DATASET) == pair]
        return {"state": "served", "registration": {"data_dir": f"/clients/{found[0]}"}} if found else None


class Bench:
    """One node's volumes; `answers` are what the controllers say of every mount that is asked for."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.cluster = FakeCluster()
        self.cluster.create = self.create  # type: ignore[method-assign]
        self.world, self.broker = NotingWorld(), Served()
        self.refuses = ""
        self.is_asked = anyio.Event()
        self.volumes = self.again()

    def again(self, *, served_within_s: float = 60) -> NodeVolumes:
        """Return those of a driver that starts."""
        return NodeVolumes(
            self.world,
            cast("Broker", self.broker),
            str(self.directory / "notes"),
            permit=self._permit,
            mounts=NodeMounts(self.cluster, "n1"),
            deadline=Deadline(served_within_s=served_within_s),
        )

    async def _permit(self, _request: ClaimRequest) -> Use:
        if self.refuses:
            raise Denied(self.refuses)
        return Use(dataset=_DATASET, read_only=True)

    async def create(self, *call: Any, **more: Any) -> Any:
        """Take the place of the cluster's own: somebody asks."""
        made = await FakeCluster.create(self.cluster, *call, **more)
        self.is_asked.set()
        return made

    async def asked(self) -> list[str]:
        return [doc.name for doc in (await self.cluster.list(NODE_MOUNT)).items]

    def say(self, uid: str = "", *, ready: str = "Unknown", message: str = "") -> None:
        """Answer as the controllers do."""
        name = NodeMounts(self.cluster, "n1").name(_WANTED)
        spec = {"nodeName": "n1", "dataset": {"namespace": "ns", "name": "d"}, "readOnly": True}
        status: Json = {"conditions": [{"type": "Ready", "status": ready, "message": message}]}
        if uid:
            status["client"] = {"name": "c", "uid": uid}
        self.cluster.seed(NODE_MOUNT, {"metadata": {"name": name}, "spec": spec, "status": status})

    def target(self, name: str) -> str:
        path = self.directory / "pods" / name / "mount"
        path.parent.mkdir(parents=True, exist_ok=True)
        return str(path)

    async def publish(self, name: str) -> str:
        target = self.target(name)
        await self.volumes.publish("v", target, attributes={}, secrets={}, read_only=False, pod=_POD)
        return target

    @property
    def orders(self) -> list[tuple[str, Any]]:
        return [(order["op"], order.get("target")) for order in self.world.orders if order["op"] != "mount.list"]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


async def test_the_client_is_asked_for_once_and_given_back_after_the_last_pod(bench: Bench) -> None:
    bench.say("c1")
    bench.broker.uids = {"c1"}
    one, two = await bench.publish("one"), await bench.publish("two")
    assert bench.orders == [("mount.mirror", one), ("mount.mirror", two)]
    assert {order["source"] for order in bench.world.orders} == {"/clients/c1/ds"}
    assert len(await bench.asked()) == 1
    assert bench.volumes.publishes("v", one)
    assert await bench.volumes.trouble("v", one) == ""
    assert await bench.volumes.unpublish("v", one)
    assert len(await bench.asked()) == 1
    assert not await bench.volumes.unpublish("v", one)
    assert await bench.volumes.unpublish("v", two)
    assert await bench.asked() == []
    assert list((bench.directory / "notes").iterdir()) == []


async def test_a_client_that_fails_is_an_error_with_its_words_before_the_deadline(bench: Bench) -> None:
    bench.say(ready="False", message="Its client ended. It said: no such bucket.")
    with pytest.raises(Unavailable, match="no such bucket"):
        await bench.publish("one")
    assert bench.orders == []
    assert await bench.volumes.unpublish("v", bench.target("one"))
    assert await bench.asked() == []


async def test_a_client_that_takes_too_long_is_an_error_with_what_is_known(bench: Bench) -> None:
    bench.volumes = bench.again(served_within_s=0.3)
    with pytest.raises(Unavailable, match=r"not served within 0\.3 s\. No controller has answered"):
        await bench.publish("one")
    bench.say("c1", message="Its client starts in pod ns/c.")
    with pytest.raises(Unavailable, match="starts in pod ns/c"):
        await bench.publish("one")


async def test_an_answer_that_comes_later_is_heard(bench: Bench) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bench.publish, "one")
        await bench.is_asked.wait()
        bench.broker.uids = {"c1"}
        bench.say("c1")
    assert [op for op, _ in bench.orders] == ["mount.mirror"]


async def test_a_pod_that_may_not_leaves_nothing(bench: Bench) -> None:
    bench.refuses = "It has no such claim."
    with pytest.raises(Denied):
        await bench.publish("one")
    assert await bench.asked() == []
    assert not (bench.directory / "notes").exists()


async def test_a_place_that_is_taken_down_meanwhile_is_not_mounted(bench: Bench) -> None:
    async with anyio.create_task_group() as tasks:

        async def publish() -> None:
            with pytest.raises(Unavailable, match="was taken off"):
                await bench.publish("one")

        tasks.start_soon(publish)
        await bench.is_asked.wait()
        assert await bench.volumes.unpublish("v", bench.target("one"))
        bench.broker.uids = {"c1"}
        bench.say("c1")
    assert [op for op, _ in bench.orders] == ["mount.unmount"]


async def test_what_the_api_does_not_take_now_is_given_back_later(bench: Bench) -> None:
    bench.say("c1")
    bench.broker.uids = {"c1"}
    target = await bench.publish("one")
    bench.cluster.fail_next("delete", Unavailable("down"))
    assert await bench.volumes.unpublish("v", target)
    assert len(await bench.asked()) == 1
    await bench.volumes.tend()
    assert await bench.asked() == []
    assert list((bench.directory / "notes").iterdir()) == []


async def test_a_place_that_the_kubelet_has_removed_is_forgotten(bench: Bench) -> None:
    bench.say("c1")
    bench.broker.uids = {"c1"}
    target = await bench.publish("one")
    await bench.volumes.tend()
    assert len(await bench.asked()) == 1
    os.rmdir(os.path.dirname(target))
    await bench.volumes.tend()
    assert await bench.asked() == []


async def test_a_driver_that_starts_knows_what_is_published_and_gives_back_the_rest(bench: Bench) -> None:
    bench.say("c1")
    bench.broker.uids = {"c1"}
    target = await bench.publish("one")
    other = {"nodeName": "n2", "dataset": {"namespace": "ns", "name": "d"}}
    bench.cluster.seed(NODE_MOUNT, {"metadata": {"name": "another-nodes"}, "spec": other})
    await NodeMounts(bench.cluster, "n1").ask(Wanted(dataset=Ref("ns", "unknown"), read_only=False))
    assert len(await bench.asked()) == 3
    bench.volumes = bench.again()
    bench.cluster.fail_next("list", Unavailable("down"))
    await bench.volumes.begin()
    assert len(await bench.asked()) == 3
    await bench.volumes.tend()
    assert bench.volumes.publishes("v", target)
    assert sorted(await bench.asked()) == ["another-nodes", NodeMounts(bench.cluster, "n1").name(_WANTED)]


async def test_a_request_that_somebody_deleted_is_made_again(bench: Bench) -> None:
    bench.say("c1")
    bench.broker.uids = {"c1"}
    await bench.publish("one")
    bench.broker.uids = set()
    [name] = await bench.asked()
    await bench.cluster.delete(NODE_MOUNT, Ref("", name))
    await bench.volumes.tend()
    assert await bench.asked() == [name]
