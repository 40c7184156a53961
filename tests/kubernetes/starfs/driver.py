"""The storage team's own CSI driver of "starfs", which was on the nodes before anybody had heard of Headrace.

`python -m tests.kubernetes.starfs.driver --node NAME`, as root in a node's namespaces. It knows nothing of Headrace but its
gRPC plumbing: each published volume is a FUSE mount of its own, served by rclone from the WebDAV server that the volume's
attributes name, with the credentials of the volume's Secret. Mounts live as long as the driver.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sysconfig
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from headrace.csi.rpc.methods import handlers
from headrace.csi.rpc.schema import csi_pb2, pluginregistration_pb2
from headrace.csi.rpc.serve import serving
from headrace.errors import InvalidSpec, Unavailable
from headrace.fuse.mounts import Wish, mount_fuse, open_directory, read_mounts, stack_at, unmount_all

NAME = "starfs.csi.cloudml.cn"
ATTRIBUTES, KEYS = ("server", "path"), ("user", "password")
SERVED_WITHIN_S = 20.0
_RCLONE = str(Path(sysconfig.get_path("scripts"), "rclone"))


class Volumes:
    """The mounts of one node, by target."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._clients: dict[str, subprocess.Popen[bytes]] = {}

    async def info(self, _request: Any) -> csi_pb2.NodeGetInfoResponse:
        return csi_pb2.NodeGetInfoResponse(node_id=self._node)

    async def capabilities(self, _request: Any) -> csi_pb2.NodeGetCapabilitiesResponse:
        return csi_pb2.NodeGetCapabilitiesResponse()  # nothing is staged, grown or counted

    async def publish(self, request: csi_pb2.NodePublishVolumeRequest) -> csi_pb2.NodePublishVolumeResponse:
        missing = [key for key in ATTRIBUTES if not request.volume_context.get(key)]
        missing += [f"secret {key}" for key in KEYS if not request.secrets.get(key)]
        if missing:
            raise InvalidSpec(f"starfs volume {request.volume_id} lacks {', '.join(missing)}.")
        target = request.target_path
        os.makedirs(target, exist_ok=True)
        if not stack_at(target, read_mounts()):
            self._clients[target] = mount_share(target, request.volume_context, request.secrets, request.readonly)
            try:
                await asyncio.wait_for(asyncio.to_thread(os.listdir, target), SERVED_WITHIN_S)
            except (OSError, TimeoutError) as error:
                self._end(target)
                raise Unavailable(f"starfs cannot be mounted: {error!r}.") from error
        return csi_pb2.NodePublishVolumeResponse()

    async def unpublish(self, request: csi_pb2.NodeUnpublishVolumeRequest) -> csi_pb2.NodeUnpublishVolumeResponse:
        self._end(request.target_path)
        if os.path.isdir(request.target_path):
            os.rmdir(request.target_path)
        return csi_pb2.NodeUnpublishVolumeResponse()

    def _end(self, target: str) -> None:
        unmount_all(target)
        client = self._clients.pop(target, None)
        if client is not None:
            client.kill()
            client.wait()


def mount_share(
    target: str, attributes: Mapping[str, str], secrets: Mapping[str, str], read_only: bool
) -> subprocess.Popen[bytes]:
    """Mount FUSE at `target` and start the client that serves it."""
    obscured = subprocess.run(
        [_RCLONE, "obscure", "-"], input=secrets["password"], text=True, capture_output=True, check=True
    ).stdout.strip()
    environment = {
        "RCLONE_WEBDAV_URL": attributes["server"],
        "RCLONE_WEBDAV_USER": secrets["user"],
        "RCLONE_WEBDAV_PASS": obscured,
        "RCLONE_CONFIG": "/dev/null",
        "HOME": tempfile.gettempdir(),
        "PATH": os.defpath,
    }
    share, device, place = f":webdav:{attributes['path']}", os.open("/dev/fuse", os.O_RDWR), open_directory(target)
    try:
        mount_fuse(device, place, Wish("starfs", "starfs", read_only), uid=0, gid=0)
        words = [_RCLONE, "mount2", "--allow-non-empty", share, f"/dev/fd/{device}"]
        return subprocess.Popen(words, env=environment, pass_fds=[device], stdin=subprocess.DEVNULL)
    finally:
        os.close(place)
        os.close(device)


async def serve(node: str, kubelet: str) -> None:
    """Serve until killed."""
    endpoint = f"{kubelet}/plugins/{NAME}/csi.sock"
    volumes = Volumes(node)

    async def plugin(_request: Any) -> csi_pb2.GetPluginInfoResponse:
        return csi_pb2.GetPluginInfoResponse(name=NAME, vendor_version="1.4.1")

    async def able(_request: Any) -> csi_pb2.GetPluginCapabilitiesResponse:
        return csi_pb2.GetPluginCapabilitiesResponse()

    async def probe(_request: Any) -> csi_pb2.ProbeResponse:
        return csi_pb2.ProbeResponse()

    async def register(_request: Any) -> pluginregistration_pb2.PluginInfo:
        return pluginregistration_pb2.PluginInfo(
            type="CSIPlugin", name=NAME, endpoint=endpoint, supported_versions=["1.0.0"]
        )

    async def registered(request: Any) -> pluginregistration_pb2.RegistrationStatusResponse:
        print(f"registered: {request.plugin_registered} {request.error}", flush=True)
        return pluginregistration_pb2.RegistrationStatusResponse()

    services = csi_pb2.DESCRIPTOR.services_by_name
    registration = pluginregistration_pb2.DESCRIPTOR.services_by_name["Registration"]
    offered = [
        handlers(services["Identity"], {"GetPluginInfo": plugin, "GetPluginCapabilities": able, "Probe": probe}),
        handlers(
            services["Node"],
            {
                "NodeGetInfo": volumes.info,
                "NodeGetCapabilities": volumes.capabilities,
                "NodePublishVolume": volumes.publish,
                "NodeUnpublishVolume": volumes.unpublish,
            },
        ),
    ]
    told = [handlers(registration, {"GetInfo": register, "NotifyRegistrationStatus": registered})]
    async with serving(endpoint, offered), serving(f"{kubelet}/plugins_registry/{NAME}-reg.sock", told):
        await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--node", required=True)
    parser.add_argument("--kubelet", default="/var/lib/kubelet")
    asked = parser.parse_args()
    asyncio.run(serve(asked.node, asked.kubelet))
