"""CSI's form and codes at the edge, over a real Unix socket; the driver behind takes notes."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, cast

import grpc
import pytest
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from headrace.csi.driver import FuseDriver
from headrace.csi.host import HostRefused
from headrace.csi.rpc.identity import identity, registration
from headrace.csi.rpc.methods import status_of
from headrace.csi.rpc.node import NodeService
from headrace.csi.rpc.schema import csi_pb2, pluginregistration_pb2
from headrace.csi.rpc.serve import serving, socket_path
from headrace.errors import Denied, EngineFailed, HeadraceError, InvalidSpec, NotFound, QuotaExceeded, Unavailable

pytestmark = pytest.mark.anyio

_POD = {
    "csi.storage.k8s.io/pod.name": "p",
    "csi.storage.k8s.io/pod.namespace": "ns",
    "csi.storage.k8s.io/pod.uid": "u1",
    "csi.storage.k8s.io/serviceAccount.name": "default",
    "csi.storage.k8s.io/ephemeral": "true",
}
_CONTEXT = {**_POD, "dataset": "d", "role": "data"}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class _Driver:
    """Takes notes; fails with `error` where one is set."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self.error: Exception | None = None
        self.why_not = ""

    async def publish(self, **call: Any) -> None:
        self.calls.append(call)
        if self.error:
            raise self.error

    async def unpublish(self, **call: Any) -> None:
        self.calls.append(call)

    async def healthy(self, **_call: Any) -> str:
        return self.why_not

    def publishes(self, volume_id: str, target: str) -> bool:
        return volume_id == "v"

    async def why_not_ready(self) -> str:
        return self.why_not


class _Edge:
    """Client and server in one."""

    def __init__(self, tmp_path: Path) -> None:
        self.driver = _Driver()
        self.pods = tmp_path / "pods"
        self.refusals: list[str] = []
        self.target = str(self.pods / "u1" / "volumes" / "kubernetes.io~csi" / "v" / "mount")
        self.channel: grpc.aio.Channel

    async def call(self, service: str, method: str, request: Message) -> Any:
        file = (csi_pb2 if service != "Registration" else pluginregistration_pb2).DESCRIPTOR
        described = file.services_by_name[service]
        answer = GetMessageClass(described.methods_by_name[method].output_type)
        send: grpc.aio.UnaryUnaryMultiCallable[Message, Message] = self.channel.unary_unary(
            f"/{described.full_name}/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=answer.FromString,
        )
        return await send(request, timeout=10)

    def request(self, context: Mapping[str, str] = _CONTEXT, **changes: Any) -> csi_pb2.NodePublishVolumeRequest:
        capability = csi_pb2.VolumeCapability(mount=csi_pb2.VolumeCapability.MountVolume())
        fields: dict[str, Any] = {
            "volume_id": "v",
            "target_path": self.target,
            "volume_capability": capability,
            "volume_context": context,
        }
        return csi_pb2.NodePublishVolumeRequest(**{**fields, **changes})

    async def publish(self, context: Mapping[str, str] = _CONTEXT, **changes: Any) -> None:
        await self.call("Node", "NodePublishVolume", self.request(context, **changes))


@pytest.fixture
async def edge(tmp_path: Path) -> AsyncIterator[_Edge]:
    edge = _Edge(tmp_path)
    driver = cast("FuseDriver", edge.driver)
    services = [
        identity(driver.why_not_ready),
        registration("/csi.sock", edge.refusals.append),
        NodeService(driver, "n1", str(edge.pods)).handlers(),
    ]
    endpoint = f"unix://{tmp_path}/s/csi.sock"
    async with serving(endpoint, services):
        assert (tmp_path / "s" / "csi.sock").stat().st_mode & 0o777 == 0o600
        async with grpc.aio.insecure_channel(endpoint) as edge.channel:
            yield edge
    assert not (tmp_path / "s" / "csi.sock").exists()


async def test_who_it_is(edge: _Edge) -> None:
    info = await edge.call("Identity", "GetPluginInfo", csi_pb2.GetPluginInfoRequest())
    assert info.name == "fuse.headrace.io"
    assert info.vendor_version
    node = await edge.call("Node", "NodeGetInfo", csi_pb2.NodeGetInfoRequest())
    assert node.node_id == "n1"
    plugin = await edge.call("Registration", "GetInfo", pluginregistration_pb2.InfoRequest())
    assert (plugin.type, plugin.name, plugin.endpoint) == ("CSIPlugin", "fuse.headrace.io", "/csi.sock")
    for registered in (True, False):
        status = pluginregistration_pb2.RegistrationStatus(plugin_registered=registered, error="no such node")
        await edge.call("Registration", "NotifyRegistrationStatus", status)
    assert edge.refusals == ["no such node"]


async def test_it_is_ready_when_it_can_mount(edge: _Edge) -> None:
    answer = await edge.call("Identity", "Probe", csi_pb2.ProbeRequest())
    assert answer.ready.value
    edge.driver.why_not = "/dev/fuse cannot be opened: No such device"
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await edge.call("Identity", "Probe", csi_pb2.ProbeRequest())
    assert (failed.value.code(), failed.value.details()) == (grpc.StatusCode.UNAVAILABLE, edge.driver.why_not)


async def test_the_kubelets_word_and_the_authors_are_kept_apart(edge: _Edge) -> None:
    await edge.publish(readonly=True)
    [call] = edge.driver.calls
    assert call["attributes"] == {"dataset": "d", "role": "data"}
    assert call["pod"] == {
        "name": "p",
        "namespace": "ns",
        "uid": "u1",
        "service_account": "default",
        "ephemeral": "true",
        "node": "n1",
    }
    assert (call["target"], call["read_only"]) == (edge.target, True)


@pytest.mark.parametrize(
    ("changes", "code", "says"),
    [
        ({"volume_id": ""}, "INVALID_ARGUMENT", "needs volume_id"),
        ({"target_path": ""}, "INVALID_ARGUMENT", "needs target_path"),
        ({"volume_capability": None}, "INVALID_ARGUMENT", "needs volume_capability"),
        ({"target_path": "/etc"}, "INVALID_ARGUMENT", "the kubelet's directory of pods"),
        ({"target_path": "relative"}, "INVALID_ARGUMENT", "the kubelet's directory of pods"),
    ],
)
async def test_requests_that_cannot_be(edge: _Edge, changes: dict[str, Any], code: str, says: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match=says) as failed:
        await edge.publish(**changes)
    assert failed.value.code().name == code
    assert edge.driver.calls == []


async def test_a_place_of_another_pod_or_outside_is_refused(edge: _Edge) -> None:
    for path, code in (
        (edge.target.replace("/u1/", "/u2/"), "PERMISSION_DENIED"),
        (f"{edge.pods}/u1/../../x", "INVALID_ARGUMENT"),
        (f"{edge.pods}", "INVALID_ARGUMENT"),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await edge.publish(target_path=path)
        assert failed.value.code().name == code, path
    assert edge.driver.calls == []


async def test_block_devices_options_and_pods_unknown_are_refused(edge: _Edge) -> None:
    block = csi_pb2.VolumeCapability(block=csi_pb2.VolumeCapability.BlockVolume())
    flags = csi_pb2.VolumeCapability.MountVolume(mount_flags=["suid", "dev"])
    unknown = {key: value for key, value in _CONTEXT.items() if "pod." not in key}
    for request, says in (
        (edge.request(volume_capability=block), "no block device"),
        (edge.request(volume_capability=csi_pb2.VolumeCapability(mount=flags)), "no mount options"),
        (edge.request(unknown), "podInfoOnMount: true"),
        (edge.request({"dataset": "d", "role": "data"}), "podInfoOnMount: true"),
    ):
        with pytest.raises(grpc.aio.AioRpcError, match=says):
            await edge.call("Node", "NodePublishVolume", request)
    assert edge.driver.calls == []


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidSpec("w"), "INVALID_ARGUMENT"),
        (NotFound("w"), "NOT_FOUND"),
        (Denied("w"), "PERMISSION_DENIED"),
        (QuotaExceeded("w"), "RESOURCE_EXHAUSTED"),
        (Unavailable("w"), "UNAVAILABLE"),
        (EngineFailed("w"), "INTERNAL"),
        (HostRefused("w", code="Conflict"), "ABORTED"),
        (HostRefused("w", code="Failed"), "INTERNAL"),
    ],
)
async def test_an_error_is_a_code_and_its_sentence(edge: _Edge, error: HeadraceError, code: str) -> None:
    edge.driver.error = error
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await edge.publish()
    assert (failed.value.code().name, failed.value.details()) == (code, "w")
    assert status_of(error).name == code


async def test_a_bug_says_nothing_of_itself_and_the_next_call_works(edge: _Edge) -> None:
    edge.driver.error = RuntimeError("the secret is s3cr3t")
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await edge.publish()
    assert failed.value.code() is grpc.StatusCode.INTERNAL
    assert "s3cr3t" not in str(failed.value.details())
    edge.driver.error = None
    await edge.publish()


async def test_unpublishing_removes_the_place_and_is_idempotent(edge: _Edge) -> None:
    os.makedirs(edge.target)
    for _ in range(2):
        request = csi_pb2.NodeUnpublishVolumeRequest(volume_id="v", target_path=edge.target)
        await edge.call("Node", "NodeUnpublishVolume", request)
        assert not os.path.exists(edge.target)
    os.makedirs(f"{edge.target}/kept")
    await edge.call("Node", "NodeUnpublishVolume", request)
    assert os.path.isdir(f"{edge.target}/kept"), "what is in it is nobody's to delete"
    for wrong in ({"volume_id": "v"}, {"target_path": edge.target}, {"volume_id": "v", "target_path": "/etc"}):
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await edge.call("Node", "NodeUnpublishVolume", csi_pb2.NodeUnpublishVolumeRequest(**wrong))
        assert failed.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_the_condition_of_a_volume(edge: _Edge) -> None:
    os.makedirs(edge.target)
    able = await edge.call("Node", "NodeGetCapabilities", csi_pb2.NodeGetCapabilitiesRequest())
    kinds = csi_pb2.NodeServiceCapability.RPC.Type
    names = {kinds.Name(capability.rpc.type) for capability in able.capabilities}
    assert names == {"GET_VOLUME_STATS", "VOLUME_CONDITION"}
    request = csi_pb2.NodeGetVolumeStatsRequest(volume_id="v", volume_path=edge.target)
    for why_not in ("", "The client of /ds has ended."):
        edge.driver.why_not = why_not
        stats = await edge.call("Node", "NodeGetVolumeStats", request)
        assert stats.volume_condition.abnormal is bool(why_not)
        assert why_not in stats.volume_condition.message
        assert stats.usage[0].total > 0
    for wrong, code in (
        ({"volume_id": "x", "volume_path": edge.target}, grpc.StatusCode.NOT_FOUND),
        ({"volume_id": "v"}, grpc.StatusCode.INVALID_ARGUMENT),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await edge.call("Node", "NodeGetVolumeStats", csi_pb2.NodeGetVolumeStatsRequest(**wrong))
        assert failed.value.code() is code


async def test_what_is_not_done_is_unimplemented(edge: _Edge) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await edge.call("Node", "NodeStageVolume", csi_pb2.NodeStageVolumeRequest(volume_id="v"))
    assert failed.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_socket_left_by_an_earlier_process_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "csi.sock").touch()
    async with serving(f"{tmp_path}/csi.sock", []):
        assert (tmp_path / "csi.sock").is_socket()


def test_endpoints() -> None:
    assert [socket_path(text) for text in ("unix:///a/b", "unix:/a/b", "/a/b")] == ["/a/b"] * 3
    for wrong in ("tcp://1.2.3.4:5", "unix://a", ""):
        with pytest.raises(InvalidSpec, match="no Unix socket"):
            socket_path(wrong)
