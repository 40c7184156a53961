"""The agent of a node that has joined a cluster. `python -m headrace.roles.joined`, started by `headrace node`.

It has a credential of its own, with the rights of every kubelet and the few of `install.node_objects`; that of whoever
let it join is not here. Killed, it leaves pods as they are, and the next one takes them up.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable

import anyio
import anyio.to_thread

from headrace.clock import SystemClock
from headrace.cluster.events import Recorder
from headrace.cluster.remote import RemoteCluster
from headrace.cluster.remote.connection import Connection, from_kubeconfig
from headrace.cluster.remote.renewal import RenewableTransport
from headrace.cluster.signing import kubelet_client
from headrace.errors import Denied, HeadraceError, Unsupported
from headrace.node import certificates
from headrace.node.agent import Agent
from headrace.node.certificates import KeptCertificate
from headrace.node.config import NodeConfig, measured_capacity
from headrace.node.images.registries import Mirror
from headrace.node.world import WorldClient
from headrace.roles import joined_file, joined_port, process
from headrace.roles.client_authority import ClientAuthority
from headrace.roles.driver import Install, make_driver, static_programs
from headrace.roles.endpoint import Endpoint, EndpointTls, delegated
from headrace.roles.joined_certificate import serving_certificate
from headrace.roles.joined_file import CLIENT_CERTIFICATE, WORLD, JoinedNode
from headrace.roles.said import Said
from headrace.settings import Home
from headrace.spec.names import NODE_TYPE_LABEL, VIRTUAL_NODE_TYPE

Say = Callable[[str], None]


async def main(home: Home) -> None:
    """Run the node until cancelled."""
    said = Said(home.root / "run" / joined_file.SAID)
    try:
        await _run(home, said)
    except HeadraceError as error:
        said.say("agent", str(error))
        raise


async def _run(home: Home, said: Said) -> None:
    node = joined_file.read(home)
    home.ready(joined_file.PROCESS).unlink(missing_ok=True)
    clock = SystemClock()
    listener = joined_port.listen(home, node)
    client_file = home.identity / CLIENT_CERTIFICATE
    if certificates.ended(client_file, clock.now()):
        raise Denied(
            f"The credential of node {node.name} has ended; it was not running when it was to be renewed.",
            hint="Join again: headrace node --kubeconfig FILE",
        )
    connection = functools.partial(_connection, home)
    transport = RenewableTransport(connection)
    world = WorldClient(str(home.world_socket(WORLD)))
    async with RemoteCluster(connection().open(transport)) as cluster:
        driver = make_driver(
            node.name,
            home.world(WORLD),
            world,
            cluster,
            node.path,
            persistent=node.persistent_volumes,
            install=await _programs(home, said),
        )
        agent = Agent(
            _config(home, node, port=listener.getsockname()[1]),
            cluster=cluster,
            world=world,
            drivers={driver.name: driver},
            recorder=Recorder(cluster, "kubelet"),
            say=functools.partial(said.say, "cluster"),
        )
        identity = KeptCertificate(
            client_file,
            cluster,
            kubelet_client(node.name, lasts_s=node.certificate_s, approver="kube-controller-manager"),
            clock,
            say=functools.partial(said.say, "credential"),
            renewed=transport.renew,
        )
        tls = EndpointTls()
        serving = serving_certificate(node, home, cluster, clock, tls, said)
        callers = ClientAuthority(cluster, tls.trust, functools.partial(said.say, "callers"))
        authenticator, authorizer = delegated(cluster, clock)
        endpoint = Endpoint(node.name, listener, tls, authenticator=authenticator, authorizer=authorizer)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(driver.run)
            tasks.start_soon(identity.run)
            tasks.start_soon(serving.run)
            tasks.start_soon(callers.run)
            tasks.start_soon(_say_when_ready, agent, home)
            await agent.run(endpoint.serve)


async def _programs(home: Home, said: Said) -> Install | None:
    """Return what storage clients mount with; None for what this machine's Python runs, which only its own image has."""
    try:
        return await anyio.to_thread.run_sync(static_programs, home.world(WORLD) / "programs")
    except Unsupported as error:
        said.say("storage clients", str(error))
        return None


async def _say_when_ready(agent: Agent, home: Home) -> None:
    await agent.told_ready.wait()
    process.say_ready(home.ready(joined_file.PROCESS))


def _connection(home: Home) -> Connection:
    return from_kubeconfig(home.kubeconfig)


def _config(home: Home, node: JoinedNode, *, port: int) -> NodeConfig:
    measured = measured_capacity()
    return NodeConfig(
        name=node.name,
        directory=home.world(WORLD),
        closed=home.root,
        pod_network="",
        capacity={**measured, "cpu": node.cpu or measured["cpu"], "memory": node.memory or measured["memory"]},
        labels={NODE_TYPE_LABEL: VIRTUAL_NODE_TYPE},
        parks_daemon_sets=True,
        mirrors=[Mirror.parse(text) for text in node.mirrors],
        registers=False,
        sees_all_pods=False,
        host_ip=node.address,
        port=port,
        base_environment={"PATH": node.path or os.defpath, "HOME": "/tmp", "LANG": "C.UTF-8"},
    )


if __name__ == "__main__":
    process.run(joined_file.PROCESS, main)
