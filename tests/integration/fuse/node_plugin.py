"""A node's volume driver without a kubelet and an API server: `node_plugin.py DIRECTORY PROGRAMS`.

Serves CSI at DIRECTORY/csi.sock as `headrace.roles.csi` does, in whatever mount namespace it is started; the API that it
looks pods up in is a fake with one pod, `ns/p` with uid `u1`, and one Dataset, `d`. At DIRECTORY/controller.sock is a
controller that only conformance tests need: the volumes that it "creates" are that pod's inline volumes.
"""

from __future__ import annotations

import asyncio
import os
import sys
from functools import partial

import anyio
import grpc

from headrace.cluster.fake import FakeCluster
from headrace.csi.driver import FuseDriver
from headrace.csi.host import HostWorld
from headrace.csi.permit import PodPermit, Terms
from headrace.csi.rpc.identity import identity
from headrace.csi.rpc.methods import handlers
from headrace.csi.rpc.node import NodeService
from headrace.csi.rpc.schema import csi_pb2
from headrace.csi.rpc.serve import serving
from headrace.errors import InvalidSpec, NotFound
from headrace.fuse.install import install_native
from headrace.roles import process
from headrace.spec.kinds import POD
from headrace.spec.names import CSI_DRIVER

NODE = "n1"
CONTEXT = {
    "dataset": "d",
    "role": "data",
    "csi.storage.k8s.io/ephemeral": "true",
    "csi.storage.k8s.io/pod.name": "p",
    "csi.storage.k8s.io/pod.namespace": "ns",
    "csi.storage.k8s.io/pod.uid": "u1",
}


async def _terms_of(namespace: str, dataset: str) -> Terms:
    if (namespace, dataset) != ("ns", "d"):
        raise NotFound("no such Dataset")
    return Terms(file_system_type="rclone")


def _cluster() -> FakeCluster:
    cluster = FakeCluster()
    volumes = [
        {"name": role, "csi": {"driver": CSI_DRIVER, "volumeAttributes": {"dataset": "d", "role": role}}}
        for role in ("data", "socket")
    ]
    spec = {"nodeName": NODE, "volumes": volumes}
    meta = {"name": "p", "namespace": "ns", "uid": "u1"}
    cluster.seed(POD, {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec})
    return cluster


class _Controller:
    """What a conformance test needs to have a volume to publish."""

    def __init__(self) -> None:
        self._made: set[str] = set()

    async def create(self, request: csi_pb2.CreateVolumeRequest) -> csi_pb2.CreateVolumeResponse:
        if not request.name or not request.volume_capabilities:
            raise InvalidSpec("CreateVolume needs name and volume_capabilities.")
        self._made.add(request.name)
        volume = csi_pb2.Volume(volume_id=request.name, capacity_bytes=0, volume_context=CONTEXT)
        return csi_pb2.CreateVolumeResponse(volume=volume)

    async def delete(self, request: csi_pb2.DeleteVolumeRequest) -> csi_pb2.DeleteVolumeResponse:
        if not request.volume_id:
            raise InvalidSpec("DeleteVolume needs volume_id.")
        self._made.discard(request.volume_id)
        return csi_pb2.DeleteVolumeResponse()

    async def capabilities(
        self, _request: csi_pb2.ControllerGetCapabilitiesRequest
    ) -> csi_pb2.ControllerGetCapabilitiesResponse:
        kind = csi_pb2.ControllerServiceCapability.RPC
        able = csi_pb2.ControllerServiceCapability(rpc=kind(type=kind.CREATE_DELETE_VOLUME))
        return csi_pb2.ControllerGetCapabilitiesResponse(capabilities=[able])


def _with_controller() -> grpc.GenericRpcHandler:
    """Return an answer that takes the place of the driver's own: here there is a controller."""

    async def answer(_request: csi_pb2.GetPluginCapabilitiesRequest) -> csi_pb2.GetPluginCapabilitiesResponse:
        kind = csi_pb2.PluginCapability.Service
        return csi_pb2.GetPluginCapabilitiesResponse(
            capabilities=[csi_pb2.PluginCapability(service=kind(type=kind.CONTROLLER_SERVICE))]
        )

    return handlers(csi_pb2.DESCRIPTOR.services_by_name["Identity"], {"GetPluginCapabilities": answer})


async def main(directory: str, programs: str) -> None:
    """Serve until SIGTERM."""
    world, controller = HostWorld(), _Controller()
    made = handlers(
        csi_pb2.DESCRIPTOR.services_by_name["Controller"],
        {
            "CreateVolume": controller.create,
            "DeleteVolume": controller.delete,
            "ControllerGetCapabilities": controller.capabilities,
        },
    )
    async with world.running():
        driver = FuseDriver(
            world,
            os.path.join(directory, "driver"),
            permit=PodPermit(_cluster(), NODE, _terms_of),
            install=partial(install_native, programs=programs),
            client_uid=65534,
            broker_options=("--end-with-input",),
        )
        assert await driver.why_not_ready() == ""
        node = NodeService(driver, NODE, os.path.join(directory, "pods"))
        identities = [_with_controller(), identity(driver.why_not_ready)]
        async with (
            serving(f"{directory}/controller.sock", [*identities, made]),
            serving(f"{directory}/csi.sock", [*identities, node.handlers()]),
        ):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(driver.run)
                await anyio.sleep_forever()


if __name__ == "__main__":
    process.run_program("csi", partial(main, sys.argv[1], sys.argv[2]), loop_factory=asyncio.new_event_loop)
