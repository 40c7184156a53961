"""Everything that reconciles, wired together: one cache, and what works on it. Embedded and on a cluster it is the same."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from headrace.admission.chain import admitters
from headrace.admission.review import Admitter
from headrace.api.code import CodeStore
from headrace.clock import Clock
from headrace.cluster.cache import Cache
from headrace.cluster.controller import Controller, Runnable, owned_by
from headrace.cluster.events import Outbox, Recorder
from headrace.cluster.protocol import Cluster
from headrace.data.act import TellEvent
from headrace.data.client import ClientTools
from headrace.data.modes.mode import Capabilities
from headrace.data.nodemounts.reconciler import NodeMounts
from headrace.data.operations.reconciler import operation_controllers
from headrace.data.resolve import Resolver
from headrace.data.runtime.observe import DatasetObserver
from headrace.data.runtime.reconciler import runtime_controller
from headrace.data.verify.pod import HOST_IMAGE, ProbeSettings
from headrace.data.verify.reconciler import Verifier
from headrace.data.wrapper.reconciler import wrapper_controller
from headrace.jobs.dataplane import DataPlane
from headrace.jobs.reconcile import CodeUrls, Jobs, index_pods_by_job
from headrace.jobs.workloads import Workloads
from headrace.ledger.metering import Metering, is_metered
from headrace.ledger.store import Ledger
from headrace.pools.reconcile import Pools
from headrace.scheduling.loop import Loop
from headrace.spec.kind import Kind
from headrace.spec.kinds import (
    DATASET,
    NODE,
    PERSISTENT_VOLUME_CLAIM,
    POD,
    POOL,
    QUEUE,
    TRAIN_JOB,
)


@dataclass(frozen=True)
class Parts:
    """What the control process runs, and what the API asks."""

    runnables: list[Runnable]
    workloads: Workloads
    admitters: tuple[Admitter, ...]


def build(
    cluster: Cluster,
    cache: Cache,
    *,
    clock: Clock,
    tools: ClientTools,
    ledger: Ledger,
    code: CodeStore,
    trusted: Iterable[str],
    probe_image: str = "",
    serves_nodes: bool = False,
) -> Parts:
    """Return all controllers over one cache, which the caller runs in one group.

    Args:
        tools: what is brought into storage clients' containers, wherever they run.
        trusted: users who are Headrace itself.
        probe_image: an image with a shell, in which a mount is looked at; by default this machine's own root.
        serves_nodes: whether nodes' volume drivers ask for clients; the embedded engine's worlds run them themselves.
    """
    events = Recorder(cluster, "headrace", clock=clock)
    capabilities = Capabilities(tools=tools)
    observer = DatasetObserver(cache)
    resolver = Resolver(cache, observer)
    data = DataPlane(resolver, capabilities)
    workloads = Workloads(cluster, cache, data, clock, events)
    outbox = Outbox(Recorder(cluster, "headrace-data", clock=clock))
    probes = ProbeSettings(image=probe_image or HOST_IMAGE)
    return Parts(
        runnables=[
            outbox,
            *_data(cluster, cache, observer, capabilities, clock, outbox.event, probes),
            *(_node_clients(cluster, cache, observer, capabilities, clock, outbox.event) if serves_nodes else ()),
            *Pools(cluster, cache, clock).controllers(),
            *_jobs(cluster, cache, data, workloads, clock, events, code.source),
            _metering(cluster, cache, ledger),
        ],
        workloads=workloads,
        admitters=admitters(
            cache, observer, resolver, capabilities_of=lambda _pool: capabilities, trusted=frozenset(trusted)
        ),
    )


def _data(
    cluster: Cluster,
    cache: Cache,
    observer: DatasetObserver,
    capabilities: Capabilities,
    clock: Clock,
    tell: TellEvent,
    probes: ProbeSettings,
) -> list[Runnable]:
    """Return what turns labelled claims into verified datasets."""
    verifier = Verifier(
        cluster, cache, observer, tell, clock, capabilities_of=lambda _pool: capabilities, settings=probes
    )
    return [
        wrapper_controller(cluster, cache, tell, clock),
        runtime_controller(cluster, cache, observer, tell, clock, further=verifier.begin),
        verifier.controller(),
        *operation_controllers(cluster, cache, tell, clock),
    ]


def _node_clients(
    cluster: Cluster,
    cache: Cache,
    observer: DatasetObserver,
    capabilities: Capabilities,
    clock: Clock,
    tell: TellEvent,
) -> list[Runnable]:
    """Return what runs the clients that nodes' volume drivers ask for."""
    return [NodeMounts(cluster, cache, observer, tell, clock, capabilities=capabilities).controller()]


def _jobs(
    cluster: Cluster,
    cache: Cache,
    data: DataPlane,
    workloads: Workloads,
    clock: Clock,
    events: Recorder,
    code_urls: CodeUrls,
) -> list[Runnable]:
    """Return the reconciler of TrainJobs and the scheduling loop, which whatever could start a gang wakes."""
    index_pods_by_job(cache)
    jobs = Jobs(cluster, cache, data, clock, events, code_urls)
    loop = Loop(workloads, clock)
    watched: tuple[Kind[Any], ...] = (TRAIN_JOB, POD, NODE, POOL, QUEUE, DATASET, PERSISTENT_VOLUME_CLAIM)
    for kind in watched:
        cache.subscribe(kind, lambda _old, _new: loop.wake())
    controller = Controller("trainjobs", cache, jobs.reconcile)
    controller.watches(TRAIN_JOB).watches(POD, owned_by(TRAIN_JOB))
    return [controller, loop]


def _metering(cluster: Cluster, cache: Cache, ledger: Ledger) -> Controller:
    metering = Metering(cluster, cache, ledger)
    return Controller("metering", cache, metering.reconcile, workers=2).watches(POD, when=is_metered)
