"""The `node` process: the agents of both nodes, outside of the worlds. `python -m headrace.roles.node`

It talks only the Kubernetes API (over the façade) and the worlds' sockets, so the same agents can join a real cluster.
The own node has the volume driver for PersistentVolumes, as the organisation's own nodes have; the cloud node has only
the broker's inline volumes, as no serverless provider runs anybody's CSI driver.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from socket import socket

import anyio

from headrace.clock import SystemClock
from headrace.cluster.events import Recorder
from headrace.cluster.remote import RemoteCluster
from headrace.cluster.remote.connection import BearerAuth, Connection, token_file
from headrace.engine.facade.options import FACADE_USER
from headrace.engine.pki import Authority
from headrace.node.agent import Agent
from headrace.node.config import NodeConfig, measured_capacity
from headrace.node.guard import CertificateAuthenticator, UserAuthorizer
from headrace.node.images.registries import Mirror
from headrace.node.world import WorldClient
from headrace.roles import process, settings_file
from headrace.roles.bootstrap import CLOUD_TAINT
from headrace.roles.driver import make_driver
from headrace.roles.endpoint import Endpoint, EndpointTls
from headrace.roles.serving import bind
from headrace.roles.settings_file import CLOUD, NODES, OWN, Capacity, UpSettings
from headrace.settings import Home
from headrace.spec.names import NODE_POOL_LABEL

_NETWORKS = {OWN: "127.64.0.0/16", CLOUD: "127.65.0.0/16"}


async def main(home: Home) -> None:
    """Run both nodes until cancelled."""
    settings = settings_file.read(home)
    ready = home.ready("node")
    ready.unlink(missing_ok=True)
    authority = Authority.open(home.pki, SystemClock())
    started: set[str] = set()

    def node_started(name: str) -> None:
        started.add(name)
        if started == set(NODES):
            process.say_ready(ready)

    async with anyio.create_task_group() as group:
        for name in NODES:
            group.start_soon(_run_node, name, home, settings, authority, lambda name=name: node_started(name))


async def _run_node(
    name: str, home: Home, settings: UpSettings, authority: Authority, on_started: Callable[[], None]
) -> None:
    listener = bind(0)
    config = _config(name, home, settings, listener.getsockname()[1])
    world = WorldClient(str(home.world_socket(name)))
    async with (
        _cluster(name, home, settings, authority) as cluster,
        _cluster("driver", home, settings, authority) as objects,
    ):
        driver = make_driver(name, home.world(name), world, objects, settings.path, persistent=name == OWN)
        endpoint = _endpoint(name, authority, listener, on_started)
        agent = Agent(
            config,
            cluster=cluster,
            world=world,
            drivers={driver.name: driver},
            recorder=Recorder(cluster, f"kubelet-{name}"),
        )
        await process.until_ready(home.ready("control"))  # until here everything could be done without it
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(driver.run)
            await agent.run(endpoint.serve)


def _cluster(user: str, home: Home, settings: UpSettings, authority: Authority) -> RemoteCluster:
    """Return a client with the token that control keeps for `user`; nothing is sent yet."""
    tls = ssl.create_default_context(cafile=str(authority.certificate))
    token = BearerAuth(token_file(home.token(user)))
    return RemoteCluster(Connection(server=settings.server, tls=tls, auth=token, agent="headrace-node").open())


def _config(name: str, home: Home, settings: UpSettings, port: int) -> NodeConfig:
    chosen: Capacity = settings.own if name == OWN else settings.cloud
    measured = measured_capacity()
    capacity = {**measured, "cpu": chosen.cpu or measured["cpu"], "memory": chosen.memory or measured["memory"]}
    return NodeConfig(
        name=name,
        directory=home.world(name),
        closed=home.root,
        pod_network=_NETWORKS[name],
        capacity=capacity,
        labels={NODE_POOL_LABEL: name, **({"type": "virtual-kubelet"} if name == CLOUD else {})},
        taints=[CLOUD_TAINT] if name == CLOUD else [],
        mirrors=[Mirror.parse(text) for text in settings.mirrors],
        port=port,
        base_environment={"PATH": settings.path or os.defpath, "HOME": "/tmp", "LANG": "C.UTF-8"},
    )


def _endpoint(name: str, authority: Authority, listener: socket, on_started: Callable[[], None]) -> Endpoint:
    """Return a node's endpoint, which is for the façade only."""
    tls = EndpointTls(authority.pem)
    tls.show(*authority.server(f"node-{name}"))
    return Endpoint(
        name,
        listener,
        tls,
        authenticator=CertificateAuthenticator(),
        authorizer=UserAuthorizer([FACADE_USER]),
        on_started=on_started,
    )


if __name__ == "__main__":
    process.run("node", main)
