"""What a pod needs before its first container, made by a task that tries until it succeeds or is no longer wanted.

Volumes, the hosts file, the pod's place in the world. A volume that cannot be mounted keeps the pod Pending with a
FailedMount event; it is tried again with growing pauses, and at once when an object it waits for changes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import anyio
from anyio.abc import TaskGroup

from headrace.errors import HeadraceError, Unavailable
from headrace.node.network import world_hostname
from headrace.node.podspec import PodSpec
from headrace.node.record import PodRecord
from headrace.node.shared import Shared
from headrace.node.volumes.pod_volumes import MountFailed, Source

_FIRST_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 60.0


class Preparation:
    """Prepares one pod, and keeps what it prepared fresh.

    Args:
        tasks: where the work is done.
        changed: called after the record was changed.
    """

    def __init__(self, shared: Shared, record: PodRecord, tasks: TaskGroup, changed: Callable[[], None]) -> None:
        self._shared = shared
        self._record = record
        self._tasks = tasks
        self._changed = changed
        self._sources: Mapping[str, Source] | None = None
        self._scope: anyio.CancelScope | None = None
        self._refreshing = anyio.Lock()
        self._poke = anyio.Event()

    @property
    def is_running(self) -> bool:
        return self._scope is not None

    def begin(self, pod: PodSpec) -> None:
        """Begin to prepare, unless that is being done."""
        if self._scope is None:
            self._scope = anyio.CancelScope()
            self._tasks.start_soon(self._prepare, pod, self._scope)

    def cancel(self) -> None:
        """Nobody wants the pod prepared any more. It is over when `is_running` says so; `changed` is called then."""
        if self._scope is not None:
            self._scope.cancel()

    def objects_changed(self, pod: PodSpec) -> None:
        """A ConfigMap, a Secret or the pod's own fields changed: try again now, or bring files up to date."""
        self._poke.set()
        if self._record.prepared and not self.is_running:
            self._tasks.start_soon(self._refresh, pod)

    async def volumes(self, pod: PodSpec) -> Mapping[str, Source]:
        """Return where the pod's volumes are; after a restart of the agent they are published again, to be sure.

        Raises:
            MountFailed, Unavailable
        """
        if self._sources is None:
            self._sources = await self._shared.volumes.mount(pod, self._shared.facts(self._record.address))
        return self._sources

    def forget_volumes(self) -> None:
        """Something is wrong with a volume: publish all of them again before the next start."""
        self._sources = None

    async def _prepare(self, pod: PodSpec, scope: anyio.CancelScope) -> None:
        pause_s = _FIRST_PAUSE_S
        try:
            with scope:
                while True:
                    self._poke = anyio.Event()
                    self._record.obstacle = await self._try(pod)
                    if not self._record.obstacle:
                        self._record.prepared = True
                        return
                    self._changed()
                    with anyio.move_on_after(pause_s):
                        await self._poke.wait()
                    pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        finally:
            self._scope = None
            self._changed()

    async def _try(self, pod: PodSpec) -> str:
        """Return why it did not succeed; empty when it did."""
        place, address = self._shared.place(pod.uid), self._record.address
        try:
            place.make()
            await self._shared.names.join(pod, address, place.hosts)
            self._sources = await self._shared.volumes.mount(pod, self._shared.facts(address))
            await self._shared.world.request("pod.create", pod=pod.uid, hostname=world_hostname(pod))
        except MountFailed as failure:
            self._shared.events.warning(pod, "FailedMount", str(failure))
            return str(failure)
        except HeadraceError as error:
            if not isinstance(error, Unavailable):
                self._shared.events.warning(pod, "FailedCreatePodSandBox", str(error))
            return str(error)
        except OSError as error:
            obstacle = f"The node cannot write what the pod needs: {error}. Free space there."
            self._shared.events.warning(pod, "FailedCreatePodSandBox", obstacle)
            return obstacle
        return ""

    async def _refresh(self, pod: PodSpec) -> None:
        async with self._refreshing:
            if self._record.ending is not None:
                return
            try:
                await self._shared.volumes.refresh(pod, self._shared.facts(self._record.address))
            except HeadraceError as error:
                self._shared.events.warning(pod, "FailedMount", f"A volume keeps its old content: {error}")
        self._changed()  # the worker looks anew when the next token is due
