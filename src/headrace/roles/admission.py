"""The `admission` process: the two webhooks that a cluster's API server asks. `python -m headrace.roles.admission`

Any number of replicas run, all alike: they read the cluster and one Secret with the certificate, and write nothing. One
is ready when its caches are, because before that a labelled claim looks like any other.
"""

from __future__ import annotations

import functools
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import click

from headrace.admission.chain import chain
from headrace.admission.service import Unchanged, Webhooks
from headrace.admission.shape import Normaliser, Validator
from headrace.cluster.cache import Cache
from headrace.cluster.protocol import Cluster
from headrace.data.modes.mode import Capabilities
from headrace.data.resolve import Resolver
from headrace.data.runtime.observe import DatasetObserver
from headrace.install.names import CONTROLLER
from headrace.roles import cluster_options, process
from headrace.roles.certificates import ServedCertificate
from headrace.roles.client_tools import cluster_tools
from headrace.roles.followed import KINDS, SCOPES
from headrace.roles.monitoring import Metrics, Readiness, Requests, monitoring_app
from headrace.roles.prerequisites import await_kinds
from headrace.roles.serving import Server, bind
from headrace.roles.web_options import API_OPTIONS, PLAIN_OPTIONS
from headrace.telemetry import logger

SERVING = "admission.serving"

_CHANGED_AUTHOR = "The annotation that says who submitted this was changed on its way."


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the command line said; see docs/settings.md."""

    kubeconfig: Path | None
    context: str | None
    namespace: str
    monitoring: tuple[str, int]
    listen: tuple[str, int]
    trusted: tuple[str, ...]


async def main(settings: Settings) -> None:
    """Serve until cancelled."""
    readiness, collectors = Readiness("caches", "certificate"), list[Any]()
    monitoring = bind(settings.monitoring[1], settings.monitoring[0])
    listener = bind(settings.listen[1], settings.listen[0])
    async with cluster_options.connect(settings.kubeconfig, settings.context) as cluster:
        async with anyio.create_task_group() as tasks:
            health = Server(monitoring_app(readiness, lambda: collectors), options=PLAIN_OPTIONS)
            tasks.start_soon(functools.partial(health.serve, sockets=[monitoring]))
            await await_kinds(cluster, KINDS, readiness.sayer("caches"))
            cache = Cache(cluster, SCOPES)
            webhooks = make_webhooks(cache, _trusted(settings))
            collectors += [Metrics(cache), Answers(webhooks), Requests(cluster)]
            await _serve(settings, cluster, cache, webhooks, readiness, listener, tasks)


async def _serve(
    settings: Settings,
    cluster: Cluster,
    cache: Cache,
    webhooks: Webhooks,
    readiness: Readiness,
    listener: Any,
    tasks: Any,
) -> None:
    readiness.say("caches", "It has not read the cluster yet.")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate = ServedCertificate(cluster, settings.namespace, readiness.sayer("certificate"), [context])
    tasks.start_soon(cache.run)
    tasks.start_soon(certificate.cache.run)
    await cache.synced()
    readiness.say("caches", "")
    await certificate.there.wait()
    logger().info(SERVING, port=listener.getsockname()[1])
    await Server(webhooks, context=context, options=API_OPTIONS).serve(sockets=[listener])


def make_webhooks(cache: Cache, trusted: frozenset[str]) -> Webhooks:
    """Return the webhooks over a cache that is not running yet.

    What a server of our own does itself comes around the chain: spellings first, checks last.
    """
    capabilities = Capabilities(tools=cluster_tools())
    observer = DatasetObserver(cache)
    made = chain(
        cache, observer, Resolver(cache, observer), capabilities_of=lambda _pool: capabilities, trusted=trusted
    )
    stamp = made.mutating[0]
    return Webhooks(
        mutating=(Normaliser(), *made.mutating),
        validating=(*made.validating, Unchanged(stamp, _CHANGED_AUTHOR), Validator()),
    )


def _trusted(settings: Settings) -> frozenset[str]:
    ours = f"system:serviceaccount:{settings.namespace}:{CONTROLLER}"
    return frozenset((ours, *settings.trusted))


class Answers:
    """Collects how webhooks were answered."""

    def __init__(self, webhooks: Webhooks) -> None:
        self._webhooks = webhooks

    def collect(self) -> Iterable[Any]:
        """Yield the one family there is."""
        from prometheus_client.core import CounterMetricFamily

        family = CounterMetricFamily(
            "headrace_admission_answers", "AdmissionReviews by outcome.", labels=["webhook", "outcome"]
        )
        for (path, outcome), count in self._webhooks.answers.items():
            family.add_metric([path.lstrip("/"), outcome], count)
        yield family


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@cluster_options.connection_options
@click.option("--listen", default="0.0.0.0:8443", metavar="HOST:PORT", help="Where the API server finds the webhooks.")
@click.option("--trust", "trusted", multiple=True, metavar="USER", help="Another user who is Headrace itself.")
def command(monitoring: str, listen: str, **options: Any) -> None:
    """Answer the API server's admission webhooks."""
    settings = Settings(
        monitoring=cluster_options.address(monitoring), listen=cluster_options.address(listen), **options
    )
    process.run_program("admission", lambda: main(settings))


if __name__ == "__main__":
    command()
