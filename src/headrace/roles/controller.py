"""The `controller` process: everything that reconciles, on a cluster. `python -m headrace.roles.controller`

Any number of replicas may run. All follow the cluster and answer computed reads; the one that holds the lease
reconciles. Losing the lease ends the process, so that nothing half done goes on in it.
"""

from __future__ import annotations

import functools
import platform
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from socket import socket
from typing import Any, NamedTuple

import anyio
import anyio.to_thread
import click

from headrace.api.archives import DatabaseArchives, DirectoryArchives
from headrace.api.code import CodeStore
from headrace.api.reads import Reads
from headrace.clock import SystemClock
from headrace.cluster.cache import Cache
from headrace.cluster.controller import Group
from headrace.cluster.fenced import Fenced
from headrace.cluster.lease import Lease
from headrace.cluster.protocol import Cluster
from headrace.cluster.remote import RemoteCluster
from headrace.data.client import ClientTools
from headrace.errors import Unavailable
from headrace.install.names import CODE_PORT, CONTROLLER, server_hosts
from headrace.ledger.store import Ledger
from headrace.pools.serving import ServingCertificates
from headrace.roles import cluster_options, controllers, process
from headrace.roles.aggregation import ReadsServer
from headrace.roles.certificates import CertificateKeeper, ServedCertificate
from headrace.roles.client_tools import cluster_tools
from headrace.roles.followed import KINDS, SCOPES, WORKED_ON
from headrace.roles.keys import installation_key
from headrace.roles.monitoring import Metrics, Readiness, Requests, monitoring_app
from headrace.roles.prerequisites import await_kinds, own_name
from headrace.roles.projects import Projects
from headrace.roles.serving import Server, bind
from headrace.roles.web_options import PLAIN_OPTIONS
from headrace.spec.kind import Ref
from headrace.spec.names import PROJECT_LABEL
from headrace.telemetry import logger

LEDGER_AWAY = "ledger.away"

_LEDGER_AGAIN_S = 5.0


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the command line said; see docs/settings.md.

    Args:
        tools: what storage clients are brought.
        python: the interpreter of workers, as `image` has it.
    """

    namespace: str
    ledger: str
    code: Path | None
    code_url: str
    image: str
    trusted: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    tools: ClientTools = field(default_factory=cluster_tools)
    python: str = "python3"


class Listeners(NamedTuple):
    """Where a controller answers: health and metrics, computed reads, code archives."""

    monitoring: socket
    reads: socket
    code: socket


def new_readiness() -> Readiness:
    """Return what says what a controller waits for."""
    return Readiness("controllers", "certificate", "front proxy")


async def main(
    settings: Settings,
    cluster: RemoteCluster,
    listeners: Listeners,
    readiness: Readiness | None = None,
) -> None:
    """Work until cancelled, or until the lease is lost, which raises Unavailable. `readiness` says what it waits for."""
    readiness, metrics = readiness or new_readiness(), list[Any]()
    async with anyio.create_task_group() as tasks:
        server = Server(monitoring_app(readiness, lambda: metrics), options=PLAIN_OPTIONS)
        tasks.start_soon(functools.partial(server.serve, sockets=[listeners.monitoring]))
        await _work(settings, cluster, readiness, metrics, listeners)


async def _work(
    settings: Settings, cluster: RemoteCluster, readiness: Readiness, metrics: list[Any], listeners: Listeners
) -> None:
    say, clock = readiness.sayer("controllers"), SystemClock()
    await await_kinds(cluster, KINDS, say)
    trusted = (await own_name(cluster), *settings.trusted)
    ledger = await _open_ledger(settings.ledger, say)
    try:
        serving = ReadsServer(
            cluster,
            settings.namespace,
            clock,
            say_certificate=readiness.sayer("certificate"),
            say_proxy=readiness.sayer("front proxy"),
        )
        code = await _code_store(settings, cluster, ledger, serving.certificate)
        cache = Cache(cluster, {**SCOPES, **WORKED_ON})
        lease = Lease(cluster, Ref(settings.namespace, CONTROLLER), _identity(), is_final=True)
        leading = Fenced(cluster, lease)
        parts = controllers.build(
            leading,
            cache,
            clock=clock,
            tools=settings.tools,
            ledger=ledger,
            code=code,
            trusted=trusted,
            probe_image=settings.image,
            serves_nodes=True,
        )
        keeper = CertificateKeeper(leading, settings.namespace, _hosts(settings), clock)
        runnables = [
            *parts.runnables,
            Projects(leading, cache).controller(),
            ServingCertificates(leading, cache).controller(),
            keeper,
        ]
        metrics += [Metrics(cache, runnables, lease), Requests(cluster)]
        say("It has not read the cluster yet.")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(serving.follow)
            await tasks.start(Group(cache, runnables, lease=lease).run)
            say("")
            reads = Reads(cache, parts.workloads, ledger, code, clock, project_label=PROJECT_LABEL)
            await serving.serve(reads, listeners.reads, listeners.code)
    finally:
        ledger.close()


async def _code_store(
    settings: Settings, cluster: Cluster, ledger: Ledger, certificate: ServedCertificate
) -> CodeStore:
    def authority() -> str:
        if not certificate.authority:  # a worker that was not told whom to trust would wait for its code in vain
            raise Unavailable("There is no certificate to serve code with yet.", hint="It is made in a moment.")
        return certificate.authority

    url = settings.code_url or f"https://{CONTROLLER}.{settings.namespace}.svc:{CODE_PORT}"
    return CodeStore(
        DatabaseArchives(ledger.database) if settings.code is None else DirectoryArchives(settings.code),
        await installation_key(cluster, settings.namespace),
        url,
        python=settings.python,
        image=settings.image,
        authority=authority,
    )


async def _open_ledger(url: str, say: Callable[[str], None]) -> Ledger:
    """Open the ledger; a database server that does not answer yet is waited for."""
    told = ""
    while True:
        try:
            return await anyio.to_thread.run_sync(Ledger, url)
        except Unavailable as error:
            say(str(error))
            if str(error) != told:
                logger().warning(LEDGER_AWAY, why=str(error))
                told = str(error)
            await anyio.sleep(_LEDGER_AGAIN_S)


def _hosts(settings: Settings) -> tuple[str, ...]:
    return (*server_hosts(settings.namespace), *settings.hosts)


def _identity() -> str:
    """Return a name that no other process has ever had."""
    return f"{platform.node()}_{uuid.uuid4()}"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@cluster_options.connection_options
@click.option(
    "--ledger",
    envvar=cluster_options.LEDGER_VARIABLE,
    required=True,
    metavar="URL",
    help="Where usage is kept: postgresql://… for several replicas, sqlite:///FILE for one.",
)
@click.option(
    "--code",
    type=click.Path(file_okay=False, path_type=Path),
    help="A directory for code archives; by default they are in the ledger's database.",
)
@click.option(
    "--code-url", default="", metavar="URL", help="How workers reach the code archives; our Service by default."
)
@click.option("--listen", default="0.0.0.0:8443", metavar="HOST:PORT", help="Where the API server asks computed reads.")
@click.option("--code-listen", default="0.0.0.0:8444", metavar="HOST:PORT", help="Where workers fetch their code.")
@click.option(
    "--image", default="", help="Headrace's own image, in which workers fetch their code and probes look at mounts."
)
@click.option(
    "--host", "hosts", multiple=True, metavar="NAME", help="Another name or address that our servers are called by."
)
@click.option("--trust", "trusted", multiple=True, metavar="USER", help="Another user who is Headrace itself.")
def command(
    kubeconfig: Path | None, context: str | None, monitoring: str, listen: str, code_listen: str, **options: Any
) -> None:
    """Reconcile a cluster's Headrace objects, and answer its computed reads."""
    places = {"monitoring": monitoring, "reads": listen, "code": code_listen}
    addresses = {name: cluster_options.address(text) for name, text in places.items()}

    async def program() -> None:
        listeners = Listeners(**{name: bind(port, host) for name, (host, port) in addresses.items()})
        async with cluster_options.connect(kubeconfig, context) as cluster:
            await main(Settings(**options), cluster, listeners)

    process.run_program("controller", program)


if __name__ == "__main__":
    command()
