"""What the node's driver is told about a volume and about a pod's inline volume."""

from __future__ import annotations

import json
from typing import Any

import pytest

from headrace.cluster.fake import FakeCluster
from headrace.data.client import ClientTools
from headrace.data.runtime.order_source import OrderSource
from headrace.errors import Denied, InvalidSpec, NotFound, Unavailable
from headrace.spec.kind import Doc
from headrace.spec.kinds import SECRET, THIN_RUNTIME_PROFILE

pytestmark = pytest.mark.anyio


class World:
    def __init__(self, *docs: Doc[Any]) -> None:
        self.cluster = FakeCluster()
        for doc in docs:
            self.cluster.seed(doc.kind, doc.raw)
        self.source = OrderSource(self.cluster, ClientTools(path="/bin"))


async def test_a_volume_of_a_profile(make: Any) -> None:
    spelt = make.doc(
        THIN_RUNTIME_PROFILE, "juicefs", spec={"fileType": "juicefs", "image": "host", "fuse": {"command": ["m"]}}
    )
    order = await World(spelt).source.order(
        volume_id="v", attributes={"profile": "juicefs", "mountPoint": "juicefs://v"}, secrets={"k": b"s"}
    )
    assert (order.argv, order.file_system_type) == (("m",), "juicefs")
    assert order.files["/etc/fluid/secrets/volume/k"] == b"s"


async def test_a_plain_datasets_volume_brings_its_own_secrets(make: Any) -> None:
    option = {"name": "key", "valueFrom": {"secretKeyRef": {"name": "s3", "key": "k"}}}
    dataset = make.dataset(spec={"mounts": [{"mountPoint": "s3://b", "encryptOptions": [option]}]})
    secret = make.doc(SECRET, "s3", data={"k": "c2VjcmV0"})
    world = World(dataset, make.runtime(), make.profile(), secret)
    order = await world.source.order(
        volume_id="vision-demo", attributes={"dataset": "demo", "namespace": "vision"}, secrets={}
    )
    assert order.files["/etc/fluid/secrets/s3/k"] == b"secret"
    config = json.loads(order.files["/etc/fluid/config/config.json"])
    assert config["targetPath"] == order.target_path == "/runtime-mnt/thin/vision/demo/thin-fuse/ds"
    changed = make.runtime(spec={"fuse": {"image": "evil"}})
    world.cluster.seed(changed.kind, changed.raw)
    with pytest.raises(Denied, match=r"spec\.fuse\.image"):
        await world.source.order(volume_id="v", attributes={"dataset": "demo", "namespace": "vision"}, secrets={})


async def test_an_inline_volume_is_a_dataset_of_the_pods_own_namespace(make: Any) -> None:
    world = World(make.wrapped(), make.wrapped_runtime(), make.profile(), make.claim(), make.volume())
    name = make.wrapped().name
    mount = await world.source.inline(namespace="vision", dataset=name)
    assert (mount.name, mount.file_system_type, mount.read_only) == (f"vision/{name}", "juicefs", False)
    with pytest.raises(NotFound, match="other"):
        await world.source.inline(namespace="other", dataset=name)


async def test_an_inline_volume_is_told_without_reading_a_secret(make: Any) -> None:
    option = {"name": "key", "valueFrom": {"secretKeyRef": {"name": "s3", "key": "k"}}}
    plain = make.dataset(spec={"mounts": [{"mountPoint": "s3://b", "encryptOptions": [option]}]})
    world = World(plain, make.runtime(), make.profile())

    async def get(kind: Any, ref: Any) -> Any:
        assert kind is not SECRET
        return await get_any(kind, ref)

    get_any, world.cluster.get = world.cluster.get, get  # type: ignore[method-assign]
    mount = await world.source.inline(namespace="vision", dataset="demo")
    assert (mount.file_system_type, mount.read_only) == ("juicefs", True)


async def test_what_cannot_be_told(make: Any) -> None:
    source = World(make.dataset(), make.runtime()).source
    with pytest.raises(InvalidSpec, match="profile"):
        await source.order(volume_id="v", attributes={}, secrets={})
    with pytest.raises(Unavailable, match="ThinRuntimeProfile x"):
        await source.order(volume_id="v", attributes={"profile": "x"}, secrets={})
    with pytest.raises(Unavailable, match="juicefs"):
        await source.order(volume_id="v", attributes={"dataset": "demo", "namespace": "vision"}, secrets={})
    with pytest.raises(Unavailable, match="juicefs"):
        await source.inline(namespace="vision", dataset="demo")
