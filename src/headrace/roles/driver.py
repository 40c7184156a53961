"""Joins the volume driver (`csi`) with what knows profiles and datasets (`data`), for one node."""

from __future__ import annotations

from headrace.cluster.protocol import Cluster
from headrace.csi.driver import FuseDriver, VolumeRequest
from headrace.csi.world import World
from headrace.data.runtime.order_source import OrderSource
from headrace.fuse.order import MountOrder
from headrace.roles.client_tools import client_tools
from headrace.roles.settings_file import UpSettings
from headrace.settings import Home


def make_driver(
    node: str, home: Home, world: World, objects: Cluster, settings: UpSettings, *, persistent: bool
) -> FuseDriver:
    """Return the driver of `node`; `objects` reads profiles and datasets. Its `run()` must run beside the agent."""
    source = OrderSource(objects, client_tools(settings.path))

    async def resolve(request: VolumeRequest) -> MountOrder:
        return await source.order(
            volume_id=request.volume_id,
            attributes=request.attributes,
            secrets=request.secrets,
            mount_options=request.mount_options,
            read_only=request.read_only,
        )

    return FuseDriver(world, str(home.world(node) / "csi"), resolve=resolve, persistent=persistent)
