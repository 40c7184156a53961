"""Joins the volume driver (`csi`) with what knows profiles and datasets (`data`), for one node."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from headrace.cluster.protocol import Cluster
from headrace.csi.broker import Broker
from headrace.csi.driver import FuseDriver, python_install
from headrace.csi.permit import PodPermit, Terms, TermsOf
from headrace.csi.world import World
from headrace.csi.world_volumes import VolumeRequest, WorldVolumes
from headrace.data.runtime.order_source import OrderSource
from headrace.errors import Unsupported
from headrace.fuse import native
from headrace.fuse.install import install_native
from headrace.fuse.order import MountOrder
from headrace.roles.client_tools import client_tools

Install = Callable[[str], None]
PACKED = "/usr/local/lib/headrace"
"""Where Headrace's image has the static programs."""


def make_driver(
    node: str,
    directory: Path,
    world: World,
    objects: Cluster,
    path: str,
    *,
    persistent: bool,
    install: Install | None = None,
) -> FuseDriver:
    """Return the driver of `node`. Its `run()` must run beside the agent.

    Args:
        directory: of the node's world.
        objects: reads pods, profiles and datasets.
        path: PATH of storage clients that the node itself runs.
        install: what clients are given to mount with; what this machine's Python runs where it is not given.
    """
    source = OrderSource(objects, client_tools(path))

    async def resolve(request: VolumeRequest) -> MountOrder:
        return await source.order(
            volume_id=request.volume_id,
            attributes=request.attributes,
            secrets=request.secrets,
            mount_options=request.mount_options,
            read_only=request.read_only,
        )

    own = directory / "csi"

    def volumes(broker: Broker) -> WorldVolumes:
        return WorldVolumes(world, broker, str(own / "volumes"), resolve=resolve, install=python_install())

    permit = PodPermit(objects, node, inline_terms(source))
    return FuseDriver(world, str(own), permit=permit, volumes=volumes if persistent else None, install=install)


def static_programs(directory: Path) -> Install:
    """Return what gives clients the static programs, which run in any image: those packed with Headrace, else compiled.

    Compiling takes a second, once for each version of Headrace in this directory.

    Raises:
        Unsupported: there are none, and no compiler.
    """
    if all(Path(PACKED, program).exists() for program in native.PROGRAMS):
        return partial(install_native, programs=PACKED)
    try:
        return partial(install_native, programs=native.kept(str(directory)))
    except native.CompilerFailed as error:
        raise Unsupported(
            f"Only storage clients of image host can mount on this node: the programs for other images cannot be made. "
            f"{error}",
            hint="Install a C compiler, and start the node again.",
        ) from error


def inline_terms(source: OrderSource) -> TermsOf:
    """Return what tells the terms of a Dataset that a pod's volume names."""

    async def terms_of(namespace: str, dataset: str) -> Terms:
        mount = await source.inline(namespace=namespace, dataset=dataset)
        return Terms(file_system_type=mount.file_system_type, read_only=mount.read_only)

    return terms_of
