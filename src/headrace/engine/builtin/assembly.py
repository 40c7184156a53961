"""All builtin controllers over one cache, ready to run in a `cluster.controller.Group`."""

from __future__ import annotations

from pathlib import Path

from headrace.clock import Clock
from headrace.cluster.cache import Cache
from headrace.cluster.controller import Runnable
from headrace.cluster.events import Recorder
from headrace.cluster.protocol import Cluster
from headrace.engine.builtin.actions import Performer
from headrace.engine.builtin.definitions import DefinitionCleanup
from headrace.engine.builtin.garbage import GarbageCollector
from headrace.engine.builtin.namespaces import Namespaces
from headrace.engine.builtin.nodes import NodeLifecycle
from headrace.engine.builtin.protection import Protection
from headrace.engine.builtin.scheduler import PodScheduler
from headrace.engine.builtin.sweeping import Sweeper
from headrace.engine.builtin.volumes import VolumeBinder
from headrace.engine.pipeline.registry import Registry


def builtin_controllers(
    cluster: Cluster,
    cache: Cache,
    registry: Registry,
    *,
    clock: Clock,
    volumes: Path,
    root_certificate: str,
) -> list[Runnable]:
    """Return the controllers that every cluster has.

    Args:
        registry: the pipeline's, so that kinds are followed as they come and go.
        volumes: the directory in which local-path volumes are made and removed.
        root_certificate: PEM, published as `kube-root-ca.crt` in every namespace.
    """

    def performer(component: str) -> Performer:
        return Performer(cluster, cache, Recorder(cluster, component, clock=clock))

    controller_manager = performer("controller-manager")
    return [
        GarbageCollector(cluster, cache, registry, controller_manager),
        Namespaces(cluster, cache, registry, controller_manager, clock, root_certificate=root_certificate).controller,
        DefinitionCleanup(cluster, cache, registry, controller_manager).controller,
        *VolumeBinder(cache, performer("persistentvolume-controller"), volumes).controllers,
        *Protection(cache, controller_manager).controllers,
        PodScheduler(cache, performer("default-scheduler"), clock).controller,
        NodeLifecycle(cache, performer("node-controller"), clock).controller,
        *Sweeper(cache, controller_manager, clock).controllers,
    ]
