"""Taking a pod that has ended off this node: out of the world, volumes unpublished, names and address given back."""

from __future__ import annotations

from collections.abc import Callable

import anyio
from anyio.abc import TaskGroup

from headrace.errors import HeadraceError, Unavailable
from headrace.node.podspec import PodSpec
from headrace.node.record import PodRecord
from headrace.node.shared import Shared

_FIRST_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 30.0


class Releasing:
    """Releases one pod, trying until it is done. Logs stay until the pod's object is gone."""

    def __init__(self, shared: Shared, record: PodRecord, tasks: TaskGroup, changed: Callable[[], None]) -> None:
        self._shared = shared
        self._record = record
        self._tasks = tasks
        self._changed = changed
        self.is_running = False

    def begin(self, pod: PodSpec) -> None:
        """Begin to release, unless that is being done."""
        if not self.is_running:
            self.is_running = True
            self._tasks.start_soon(self._release, pod)

    async def _release(self, pod: PodSpec) -> None:
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                await release(self._shared, pod.uid)
            except HeadraceError as error:
                if not isinstance(error, Unavailable):
                    self._shared.events.warning(pod, "FailedKillPod", str(error))
                await anyio.sleep(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
                continue
            break
        self._shared.names.leave(pod.namespace, pod.uid)
        self._shared.objects.forget(pod.uid)
        self._shared.addresses.give_back(pod.uid)
        self._record.released, self.is_running = True, False
        self._changed()


async def release(shared: Shared, uid: str) -> None:
    """End what is left of a pod in the world and undo its volumes. Works for a pod nobody knows any more. Idempotent.

    Raises:
        HeadraceError: something could not be undone now; call again.
    """
    await shared.world.request("pod.remove", pod=uid)
    await shared.volumes.unmount(uid)
    shared.trash.put(shared.place(uid).roots)
    shared.trash.put(shared.place(uid).volumes)
