"""The volume driver of a real node: `python -m headrace.roles.csi --endpoint unix:///csi/csi.sock --node NAME`.

One process in a privileged container of a DaemonSet (`install.node_plugin`): it serves CSI to the kubelet, registers
itself with it, and keeps the FUSE broker running as its child. Killed, it leaves mounts and clients as they are: pods go
on reading, and stand-ins wait for its return. It is the only privileged part; clients are ordinary containers, for which it
asks the controllers where a PersistentVolume needs one.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import anyio

from headrace.cluster.remote import RemoteCluster
from headrace.cluster.remote.connection import from_kubeconfig, in_cluster
from headrace.csi.asking import NodeMounts
from headrace.csi.broker import Broker
from headrace.csi.claims import ClaimPermit
from headrace.csi.driver import FuseDriver
from headrace.csi.host import HostWorld
from headrace.csi.node_volumes import Deadline, NodeVolumes
from headrace.csi.permit import PodPermit
from headrace.csi.rpc.identity import identity, registration
from headrace.csi.rpc.node import NodeService
from headrace.csi.rpc.serve import serving, socket_path
from headrace.data.runtime.order_source import OrderSource
from headrace.errors import EngineFailed, InvalidSpec
from headrace.fuse.install import install_native
from headrace.fuse.place import Deadlines
from headrace.roles import process
from headrace.roles.client_tools import cluster_tools
from headrace.roles.driver import PACKED, inline_terms
from headrace.telemetry import logger

SERVING = "csi.serving"
NOT_READY = "csi.not_ready"

_log = logger(component="csi")


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m headrace.roles.csi", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--endpoint", required=True, help="where CSI is served, at the same path on the node")
    parser.add_argument("--node", default=os.environ.get("NODE_NAME") or socket.gethostname(), help="this node's name")
    parser.add_argument("--kubelet", default="/var/lib/kubelet", help="the kubelet's directory, at the same path")
    parser.add_argument("--directory", default="", help="the driver's own; default: `driver` beside the endpoint")
    parser.add_argument("--kubeconfig", default="", help="default: the pod's service account")
    parser.add_argument("--programs", default=PACKED, help="where `python -m headrace.fuse.native` put the programs")
    parser.add_argument(
        "--served-within",
        type=float,
        default=Deadlines.start_s,
        metavar="SECONDS",
        help="how long a client may hold a mount it does not serve",
    )
    return parser.parse_args(arguments)


async def serve(options: argparse.Namespace) -> None:
    """Serve until cancelled.

    Raises:
        InvalidSpec: the command line cannot be right, or the image lacks the static programs.
        EngineFailed: the kubelet does not take the driver.
    """
    endpoint = socket_path(options.endpoint)
    directory = options.directory or os.path.join(os.path.dirname(endpoint), "driver")
    connection = from_kubeconfig(Path(options.kubeconfig)) if options.kubeconfig else in_cluster()
    world = HostWorld()
    async with AsyncExitStack() as stack:
        objects = await stack.enter_async_context(RemoteCluster(connection.open()))
        await stack.enter_async_context(world.running())
        driver = _driver(options, directory, objects, world)
        why_not = await driver.why_not_ready()  # starts the broker: clients of running pods may be waiting for it
        if why_not:
            _log.warning(NOT_READY, error=why_not)
        tasks = await stack.enter_async_context(anyio.create_task_group())
        tasks.start_soon(driver.run)
        node = NodeService(driver, options.node, os.path.join(options.kubelet, "pods"))
        await stack.enter_async_context(serving(endpoint, [identity(driver.why_not_ready), node.handlers()]))
        refusals: list[str] = []
        refused = anyio.Event()

        def note_refusal(reason: str) -> None:
            refusals.append(reason)
            refused.set()

        registry = os.path.join(options.kubelet, "plugins_registry", f"{driver.name}-reg.sock")
        await stack.enter_async_context(serving(registry, [registration(endpoint, note_refusal)]))
        _log.info(SERVING, endpoint=endpoint, node=options.node, directory=directory)
        await refused.wait()
        raise EngineFailed(f"The kubelet does not take the driver {driver.name}: {'; '.join(refusals)}.")


def _driver(options: argparse.Namespace, directory: str, objects: RemoteCluster, world: HostWorld) -> FuseDriver:
    tools = cluster_tools()
    programs = os.path.join(directory, "programs")
    try:
        install_native(programs, programs=options.programs)
    except FileNotFoundError as error:
        raise InvalidSpec(
            f"{options.programs} has no static stand-in and probe, which clients' containers need.",
            hint=f"Pack them into the image: python -m headrace.fuse.native {options.programs}",
        ) from error
    terms = inline_terms(OrderSource(objects, tools))

    def volumes(broker: Broker) -> NodeVolumes:
        return NodeVolumes(
            world,
            broker,
            os.path.join(directory, "shared"),
            permit=ClaimPermit(objects, options.node, terms),
            mounts=NodeMounts(objects, options.node),
            deadline=Deadline(served_within_s=min(options.served_within, Deadline.served_within_s)),
        )

    return FuseDriver(
        world,
        directory,
        permit=PodPermit(objects, options.node, terms),
        volumes=volumes,
        install=partial(install_native, programs=programs),
        client_uid=tools.user,
        broker_options=("--end-with-input",),
        inline_served_within_s=options.served_within,
    )


def main(arguments: Sequence[str]) -> int:
    """Serve until SIGTERM."""
    options = parse(arguments)
    process.run_program("csi", partial(serve, options), loop_factory=asyncio.new_event_loop)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
