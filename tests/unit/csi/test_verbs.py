"""The driver's verbs against a world and a broker that only take notes."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import anyio
import pytest

from headrace.csi.broker import Broker, BrokerRefused
from headrace.csi.client import how_it_ended, is_running
from headrace.csi.driver import FuseDriver, VolumeRequest
from headrace.csi.inline import InlineVolumes
from headrace.csi.shared import top_at
from headrace.csi.world import container_of
from headrace.errors import InvalidSpec, Unavailable, Unsupported
from headrace.fuse.order import MountOrder

pytestmark = pytest.mark.anyio

_POD = {"uid": "u1", "namespace": "ns", "ephemeral": "true"}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class NotingWorld:
    """Answers every order with nothing and remembers it."""

    def __init__(self) -> None:
        self.orders: list[dict[str, Any]] = []

    async def request(
        self, op: str, *, fds: Sequence[int] = (), timeout_s: float = 30.0, **fields: Any
    ) -> dict[str, Any]:
        self.orders.append({"op": op, **fields})
        return {"pods": [], "mounts": [], "started_wall_ns": 1}


class NotingBroker:
    def __init__(self) -> None:
        self.orders: list[tuple[str, str]] = []

    async def register(self, volume_id: str, **_more: Any) -> None:
        self.orders.append(("register", volume_id))

    async def unregister(self, volume_id: str) -> None:
        self.orders.append(("unregister", volume_id))


async def _never(_request: VolumeRequest) -> MountOrder:
    raise AssertionError("no order was expected")


def _driver(tmp_path: Path, *, persistent: bool = True) -> tuple[FuseDriver, NotingWorld]:
    world = NotingWorld()
    return FuseDriver(world, str(tmp_path), resolve=_never, persistent=persistent), world


async def test_a_node_without_persistent_volumes_says_so(tmp_path: Path) -> None:
    driver, _ = _driver(tmp_path, persistent=False)
    with pytest.raises(Unsupported, match="no PersistentVolumes of"):
        await driver.stage(volume_id="v", attributes={}, secrets={}, mount_options=(), read_only=False, fs_type="")


async def test_publishing_before_staging_is_an_error(tmp_path: Path) -> None:
    driver, _ = _driver(tmp_path)
    with pytest.raises(InvalidSpec, match="before it was staged"):
        await driver.publish(
            volume_id="v", target="/t", attributes={}, secrets={}, read_only=False, pod={"ephemeral": "false"}
        )


async def test_undoing_what_is_not_known_leaves_nothing_at_the_target(tmp_path: Path) -> None:
    driver, world = _driver(tmp_path)
    await driver.unpublish(volume_id="v", target="/t")
    await driver.unstage(volume_id="v")
    assert world.orders == [{"op": "mount.unmount", "target": "/t", "all": True, "lazy": True}]
    assert "not published" in await driver.healthy(volume_id="v", target="/t")


def _inline(tmp_path: Path) -> tuple[InlineVolumes, NotingWorld, NotingBroker]:
    world, broker = NotingWorld(), NotingBroker()
    return InlineVolumes(world, cast("Broker", broker), str(tmp_path), python="python3"), world, broker


async def test_two_volumes_of_a_pod_and_a_dataset_belong_together_and_no_others(tmp_path: Path) -> None:
    inline, _, _ = _inline(tmp_path)
    data = {"dataset": "d", "role": "data", "csi.storage.k8s.io/pod.namespace": "other"}
    pair = inline.pair_of(data, _POD)
    assert inline.pair_of({"dataset": "d", "role": "socket"}, _POD) == pair
    others = [
        inline.pair_of({"dataset": "e", "role": "data"}, _POD),
        inline.pair_of(data, {**_POD, "uid": "u2"}),
        inline.pair_of(data, {**_POD, "namespace": "other"}),
    ]
    assert len({pair, *others}) == 4


async def test_the_pair_ends_with_its_last_volume(tmp_path: Path) -> None:
    inline, world, broker = _inline(tmp_path)
    for role in ("socket", "data"):
        await inline.publish(f"id-{role}", f"/{role}", {"dataset": "d", "role": role}, _POD)
    [pair] = os.listdir(tmp_path / "pairs")
    assert broker.orders == [("register", pair)]
    assert [order["op"] for order in world.orders] == ["mount.bind", "mount.tmpfs"]
    assert world.orders[0]["read_only"] is True
    await inline.unpublish("id-data", "/data")
    assert broker.orders[-1] == ("unregister", pair)
    assert os.listdir(tmp_path / "pairs") == [pair]
    await inline.unpublish("id-socket", "/socket")
    assert os.listdir(tmp_path / "pairs") == []
    assert os.listdir(tmp_path / "notes") == []
    await inline.unpublish("id-socket", "/socket")


def test_of_mounts_on_one_place_the_top_one_is_nobodys_parent() -> None:
    mounts = [
        {"id": 9, "parent": 7, "target": "/t"},
        {"id": 7, "parent": 1, "target": "/t"},
        {"id": 8, "parent": 9, "target": "/t/deeper"},
    ]
    assert top_at(mounts, "/t") == mounts[0]
    assert top_at(mounts, "/none") is None


def test_containers_in_a_worlds_state() -> None:
    ended = {"container": "client", "state": "exited", "exit_code": 3, "signal": 0}
    state = {"pods": [{"pod": "a", "containers": []}, {"pod": "b", "containers": [ended]}]}
    assert container_of(state, "b", "client") == ended
    assert container_of(state, "a", "client") is None
    assert not is_running(ended)
    assert not is_running(None)
    assert is_running({"state": "running"})
    assert how_it_ended(ended) == "ended with code 3"
    assert how_it_ended({"signal": 9, "exit_code": 137}) == "was ended by signal 9"


async def test_an_order_is_given_again_to_a_broker_that_went_away(tmp_path: Path) -> None:
    asked: list[dict[str, Any]] = []
    answers = [b"", b'{"ok": true, "volumes": [{"id": "v"}]}\n', b'{"ok": false, "code": "Limit", "error": "full"}\n']

    async def handle(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            asked.append(json.loads(await stream.receive()))
            answer = answers.pop(0)
            if answer:
                await stream.send(answer)

    broker = Broker(NotingWorld(), str(tmp_path))
    async with await anyio.create_unix_listener(tmp_path / "control.sock") as listener:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, handle)
            assert await broker.list() == [{"id": "v"}]
            with pytest.raises(BrokerRefused, match="full") as refused:
                await broker.state("v")
            tasks.cancel_scope.cancel()
    assert refused.value.code == "Limit"
    assert [order["op"] for order in asked] == ["list", "list", "state"]


async def test_no_broker_is_said_with_the_place_of_its_log(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"did not answer hello within 0 s.*broker\.log"):
        await Broker(NotingWorld(), str(tmp_path)).order("hello", answer_within_s=0.1)
