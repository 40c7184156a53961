"""The driver's verbs against a world and a broker that only take notes."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import anyio
import anyio.lowlevel
import pytest

from headrace.csi.broker import Broker, BrokerRefused
from headrace.csi.client import how_it_ended, is_running
from headrace.csi.driver import FuseDriver
from headrace.csi.inline import InlineLimits, InlineVolumes
from headrace.csi.permit import InlineRequest, Terms
from headrace.csi.shared import top_at
from headrace.csi.world import container_of
from headrace.csi.world_volumes import VolumeRequest, WorldVolumes
from headrace.errors import Denied, InvalidSpec, QuotaExceeded, Unavailable, Unsupported
from headrace.fuse.order import MountOrder

pytestmark = pytest.mark.anyio

_POD = {"name": "p", "uid": "u1", "namespace": "ns", "ephemeral": "true"}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class NotingWorld:
    """Answers every order with nothing and remembers it."""

    def __init__(self) -> None:
        self.orders: list[dict[str, Any]] = []
        self.mounted: set[str] = set()

    async def request(
        self, op: str, *, fds: Sequence[int] = (), timeout_s: float = 30.0, **fields: Any
    ) -> dict[str, Any]:
        self.orders.append({"op": op, **fields})
        if op == "mount.list":
            return {"mounts": [{"target": target} for target in self.mounted if target == fields["prefix"]]}
        return {"pods": [], "mounts": [], "started_wall_ns": 1}


class NotingBroker:
    def __init__(self) -> None:
        self.orders: list[tuple[str, str]] = []
        self.registered: dict[str, dict[str, Any]] = {}
        self.said: dict[str, Any] = {}

    async def start(self) -> None:
        pass

    async def register(self, volume_id: str, **more: Any) -> None:
        known = self.registered.get(volume_id)
        if known is not None and known["data_dir"] != more["data_dir"]:
            raise BrokerRefused("other directories", code="Conflict")
        self.orders.append(("register", volume_id))
        self.registered[volume_id] = more

    async def state(self, volume_id: str) -> dict[str, Any] | None:
        if volume_id not in self.registered:
            return None
        return {"state": "empty", "message": "", **self.said, "registration": self.registered[volume_id]}

    async def unregister(self, volume_id: str) -> None:
        self.orders.append(("unregister", volume_id))
        self.registered.pop(volume_id, None)


async def _never(_request: VolumeRequest) -> MountOrder:
    raise AssertionError("no order was expected")


async def _nobody(request: InlineRequest) -> Terms:
    raise Denied(f"not {request.pod}")


def _driver(tmp_path: Path, *, persistent: bool = True) -> tuple[FuseDriver, NotingWorld]:
    world = NotingWorld()

    def volumes(broker: Broker) -> WorldVolumes:
        return WorldVolumes(world, broker, str(tmp_path / "volumes"), resolve=_never, install=lambda _directory: None)

    return FuseDriver(world, str(tmp_path), permit=_nobody, volumes=volumes if persistent else None), world


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


async def test_a_pod_that_may_not_gets_nothing(tmp_path: Path) -> None:
    driver, world = _driver(tmp_path)
    with pytest.raises(Denied, match="not p"):
        await driver.publish(
            volume_id="v", target="/t", attributes=_DATA, secrets={}, read_only=False, pod=_POD
        )  # fmt: skip
    assert {order["op"] for order in world.orders} == {"service.start"}
    assert not (tmp_path / "inline").exists()


_DATA = {"dataset": "d", "role": "data"}
_SOCKET = {"dataset": "d", "role": "socket"}


class _Terms:
    """Permits everything, on terms that a test may change."""

    def __init__(self) -> None:
        self.terms = Terms()
        self.asked: list[InlineRequest] = []

    async def __call__(self, request: InlineRequest) -> Terms:
        self.asked.append(request)
        return self.terms


def _inline(tmp_path: Path, **more: Any) -> tuple[InlineVolumes, NotingWorld, NotingBroker]:
    world, broker = NotingWorld(), NotingBroker()
    settings = {"permit": _Terms(), "install": lambda directory: None, **more}
    return InlineVolumes(world, cast("Broker", broker), str(tmp_path), **settings), world, broker


async def test_two_volumes_of_a_pod_and_a_dataset_belong_together_and_no_others(tmp_path: Path) -> None:
    inline, _, _ = _inline(tmp_path)
    pair = inline.pair_of(_DATA, _POD)
    assert inline.pair_of(_SOCKET, _POD) == pair
    others = [
        inline.pair_of({**_DATA, "dataset": "e"}, _POD),
        inline.pair_of(_DATA, {**_POD, "uid": "u2"}),
        inline.pair_of(_DATA, {**_POD, "namespace": "other"}),
    ]
    assert len({pair, *others}) == 4


@pytest.mark.parametrize("forged", ["csi.storage.k8s.io/pod.namespace", "mountOptions", "namespace", "option.ro"])
async def test_other_attributes_are_refused_by_name(tmp_path: Path, forged: str) -> None:
    inline, world, _ = _inline(tmp_path)
    with pytest.raises(Denied, match=f"also sets {forged}"):
        await inline.publish("v", "/t", {**_DATA, forged: "suid,dev"}, _POD, read_only=False)
    assert world.orders == []


async def test_the_pair_ends_with_its_last_volume(tmp_path: Path) -> None:
    inline, world, broker = _inline(tmp_path)
    for role in ("socket", "data"):
        await inline.publish(f"id-{role}", f"/{role}", {"dataset": "d", "role": role}, _POD, read_only=False)
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


@pytest.mark.parametrize(("asked", "held", "is_read_only"), [(0, 0, False), (1, 0, True), (0, 1, True)])
async def test_the_broker_is_told_the_terms(tmp_path: Path, asked: int, held: int, is_read_only: bool) -> None:
    permit = _Terms()
    permit.terms = Terms(file_system_type="juicefs", read_only=bool(held))
    inline, _, broker = _inline(tmp_path, permit=permit, client_uid=65534, served_within_s=7.0)
    await inline.publish("v", "/t", _DATA, _POD, read_only=bool(asked))
    [told] = broker.registered.values()
    assert (told["read_only"], told["file_system_type"], told["client_uid"]) == (is_read_only, "juicefs", 65534)
    assert told["start_deadline_s"] == 7.0
    assert permit.asked == [InlineRequest(pod="p", namespace="ns", uid="u1", dataset="d", role="data")]


async def test_pods_and_namespaces_have_a_limit_which_ended_volumes_do_not_count_for(tmp_path: Path) -> None:
    inline, _, _ = _inline(tmp_path, limits=InlineLimits(of_a_pod=2, of_a_namespace=3))

    async def publish(dataset: str, uid: str = "u1", namespace: str = "ns") -> None:
        attributes, pod = {"dataset": dataset, "role": "data"}, {**_POD, "uid": uid, "namespace": namespace}
        await inline.publish(f"{uid}-{dataset}", f"/{uid}/{dataset}", attributes, pod, read_only=False)

    await publish("a")
    await publish("b")
    await publish("b")
    await inline.publish("u1-b-socket", "/s", {"dataset": "b", "role": "socket"}, _POD, read_only=False)
    with pytest.raises(QuotaExceeded, match="Pod ns/p mounts 2 Datasets"):
        await publish("c")
    await publish("a", uid="u2")
    with pytest.raises(QuotaExceeded, match="namespace ns have 3 FUSE mounts"):
        await publish("b", uid="u2")
    await publish("b", uid="u3", namespace="other")
    await inline.unpublish("u1-a", "/u1/a")
    await publish("b", uid="u2")


async def test_what_is_wrong_with_an_inline_volume_is_what_the_broker_says(tmp_path: Path) -> None:
    inline, _, broker = _inline(tmp_path)
    await inline.publish("data", "/data", _DATA, _POD, read_only=False)
    await inline.publish("socket", "/socket", _SOCKET, _POD, read_only=False)
    for state, said in (("served", ""), ("empty", ""), ("dead", "gone"), ("stalled", "gone")):
        broker.said = {"state": state, "message": "gone" if said else "fine"}
        assert await inline.trouble("data", "/data") == said
    broker.registered.clear()
    assert "does not know" in await inline.trouble("data", "/data")
    assert await inline.trouble("socket", "/socket") == ""
    assert "not published at /elsewhere" in await inline.trouble("data", "/elsewhere")


async def test_the_end_of_a_second_data_volume_of_one_dataset_is_not_that_of_the_first(tmp_path: Path) -> None:
    inline, _, broker = _inline(tmp_path)
    await inline.publish("first", "/first", _DATA, _POD, read_only=False)
    with pytest.raises(BrokerRefused):
        await inline.publish("second", "/second", _DATA, _POD, read_only=False)
    await inline.unpublish("second", "/second")
    assert [order for order, _ in broker.orders] == ["register"]
    assert inline.publishes("first", "/first")
    await inline.unpublish("first", "/first")
    assert broker.orders[-1][0] == "unregister"
    assert os.listdir(tmp_path / "pairs") == []


async def test_notes_of_an_older_driver_are_still_undone(tmp_path: Path) -> None:
    inline, _, broker = _inline(tmp_path)
    await inline.publish("v", "/t", _DATA, _POD, read_only=False)
    [note] = (tmp_path / "notes").iterdir()
    old = {key: value for key, value in json.loads(note.read_text()).items() if key not in ("namespace", "uid")}
    note.write_text(json.dumps(old))
    await inline.unpublish("v", "/t")
    assert broker.orders[-1][0] == "unregister"
    assert list((tmp_path / "notes").iterdir()) == []


async def test_what_a_restart_of_the_machine_took_away_is_forgotten_and_counts_no_more(tmp_path: Path) -> None:
    world, broker = NotingWorld(), NotingBroker()
    driver = FuseDriver(world, str(tmp_path), permit=_Terms())
    driver._inline._broker = driver._broker = cast("Broker", broker)
    for number in (1, 2):
        await driver.publish(
            volume_id=f"v{number}", target=f"/t{number}", attributes=_DATA, secrets={}, read_only=False,
            pod={**_POD, "uid": f"u{number}"},
        )  # fmt: skip
    world.mounted = {"/t2"}
    with anyio.move_on_after(0.2):
        await driver.run()
    assert not driver.publishes("v1", "/t1")
    assert driver.publishes("v2", "/t2")
    assert [order for order, _ in broker.orders].count("unregister") == 1


async def test_orders_about_one_pair_come_one_after_the_other_and_about_others_at_once(tmp_path: Path) -> None:
    driver = FuseDriver(NotingWorld(), str(tmp_path), permit=_Terms())
    inside: list[str] = []
    most = {"a": 0, "b": 0}

    async def order(pair: str) -> None:
        async with driver._turn(pair):
            inside.append(pair)
            most[pair] = max(most[pair], inside.count(pair))
            await anyio.lowlevel.checkpoint()
            assert {"a", "b"} >= set(inside)
            inside.remove(pair)

    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(order, "a")
            tasks.start_soon(order, "b")
    assert most == {"a": 1, "b": 1}
    assert driver._pair_locks == {}


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
    broker = Broker(NotingWorld(), str(tmp_path))
    with pytest.raises(Unavailable, match=r"did not answer hello within 0 s.*in that of the driver"):
        await broker.order("hello", answer_within_s=0.1)
    (tmp_path / "broker.log").touch()
    with pytest.raises(Unavailable, match=r"Its log is .*/broker\.log"):
        await broker.order("hello", answer_within_s=0.1)
