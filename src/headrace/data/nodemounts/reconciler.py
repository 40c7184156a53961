"""The controller of NodeMounts, on real clusters only: observe a Dataset's, ask clients that are slow, plan, act."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import anyio

from headrace.clock import Clock
from headrace.cluster.cache import Cache
from headrace.cluster.controller import Controller, Result
from headrace.cluster.protocol import Cluster, Scope
from headrace.data.act import TellEvent, perform
from headrace.data.modes.mode import Capabilities
from headrace.data.nodemounts.client import Evidence, is_slow
from headrace.data.nodemounts.daemon import CONTAINER
from headrace.data.nodemounts.observe import MountObserver
from headrace.data.nodemounts.plan import Observed, is_read_only, node_of, plan
from headrace.data.runtime.observe import DatasetObserver
from headrace.data.words import last_words, statuses
from headrace.errors import HeadraceError
from headrace.spec.kind import Doc, Ref
from headrace.spec.kinds import (
    DAEMON_SET,
    DATASET,
    EVENT,
    NODE,
    NODE_MOUNT,
    PERSISTENT_VOLUME,
    PERSISTENT_VOLUME_CLAIM,
    POD,
    SECRET,
    THIN_RUNTIME,
    THIN_RUNTIME_PROFILE,
)

_ASK_WITHIN_S = 5.0
_LOG_LINES = 40


class NodeMounts:
    """Runs the clients that volume drivers ask for.

    Args:
        datasets: of the same cache.
        capabilities: what nodes with the driver can do.
    """

    def __init__(
        self,
        cluster: Cluster,
        cache: Cache,
        datasets: DatasetObserver,
        tell: TellEvent,
        clock: Clock,
        *,
        capabilities: Capabilities,
    ) -> None:
        self._cluster = cluster
        self._cache = cache
        self._datasets = datasets
        self._observer = MountObserver(cache, datasets)
        self._tell = tell
        self._clock = clock
        self._capabilities = capabilities

    def controller(self) -> Controller:
        """Return the controller, which belongs into a group with the same cache. A key is a Dataset's name."""
        controller = Controller("data.nodemounts", self._cache, self.reconcile)
        controller.watches(NODE_MOUNT, self._observer.of_mount)
        controller.watches(DAEMON_SET, self._observer.of_daemon)
        controller.watches(NODE, self._observer.of_node, when=_came_or_went)
        controller.watches(DATASET)
        controller.watches(THIN_RUNTIME)
        controller.watches(THIN_RUNTIME_PROFILE, self._datasets.of_profile)
        controller.watches(PERSISTENT_VOLUME_CLAIM, self._datasets.of_claim)
        controller.watches(PERSISTENT_VOLUME, self._datasets.of_volume)
        controller.watches(SECRET, self._datasets.of_secret)
        return controller.watches(POD, self._observer.of_pod)

    async def reconcile(self, ref: Ref) -> Result:
        """Look once."""
        if not self._observer.concerns(ref):
            return Result()
        observed = self._observer.observe(ref)
        observed = replace(observed, evidence=await self._evidence(observed))
        decided = plan(observed, self._clock.now(), self._capabilities)
        await perform(decided, self._cluster, self._cache, self._tell)
        return Result(decided.again_after_s)

    async def _evidence(self, observed: Observed) -> dict[tuple[str, bool], Evidence]:
        """Ask where the objects do not say why a mount is not served; what cannot be had is left out."""
        found = {}
        for mount in observed.mounts:
            node, read_only = node_of(mount), is_read_only(mount)
            pod, daemon = observed.client(node, read_only=read_only), observed.daemons.get(read_only)
            with anyio.move_on_after(_ASK_WITHIN_S):
                try:
                    if pod is not None and _says_too_little(pod) and is_slow(pod, self._clock.now()):
                        found[node, read_only] = Evidence(log=await self._log(pod))
                    elif pod is None and daemon is not None and is_slow(daemon, self._clock.now()):
                        found[node, read_only] = Evidence(warning=await self._last_warning(daemon))
                except HeadraceError:
                    continue
        return found

    async def _log(self, pod: Doc[Any]) -> str:
        async with self._cluster.logs(pod.ref, container=CONTAINER, tail_lines=_LOG_LINES) as stream:
            return b"".join([chunk async for chunk in stream]).decode(errors="replace")

    async def _last_warning(self, about: Doc[Any]) -> str:
        where = Scope(namespace=about.namespace, fields=f"involvedObject.uid={about.uid},type=Warning")
        page = await self._cluster.list(EVENT, where)
        latest = max(page.items, key=lambda event: str(event.raw.get("lastTimestamp") or ""), default=None)
        return str(latest.raw.get("message") or "") if latest is not None else ""


def _says_too_little(pod: Doc[Any]) -> bool:
    return not last_words(pod) and not all(status.get("ready") for status in statuses(pod))


def _came_or_went(old: Doc[Any] | None, new: Doc[Any] | None) -> bool:
    return old is None or new is None
