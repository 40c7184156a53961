"""What all pods of one node share: the seams they are run through, and the one queue of their events."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import anyio

from headrace.clock import Clock
from headrace.cluster.protocol import Cluster
from headrace.node.downward import PodFacts
from headrace.node.handlers import Handlers
from headrace.node.images.images import Images
from headrace.node.names import Names
from headrace.node.network import Addresses
from headrace.node.objects import WatchedObjects
from headrace.node.podspec import PodSpec
from headrace.node.tokens import Tokens
from headrace.node.volumes.places import PodPlace
from headrace.node.volumes.pod_volumes import PodVolumes
from headrace.node.volumes.published import PublishedVolumes
from headrace.node.volumes.trash import Trash
from headrace.node.world import World
from headrace.spec.kind import Doc, Json
from headrace.spec.kinds import POD

EventType = Literal["Normal", "Warning"]


class Recorder(Protocol):
    """Writes events; never raises into its caller."""

    async def event(self, doc: Doc[Any], type: EventType, reason: str, message: str) -> None: ...


class Events:
    """Events of pods, written in order by a task of their own: telling about a start must not delay it."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._queue: deque[tuple[PodSpec, EventType, str, str]] = deque()
        self._wake = anyio.Event()

    def normal(self, pod: PodSpec, reason: str, message: str) -> None:
        self._put(pod, "Normal", reason, message)

    def warning(self, pod: PodSpec, reason: str, message: str) -> None:
        self._put(pod, "Warning", reason, message)

    def _put(self, pod: PodSpec, kind: EventType, reason: str, message: str) -> None:
        self._queue.append((pod, kind, reason, message))
        self._wake.set()

    async def run(self) -> None:
        """Write events until cancelled."""
        while True:
            await self._wake.wait()
            self._wake = anyio.Event()
            while self._queue:
                pod, kind, reason, message = self._queue.popleft()
                await self._recorder.event(Doc(POD, pod.raw), kind, reason, message)


class Surroundings:
    """What the world said of itself when it was attached last."""

    def __init__(self) -> None:
        self.relocates = ""
        """Why paths are relocated (no user namespaces on this machine); empty where every mount is in its place."""
        self.started_ns = 0
        """When the world started, wall time."""

    def learn(self, hello: Json) -> None:
        """Take in a world's `hello`."""
        self.started_ns = int(hello.get("started_wall_ns") or 0)
        features, reasons = hello.get("features") or {}, hello.get("reasons") or {}
        is_plain = features.get("userns") is False
        self.relocates = str(reasons.get("userns") or "this machine has no user namespaces") if is_plain else ""


@dataclass(frozen=True)
class Shared:
    """One node's parts, as its pods see them."""

    name: str
    host_ip: str
    clock: Clock
    cluster: Cluster
    world: World
    events: Events
    addresses: Addresses
    names: Names
    objects: WatchedObjects
    tokens: Tokens
    volumes: PodVolumes
    trash: Trash
    published: PublishedVolumes
    handlers: Handlers
    images: Images
    pods: Path
    surroundings: Surroundings
    closed: str
    allocatable: dict[str, str]
    base_environment: Mapping[str, str]
    parked: Callable[[PodSpec], str]
    """Returns why a pod is not begun here; empty for one that is."""
    shows_addresses: bool
    """Whether the cluster is told pods' addresses: a real API server takes no loopback address into an EndpointSlice, and
    one that is there keeps all others of its Service out."""

    def now(self) -> float:
        """Wall seconds since the epoch."""
        return self.clock.now().timestamp()

    def place(self, uid: str) -> PodPlace:
        return PodPlace(self.pods, uid)

    def facts(self, pod_ip: str) -> PodFacts:
        return PodFacts(node=self.name, host_ip=self.host_ip, pod_ip=pod_ip)
