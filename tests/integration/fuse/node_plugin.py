"""A node's volume driver without a kubelet and an API server: `node_plugin.py DIRECTORY PROGRAMS`.

Serves CSI at DIRECTORY/csi.sock as `headrace.roles.csi` does, in whatever mount namespace it is started. The API that it
looks things up in is a fake with one Dataset, `d`, and two pods: `ns/p` with uid `u1`, which has the two inline volumes of a
client, and `ns/q` with uid `u2`, which mounts PersistentVolumes of the Dataset; whatever client is asked for is `p`. At
DIRECTORY/controller.sock is a controller that only conformance tests need: the volumes that it "creates" are those of
`p`, or with the word `persistent` as third argument those of `q`.
"""

from __future__ import annotations

import asyncio
import os
import sys
from functools import partial
from typing import TypeVar

import anyio
import grpc
import msgspec

from headrace.cluster.fake import FakeCluster
from headrace.csi.asking import NodeMounts
from headrace.csi.claims import ClaimPermit
from headrace.csi.driver import FuseDriver
from headrace.csi.host import HostWorld
from headrace.csi.node_volumes import Deadline, NodeVolumes
from headrace.csi.permit import PodPermit, Terms
from headrace.csi.rpc.identity import identity
from headrace.csi.rpc.methods import handlers
from headrace.csi.rpc.node import NodeService
from headrace.csi.rpc.schema import csi_pb2
from headrace.csi.rpc.serve import serving
from headrace.errors import InvalidSpec, NotFound
from headrace.fuse.install import install_native
from headrace.roles import process
from headrace.spec.kind import Doc, Json, Kind
from headrace.spec.kinds import NODE_MOUNT, PERSISTENT_VOLUME, PERSISTENT_VOLUME_CLAIM, POD
from headrace.spec.names import CSI_DRIVER

T = TypeVar("T", bound=msgspec.Struct)
NODE = "n1"
CONTEXT = {
    "dataset": "d",
    "role": "data",
    "csi.storage.k8s.io/ephemeral": "true",
    "csi.storage.k8s.io/pod.name": "p",
    "csi.storage.k8s.io/pod.namespace": "ns",
    "csi.storage.k8s.io/pod.uid": "u1",
}


PERSISTENT = {
    "dataset": "d",
    "namespace": "ns",
    "csi.storage.k8s.io/ephemeral": "false",
    "csi.storage.k8s.io/pod.name": "q",
    "csi.storage.k8s.io/pod.namespace": "ns",
    "csi.storage.k8s.io/pod.uid": "u2",
}
VOLUME = "shared"


async def _terms_of(namespace: str, dataset: str) -> Terms:
    if (namespace, dataset) != ("ns", "d"):
        raise NotFound("no such Dataset")
    return Terms(file_system_type="rclone")


class _Api(FakeCluster):
    """Two pods, any number of PersistentVolumes that the second one mounts, and a controller of NodeMounts."""

    def __init__(self) -> None:
        super().__init__()
        self._volumes: list[Json] = []
        inline = [
            {"name": role, "csi": {"driver": CSI_DRIVER, "volumeAttributes": {"dataset": "d", "role": role}}}
            for role in ("data", "socket")
        ]
        self._pod("p", "u1", inline)
        self.add_volume(VOLUME)

    def add_volume(self, handle: str) -> None:
        """Make a PersistentVolume, bound to a claim that pod `q` has."""
        name = f"v{len(self._volumes)}"
        attributes = {"dataset": "d", "namespace": "ns"}
        csi = {"driver": CSI_DRIVER, "volumeHandle": handle, "volumeAttributes": attributes}
        claim = {"namespace": "ns", "name": name, "uid": name}
        self.seed(PERSISTENT_VOLUME, {"metadata": {"name": name}, "spec": {"csi": csi, "claimRef": claim}})
        bound = {"spec": {"volumeName": name}, "status": {"phase": "Bound"}}
        self.seed(PERSISTENT_VOLUME_CLAIM, {"metadata": claim, **bound})
        self._volumes.append({"name": name, "persistentVolumeClaim": {"claimName": name}})
        self._pod("q", "u2", self._volumes)

    async def create(self, kind: Kind[T], body: Json, *, dry_run: bool = False) -> Doc[T]:
        made = await super().create(kind, body, dry_run=dry_run)
        if kind is not NODE_MOUNT:
            return made
        return self.seed(kind, {**made.raw, "status": {"client": {"name": "p", "uid": "u1"}}})[0]

    def _pod(self, name: str, uid: str, volumes: list[Json]) -> None:
        meta = {"name": name, "namespace": "ns", "uid": uid}
        self.seed(POD, {"metadata": meta, "spec": {"nodeName": NODE, "volumes": volumes}})


class _Controller:
    """What a conformance test needs to have a volume to publish."""

    def __init__(self, api: _Api, *, persistent: bool) -> None:
        self._api = api
        self._persistent = persistent
        self._made: set[str] = set()

    async def create(self, request: csi_pb2.CreateVolumeRequest) -> csi_pb2.CreateVolumeResponse:
        if not request.name or not request.volume_capabilities:
            raise InvalidSpec("CreateVolume needs name and volume_capabilities.")
        if self._persistent and request.name not in self._made:
            self._api.add_volume(request.name)
        self._made.add(request.name)
        context = PERSISTENT if self._persistent else CONTEXT
        volume = csi_pb2.Volume(volume_id=request.name, capacity_bytes=0, volume_context=context)
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


async def main(directory: str, programs: str, *words: str) -> None:
    """Serve until SIGTERM."""
    world, api = HostWorld(), _Api()
    controller = _Controller(api, persistent="persistent" in words)
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
            permit=PodPermit(api, NODE, _terms_of),
            volumes=lambda broker: NodeVolumes(
                world,
                broker,
                os.path.join(directory, "driver", "shared"),
                permit=ClaimPermit(api, NODE, _terms_of),
                mounts=NodeMounts(api, NODE),
                deadline=Deadline(served_within_s=5),
            ),
            install=partial(install_native, programs=programs),
            client_uid=65534,
            broker_options=("--end-with-input",),
        )
        await driver.why_not_ready()  # starts the broker; whether it is ready its callers ask
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
    process.run_program("csi", partial(main, *sys.argv[1:]), loop_factory=asyncio.new_event_loop)
