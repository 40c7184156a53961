"""`headrace control`: the controllers on this machine, for a cluster in which none of Headrace's processes run.

They have the rights that they are installed with and no more: the kubeconfig's credential is used to ask for tokens of
their service account, and to tell the API server where they are for as long as they run.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import anyio
from sqlalchemy import make_url

from headrace.cluster.protocol import Cluster
from headrace.cluster.remote import RemoteCluster
from headrace.cluster.remote.account import as_account
from headrace.cluster.remote.connection import read_cluster
from headrace.data.verify.pod import HOST_IMAGE
from headrace.errors import Conflict, NotFound
from headrace.install import reaching
from headrace.install.kinds import DEPLOYMENT
from headrace.install.names import CONTROLLER
from headrace.install.outside import Way, ways
from headrace.ledger.database import file_url
from headrace.roles import controller
from headrace.roles.client_tools import client_tools
from headrace.roles.serving import bind
from headrace.roles.whereabouts import own_addresses
from headrace.settings import Home
from headrace.spec.kind import Ref
from headrace.spec.kinds import SERVICE_ACCOUNT

Say = Callable[[str], None]

_LOOK_EVERY_S = 0.1
_SAID_AFTER_S = 5.0
_WITHDRAWN_WITHIN_S = 20.0


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What the command line said. Empty texts leave it to us."""

    kubeconfig: Path
    context: str | None
    namespace: str
    home: Home
    ledger: str
    address: str


class Reached(NamedTuple):
    """Where the API server finds controllers that work, and their ledger; a database's password is left out."""

    server: str
    address: str
    port: int
    ledger: str


async def main(wishes: Wishes, say: Say, ready: Callable[[Reached], None]) -> None:
    """Run the controllers until cancelled; afterwards the cluster has forgotten where they were.

    Args:
        say: is given a sentence about what is waited for.
        ready: is told once that everything works.

    Raises:
        NotFound: Headrace is not installed there.
        Conflict: its controllers run in the cluster.
        Unavailable: the API server cannot reach this machine; or another controller took the lease.
    """
    target = read_cluster(wishes.kubeconfig, wishes.context)
    account = Ref(wishes.namespace, CONTROLLER)
    async with RemoteCluster.from_kubeconfig(wishes.kubeconfig, context=wishes.context) as ours:
        await _check(ours, wishes.namespace)
        hosts = [wishes.address] if wishes.address else await own_addresses(ours, target.server)
        async with as_account(ours, target, account) as theirs:
            await _run(wishes, ours, theirs, hosts, say, lambda way: ready(_reached(target.server, way, wishes)))


def _reached(server: str, way: Way, wishes: Wishes) -> Reached:
    return Reached(server, way.host, way.port, make_url(_ledger(wishes)).render_as_string(hide_password=True))


async def _run(
    wishes: Wishes,
    ours: Cluster,
    theirs: RemoteCluster,
    hosts: Sequence[str],
    say: Say,
    ready: Callable[[Way], None],
) -> None:
    listeners = controller.Listeners(monitoring=bind(0), reads=bind(0, ""), code=bind(0, ""))
    found, readiness = ways(hosts, _port(listeners.reads)), controller.new_readiness()
    settings = _settings(wishes, hosts, _port(listeners.code))
    try:
        # Before anything runs: whoever keeps the certificates tells what it finds whom to trust.
        await reaching.announce(ours, wishes.namespace, found[0])
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(controller.main, settings, theirs, listeners, readiness)
            await _ready(lambda: readiness.why_not, say)
            ready(await reaching.reach(ours, wishes.namespace, found))
    finally:
        with anyio.CancelScope(shield=True, deadline=anyio.current_time() + _WITHDRAWN_WITHIN_S):
            await reaching.withdraw(ours, wishes.namespace)


async def _check(cluster: Cluster, namespace: str) -> None:
    try:
        await cluster.get(SERVICE_ACCOUNT, Ref(namespace, CONTROLLER))
    except NotFound as error:
        raise NotFound(
            f"Headrace is not installed in namespace {namespace} of this cluster.",
            hint="Install it without its processes: headrace install --no-workloads --no-nodes",
        ) from error
    with suppress(NotFound):
        await cluster.get(DEPLOYMENT, Ref(namespace, CONTROLLER))
        raise Conflict(
            f"The controllers run in this cluster (Deployment {namespace}/{CONTROLLER}), and keep a ledger there.",
            hint="Nothing needs to run here. Or install Headrace without its processes: --no-workloads",
        )


def _settings(wishes: Wishes, hosts: Sequence[str], code_port: int) -> controller.Settings:
    programs = [str(Path(sys.executable).parent), *os.environ.get("PATH", os.defpath).split(os.pathsep)]
    host = f"[{hosts[0]}]" if ":" in hosts[0] else hosts[0]
    return controller.Settings(
        namespace=wishes.namespace,
        ledger=_ledger(wishes),
        code=None,
        code_url=f"https://{host}:{code_port}",
        image=HOST_IMAGE,
        hosts=tuple(hosts),
        tools=client_tools(os.pathsep.join(dict.fromkeys(programs))),
        python=sys.executable,
    )


def _ledger(wishes: Wishes) -> str:
    return wishes.ledger or file_url(wishes.home.ledger)


def _port(listener: socket.socket) -> int:
    return int(listener.getsockname()[1])


async def _ready(why_not: Callable[[], str], say: Say) -> None:
    """Wait until the controllers are ready; say what they wait for when that takes long."""
    told, since_s = "", anyio.current_time()
    while why := why_not():
        if why != told and anyio.current_time() > since_s + _SAID_AFTER_S:
            say(why)
            told = why
        await anyio.sleep(_LOOK_EVERY_S)
