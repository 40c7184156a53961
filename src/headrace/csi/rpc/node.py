"""CSI's Node service over the driver: takes a kubelet's requests apart, checks their form, and passes them on.

Source: container-storage-interface/spec, spec.md, "Node Service RPC". The kubelet's word about the pod is in the keys
`csi.storage.k8s.io/…` of the volume context (Kubernetes CSI documentation, "Pod Information on Mount"): they are taken
out here, so that nothing behind this edge can take them for the pod author's attributes or the other way round.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from typing import TYPE_CHECKING

from anyio import to_thread

from headrace.csi.driver import FuseDriver
from headrace.csi.rpc.methods import Method, handlers
from headrace.csi.rpc.schema import csi_pb2
from headrace.errors import Denied, InvalidSpec, NotFound

if TYPE_CHECKING:
    import grpc

KUBELET_PREFIX = "csi.storage.k8s.io/"
_POD_KEYS = {
    "pod.name": "name",
    "pod.namespace": "namespace",
    "pod.uid": "uid",
    "serviceAccount.name": "service_account",
    "ephemeral": "ephemeral",
}
_Capability = csi_pb2.NodeServiceCapability.RPC


class NodeService:
    """The Node service of one node.

    Args:
        node: the node's name.
        pods: the kubelet's directory of pods; nothing is mounted elsewhere, nor in another pod's place.
    """

    def __init__(self, driver: FuseDriver, node: str, pods: str) -> None:
        self._driver = driver
        self._node = node
        self._pods = os.path.normpath(pods)

    def handlers(self) -> grpc.GenericRpcHandler:
        methods: dict[str, Method] = {
            "NodeGetInfo": self._get_info,
            "NodeGetCapabilities": self._get_capabilities,
            "NodePublishVolume": self._publish,
            "NodeUnpublishVolume": self._unpublish,
            "NodeGetVolumeStats": self._get_volume_stats,
        }
        return handlers(csi_pb2.DESCRIPTOR.services_by_name["Node"], methods)

    async def _get_info(self, _request: csi_pb2.NodeGetInfoRequest) -> csi_pb2.NodeGetInfoResponse:
        return csi_pb2.NodeGetInfoResponse(node_id=self._node)

    async def _get_capabilities(
        self, _request: csi_pb2.NodeGetCapabilitiesRequest
    ) -> csi_pb2.NodeGetCapabilitiesResponse:
        able = (_Capability.GET_VOLUME_STATS, _Capability.VOLUME_CONDITION)
        return csi_pb2.NodeGetCapabilitiesResponse(
            capabilities=[csi_pb2.NodeServiceCapability(rpc=_Capability(type=kind)) for kind in able]
        )

    async def _publish(self, request: csi_pb2.NodePublishVolumeRequest) -> csi_pb2.NodePublishVolumeResponse:
        _require("NodePublishVolume", volume_id=request.volume_id, target_path=request.target_path)
        _check_capability(request)
        attributes, pod = split_context(request.volume_context)
        missing = [key for key, ours in _POD_KEYS.items() if not pod.get(ours) and ours != "service_account"]
        if missing:
            raise Denied(
                f"The kubelet does not say which pod volume {request.volume_id} is for: {', '.join(missing)} missing.",
                hint="Set podInfoOnMount: true in the CSIDriver object of this driver.",
            )
        target = self._target(request.target_path, pod["uid"])
        if request.volume_capability.mount.mount_flags:
            raise Denied("Volumes of this driver take no mount options.", hint="Put them into the Dataset's profile.")
        await self._driver.publish(
            volume_id=request.volume_id,
            target=target,
            attributes=attributes,
            secrets={},
            read_only=request.readonly,
            pod={**pod, "node": self._node},
        )
        return csi_pb2.NodePublishVolumeResponse()

    async def _unpublish(self, request: csi_pb2.NodeUnpublishVolumeRequest) -> csi_pb2.NodeUnpublishVolumeResponse:
        _require("NodeUnpublishVolume", volume_id=request.volume_id, target_path=request.target_path)
        target = self._target(request.target_path)
        await self._driver.unpublish(volume_id=request.volume_id, target=target)
        await to_thread.run_sync(_remove_directory, target)
        return csi_pb2.NodeUnpublishVolumeResponse()

    async def _get_volume_stats(self, request: csi_pb2.NodeGetVolumeStatsRequest) -> csi_pb2.NodeGetVolumeStatsResponse:
        """The bytes are those of the small file system that holds the mount: what the storage has is the Dataset's
        business, and asking it here would wait for its client."""
        _require("NodeGetVolumeStats", volume_id=request.volume_id, volume_path=request.volume_path)
        if not self._driver.publishes(request.volume_id, request.volume_path):
            raise NotFound(f"Volume {request.volume_id} is not published at {request.volume_path}.")
        why = await self._driver.healthy(volume_id=request.volume_id, target=request.volume_path)
        found = await to_thread.run_sync(os.statvfs, request.volume_path)
        usage = csi_pb2.VolumeUsage(
            unit=csi_pb2.VolumeUsage.BYTES,
            total=found.f_blocks * found.f_frsize,
            available=found.f_bavail * found.f_frsize,
            used=(found.f_blocks - found.f_bfree) * found.f_frsize,
        )
        condition = csi_pb2.VolumeCondition(abnormal=bool(why), message=why or "Nothing is wrong.")
        return csi_pb2.NodeGetVolumeStatsResponse(usage=[usage], volume_condition=condition)

    def _target(self, path: str, uid: str = "") -> str:
        """Return the path, which must be a pod's own place in the kubelet's directory."""
        if not _is_plain(path) or not path.startswith(f"{self._pods}/"):
            raise InvalidSpec(f"{path} is not in {self._pods}, the kubelet's directory of pods.")
        if uid and path[len(self._pods) + 1 :].split("/")[0] != uid:
            raise Denied(f"{path} is not a place of pod {uid}.")
        return path


def split_context(context: Mapping[str, str] | MutableMapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Return the pod author's attributes, and what the kubelet says of the pod by our names."""
    attributes = {key: value for key, value in context.items() if not key.startswith(KUBELET_PREFIX)}
    said = {key.removeprefix(KUBELET_PREFIX): value for key, value in context.items() if key.startswith(KUBELET_PREFIX)}
    return attributes, {ours: said[key] for key, ours in _POD_KEYS.items() if key in said}


def _require(method: str, **fields: str) -> None:
    missing = [name for name, value in fields.items() if not value]
    if missing:
        raise InvalidSpec(f"{method} needs {' and '.join(missing)}.")


def _check_capability(request: csi_pb2.NodePublishVolumeRequest) -> None:
    if not request.HasField("volume_capability"):
        raise InvalidSpec("NodePublishVolume needs volume_capability.")
    if not request.volume_capability.HasField("mount"):
        raise InvalidSpec(f"Volume {request.volume_id} can be mounted only; it is no block device.")


def _is_plain(path: str) -> bool:
    return path.startswith("/") and os.path.normpath(path) == path


def _remove_directory(path: str) -> None:
    """The target was made by us; what is not empty or still a mount is left, for the kubelet to say."""
    with suppress(OSError):
        os.rmdir(path)
