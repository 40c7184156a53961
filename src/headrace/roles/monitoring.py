"""What a cluster asks a process of ours: is it alive, may it be sent requests, what does it do. Plain HTTP, no secrets.

`/healthz` answers whenever the event loop does. `/readyz` says in a sentence what is waited for. `/metrics` is
Prometheus' text format.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from headrace.cluster.cache import Cache
from headrace.cluster.controller import Controller, Runnable
from headrace.cluster.lease import Lease
from headrace.cluster.remote import RemoteCluster

STARTING = "It is starting."


class Readiness:
    """Why a process is not ready. Several may wait for different things; ready is who waits for nothing."""

    def __init__(self, *parts: str) -> None:
        self._waiting = dict.fromkeys(parts or ("start",), STARTING)

    def say(self, part: str, why: str) -> None:
        """Note what a part waits for; an empty text when for nothing."""
        self._waiting[part] = why

    def sayer(self, part: str) -> Callable[[str], None]:
        """Return `say` for one part."""
        return lambda why: self.say(part, why)

    @property
    def why_not(self) -> str:
        """What is waited for; empty when it is ready."""
        return " ".join(why for why in dict.fromkeys(self._waiting.values()) if why)


class Metrics:
    """Collects when it is asked, from what the parts count anyway. Satisfies prometheus_client's `Collector`."""

    def __init__(self, cache: Cache, runnables: Sequence[Runnable] = (), lease: Lease | None = None) -> None:
        self._cache = cache
        self._controllers = [runnable for runnable in runnables if isinstance(runnable, Controller)]
        self._lease = lease

    def collect(self) -> Iterable[Any]:
        """Yield each family with its samples of now."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        if self._lease is not None:
            leader = GaugeMetricFamily("headrace_leader", "1 while this process holds the lease.")
            leader.add_metric([], float(self._lease.is_leader))
            yield leader
        results = CounterMetricFamily("headrace_reconciles", "Reconciles by outcome.", labels=["controller", "result"])
        depth = GaugeMetricFamily("headrace_queue_depth", "Objects ready to be reconciled.", labels=["controller"])
        for controller in self._controllers:
            depth.add_metric([controller.name], controller.depth)
            for result, count in controller.results.items():
                results.add_metric([controller.name, result], count)
        yield results
        yield depth
        objects = GaugeMetricFamily("headrace_cached_objects", "Objects held in memory.", labels=["resource"])
        for resource, count in self._cache.sizes().items():
            objects.add_metric([resource], count)
        yield objects


class Requests:
    """Collects what a process asks of the API server: whether it is us that the server is busy with."""

    def __init__(self, cluster: RemoteCluster) -> None:
        self._cluster = cluster

    def collect(self) -> Iterable[Any]:
        """Yield the one family there is."""
        from prometheus_client.core import CounterMetricFamily

        family = CounterMetricFamily(
            "headrace_api_requests", "Requests the API server answered.", labels=["method", "resource", "status"]
        )
        for (method, resource, status), count in self._cluster.requests.items():
            family.add_metric([method, resource, str(status)], count)
        yield family


def monitoring_app(readiness: Readiness, metrics: Callable[[], Iterable[Any]]) -> Starlette:
    """Return the application. `metrics` returns the collectors there are by now."""

    async def healthz(_request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(_request: Request) -> Response:
        why = readiness.why_not
        return PlainTextResponse(f"{why or 'ok'}\n", status_code=503 if why else 200)

    async def exposition(_request: Request) -> Response:
        return Response(exposed(metrics()), media_type="text/plain; version=0.0.4; charset=utf-8")

    return Starlette(
        routes=[Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", exposition)],
    )


def exposed(collectors: Iterable[Any]) -> bytes:
    """Return what the collectors and this process itself tell, in Prometheus' text format."""
    from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector, generate_latest

    registry = CollectorRegistry(auto_describe=False)
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    for collector in collectors:
        registry.register(collector)
    return generate_latest(registry)
