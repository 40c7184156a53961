"""The node agent: the kubelet's role on one node, composed.

It watches the pods bound to its node, runs one worker for each, follows its world's journal, keeps Node, Lease and
CSINode, and offers the node's endpoint. It keeps nothing of its own that cannot be found again: killed at any moment,
the next one takes up every pod from its record, the journal and the world's state.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

import anyio
from anyio.abc import TaskGroup
from starlette.applications import Starlette

from headrace.clock import Clock, SystemClock
from headrace.cluster.cache import Cache
from headrace.cluster.protocol import Cluster, Scope
from headrace.errors import HeadraceError
from headrace.node import checkpoint, server
from headrace.node.config import NodeConfig
from headrace.node.drivers import VolumeDriver
from headrace.node.following import Following
from headrace.node.handlers import Handlers
from headrace.node.heartbeat import VERSION, Heartbeat
from headrace.node.images.images import Images
from headrace.node.names import Names
from headrace.node.network import Addresses
from headrace.node.objects import WatchedObjects
from headrace.node.parking import parked
from headrace.node.peers import Follow, OwnPodsAndSlices, all_pods
from headrace.node.podspec import PodSpec
from headrace.node.releasing import release
from headrace.node.shared import Events, Recorder, Shared, Surroundings
from headrace.node.tokens import Tokens
from headrace.node.view import View
from headrace.node.volumes.pod_volumes import PodVolumes
from headrace.node.volumes.published import PublishedVolumes
from headrace.node.volumes.trash import Trash
from headrace.node.worker import Worker
from headrace.node.world import World
from headrace.spec.core.pod import Pod
from headrace.spec.kind import Doc, Json
from headrace.spec.kinds import POD, SERVICE
from headrace.spec.names import NODE_TYPE_LABEL
from headrace.telemetry import logger

AGENT_STARTED = "agent.started"
POD_ADDED = "agent.pod_added"
POD_FINISHED = "agent.pod_finished"
WORKER_FAILED = "agent.worker_failed"
ORPHAN_RELEASED = "agent.orphan_released"

_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 60.0
_HOSTS = Path("/etc/hosts")

ServeEndpoint = Callable[[Starlette], Coroutine[Any, Any, None]]

_log = logger(component="agent")


class Agent:
    """One node.

    Args:
        drivers: the node's volume drivers by name; CSINode lists them.
        recorder: writes events of pods.
        say: told why the cluster does not hear of the node; an empty text when it does.
    """

    def __init__(
        self,
        config: NodeConfig,
        *,
        cluster: Cluster,
        world: World,
        drivers: Mapping[str, VolumeDriver],
        recorder: Recorder,
        clock: Clock | None = None,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._config = config
        self._cluster = cluster
        self._world = world
        self._drivers = drivers
        self._clock = clock or SystemClock()
        self._events = Events(recorder)
        self._workers: dict[str, Worker] = {}
        self._images = Images(config.images, config.mirrors, agent=f"headrace/{VERSION}", in_use=self._images_in_use)
        self._heartbeat = Heartbeat(config, cluster, drivers, self._clock, say=say, images=self._images.shown)
        self._images.subscribe(self._heartbeat.changed)
        scopes = {POD: Scope(fields=f"spec.nodeName={config.name}")}
        self._cache = Cache(cluster, scopes, clock=self._clock)
        self._surroundings = Surroundings()
        self._following = Following(
            world,
            find=self._workers.get,
            all=self._workers.values,
            greeted=self._greeted,
            ready=self._heartbeat.set_ready,
        )

    async def run(self, serve: ServeEndpoint | None = None) -> None:
        """Run the node until cancelled. Pods go on running after that; the next agent takes them up.

        Args:
            serve: given the endpoint's ASGI application once, and runs a server for it with TLS until cancelled.
        """
        self._config.pods.mkdir(mode=0o700, parents=True, exist_ok=True)
        # The world stays attached until the last worker has cleaned up, which takes orders to it.
        following = anyio.CancelScope(shield=True)
        async with anyio.create_task_group() as outer:
            try:
                async with anyio.create_task_group() as tasks:
                    await self._begin(tasks, serve)
                    outer.start_soon(self._follow, following)
                    await anyio.sleep_forever()
            finally:
                following.cancel()

    async def _begin(self, tasks: TaskGroup, serve: ServeEndpoint | None) -> None:
        """Start everything but the following of the world's journal."""
        self._tasks = tasks
        self._shared = self._share(tasks)
        self._claim_addresses()
        tasks.start_soon(self._events.run)
        tasks.start_soon(self._shared.trash.run)
        tasks.start_soon(self._images.run)
        tasks.start_soon(self._shared.names.run)
        tasks.start_soon(self._heartbeat.run)
        if serve is not None:
            tasks.start_soon(serve, self.app())
        self._cache.reader(SERVICE)
        tasks.start_soon(self._cache.run)
        await self._cache.synced()  # a pod's environment names the Services there are
        self._cache.subscribe(POD, self._heard)
        await self._cache.synced()
        _log.info(AGENT_STARTED, node=self._config.name, pods=len(self._workers))
        self._release_orphans()

    async def _follow(self, until: anyio.CancelScope) -> None:
        with until:
            await self._following.run()

    def _greeted(self, hello: Json) -> None:
        self._surroundings.learn(hello)
        self._images.learn(hello)

    def _images_in_use(self) -> set[str]:
        """Return the images of which a pod's container may still have a root."""
        records = [worker.record for worker in self._workers.values() if not worker.record.released]
        return {container.image.id for record in records for container in record.containers.values() if container.image}

    @property
    def is_attached(self) -> bool:
        """Whether the world answers and its journal has been replayed."""
        return self._following.is_attached

    @property
    def told_ready(self) -> anyio.Event:
        """Set once the cluster knows that pods can run here."""
        return self._heartbeat.told_ready

    @property
    def view(self) -> View:
        """What the endpoint shows; only while the agent runs."""
        return View(self._shared, self._workers.values)

    def app(self) -> Starlette:
        """Return the node's endpoint (`server`); only while the agent runs."""
        return server.app(self.view, self._clock)

    def _share(self, tasks: TaskGroup) -> Shared:
        config, cluster, world = self._config, self._cluster, self._world
        objects = WatchedObjects(cluster, tasks, self._objects_changed)
        tokens = Tokens(cluster, self._clock)
        published = PublishedVolumes(config.name, self._drivers, config.pods)
        volumes = PodVolumes(
            cluster=cluster,
            world=world,
            objects=objects,
            tokens=tokens,
            published=published,
            pods=config.pods,
            closed=str(config.closed),
            allocatable=config.offered,
        )
        return Shared(
            name=config.name,
            host_ip=config.host_ip,
            clock=self._clock,
            cluster=cluster,
            world=world,
            events=self._events,
            addresses=Addresses(config.pod_network, config.host_ip),
            names=Names(self._follow_peers(), self._cache, tasks, _machine_hosts()),
            objects=objects,
            tokens=tokens,
            volumes=volumes,
            trash=Trash(config.directory / "trash"),
            published=published,
            handlers=Handlers(world),
            images=self._images,
            pods=config.pods,
            surroundings=self._surroundings,
            closed=str(config.closed),
            allocatable=config.offered,
            base_environment=config.base_environment,
            parked=self._parked,
            shows_addresses=bool(config.pod_network) or not ipaddress.ip_address(config.host_ip).is_loopback,
        )

    def _follow_peers(self) -> Follow:
        if self._config.sees_all_pods:
            return all_pods(self._cluster)
        return OwnPodsAndSlices(self._cluster, self._cache, self._config.name, self._config.host_ip)

    def _parked(self, pod: PodSpec) -> str:
        config = self._config
        return parked(pod, config.name, config.labels.get(NODE_TYPE_LABEL, "")) if config.parks_daemon_sets else ""

    def _claim_addresses(self) -> None:
        """Old pods keep their addresses: claim all of them before the first new pod takes one."""
        for directory in self._config.pods.iterdir():
            record = checkpoint.load(directory / "record.json")
            if record is not None and record.address and not record.released:
                self._shared.addresses.claim(directory.name, record.address)

    # -- pods ------------------------------------------------------------------------------------------------------

    def _heard(self, old: Doc[Pod] | None, new: Doc[Pod] | None) -> None:
        if old is not None and (new is None or new.uid != old.uid) and old.uid in self._workers:
            self._workers[old.uid].gone()
        if new is None:
            return
        pod = PodSpec(new.raw)
        worker = self._workers.get(pod.uid)
        if worker is not None:
            worker.update(pod)
            return
        self._workers[pod.uid] = self._worker(pod)
        _log.info(POD_ADDED, node=self._config.name, pod=str(pod), uid=pod.uid)
        self._tasks.start_soon(self._run, pod.uid)

    def _worker(self, pod: PodSpec) -> Worker:
        record = checkpoint.load(self._shared.place(pod.uid).record)
        if record is None:
            record = checkpoint.from_status(pod)
            if record.address and record.any_running:
                self._shared.addresses.claim(pod.uid, record.address)
        return Worker(self._shared, pod, record, settled=self._following.settled)

    async def _run(self, uid: str) -> None:
        """Run a pod's worker; one that fails unexpectedly is made anew from its record and harms no other pod."""
        pause_s = _FIRST_PAUSE_S
        while True:
            worker = self._workers[uid]
            try:
                await worker.run()
            except Exception:  # noqa: BLE001 - logged with its traceback; the other pods must go on
                _log.exception(WORKER_FAILED, pod=str(worker.pod), uid=uid)
                await anyio.sleep(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
                fresh = self._worker(worker.pod)
                if worker.is_gone:
                    fresh.gone()
                self._workers[uid] = fresh
            else:
                break
        del self._workers[uid]
        self._following.settled()
        _log.info(POD_FINISHED, node=self._config.name, pod=str(worker.pod), uid=uid)

    def _objects_changed(self, uid: str) -> None:
        if uid in self._workers:
            self._workers[uid].objects_changed()

    def _release_orphans(self) -> None:
        """Pods whose objects went while no agent looked leave nothing behind either."""
        for directory in self._config.pods.iterdir():
            if directory.name not in self._workers:
                self._tasks.start_soon(self._release_orphan, directory.name)

    async def _release_orphan(self, uid: str) -> None:
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                await release(self._shared, uid)
                break
            except HeadraceError as error:
                _log.warning(WORKER_FAILED, uid=uid, error=str(error))
                await anyio.sleep(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        self._shared.trash.put(self._shared.place(uid).root)
        self._shared.addresses.give_back(uid)
        _log.info(ORPHAN_RELEASED, node=self._config.name, uid=uid)


def _machine_hosts() -> str:
    try:
        return _HOSTS.read_text()
    except OSError:
        return ""  # a machine without the file knows no names but DNS's
