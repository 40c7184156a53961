"""One node of ours in a real cluster: a world and its agent, with the administrator's credential, as nobody.

`python -m tests.kubernetes.node_endpoint.node` is the agent's process; `virtual_node` starts it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import anyio
import msgspec
import uvloop
from tests.kubernetes.access import Access
from tests.kubernetes.cluster.credentials import Credentials
from tests.kubernetes.fixtures import ready_nodes, wait

from headrace.clock import SystemClock
from headrace.cluster.events import Recorder
from headrace.cluster.remote import RemoteCluster
from headrace.cluster.remote.connection import from_kubeconfig
from headrace.node.agent import Agent
from headrace.node.config import NodeConfig
from headrace.node.world import WorldClient
from headrace.roles.client_authority import ClientAuthority
from headrace.roles.endpoint import Endpoint, EndpointTls, delegated
from headrace.roles.serving import bind
from headrace.sandbox.testing import running_world

NOBODY = 65534


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the agent's process is told."""

    name: str
    address: str
    kubeconfig: str
    certificate: str
    key: str
    home: str
    world: str
    socket: str


async def main(settings: Settings) -> None:
    """Run the agent until the process is ended."""
    listener = bind(0, settings.address)
    connection = from_kubeconfig(Path(settings.kubeconfig))
    tls = EndpointTls()
    tls.show(Path(settings.certificate), Path(settings.key))
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    config = NodeConfig(
        name=settings.name,
        directory=Path(settings.world),
        closed=Path(settings.home),
        pod_network="127.66.0.0/16",
        capacity={"cpu": "4", "memory": "8Gi", "pods": "110"},
        taints=[{"key": "virtual-kubelet.io/provider", "value": "headrace", "effect": "NoSchedule"}],
        host_ip=settings.address,
        port=listener.getsockname()[1],
    )
    async with RemoteCluster(connection.open()) as cluster:
        authenticator, authorizer = delegated(cluster, SystemClock())
        endpoint = Endpoint(settings.name, listener, tls, authenticator=authenticator, authorizer=authorizer)
        agent = Agent(
            config,
            cluster=cluster,
            world=WorldClient(settings.socket),
            drivers={},
            recorder=Recorder(cluster, "kubelet"),
        )
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ClientAuthority(cluster, tls.trust, print).run)
            await agent.run(endpoint.serve)


@contextlib.contextmanager
def virtual_node(access: Access, credentials: Credentials, address: str, name: str, log: Path) -> Iterator[str]:
    """Run a node at an address of this machine; yields its endpoint, `https://…`. Its Node is gone afterwards."""
    home = Path(tempfile.mkdtemp(prefix="headrace-node-"))
    try:
        served = [shutil.copy(file, home) for file in credentials.server(name, address)]
        if os.geteuid() == 0:
            home.chmod(0o755)
            for each in (home, *served):
                os.chown(each, NOBODY, NOBODY)
        with running_world(home) as world, open(log, "wb") as out:
            settings = Settings(
                name=name,
                address=address,
                kubeconfig=str(access.kubeconfig),
                certificate=str(served[0]),
                key=str(served[1]),
                home=str(home),
                world=world.directory,
                socket=world.socket,
            )
            command = [
                sys.executable,
                "-m",
                "tests.kubernetes.node_endpoint.node",
                msgspec.json.encode(settings).decode(),
            ]
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
            try:
                wait(lambda: name in ready_nodes(access), f"node {name} is Ready: {log.read_text()[-2000:]}")
                status = access.call("GET", f"/api/v1/nodes/{name}")["status"]
                yield f"https://{address}:{status['daemonEndpoints']['kubeletEndpoint']['Port']}"
            finally:
                process.terminate()
                process.wait(20)
                access.call("DELETE", f"/api/v1/nodes/{name}")
    finally:
        shutil.rmtree(home)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(msgspec.json.decode(sys.argv[1], type=Settings)))
