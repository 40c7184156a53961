"""Writing a pod's status: only what changed, only when it changed, and every attempt exactly once.

One task a pod compares what the record says with what the API server has, and patches until they agree. A server that
is away is waited for; meanwhile the record goes on, and nothing of it is lost (`status.compute`, `reported`).
"""

from __future__ import annotations

from collections.abc import Callable

import anyio

from headrace.cluster.protocol import MergePatch
from headrace.errors import Conflict, HeadraceError, NotFound
from headrace.node import security, status
from headrace.node.podspec import PodSpec
from headrace.node.record import PodRecord
from headrace.node.shared import Shared
from headrace.spec.kind import Json, Ref
from headrace.spec.kinds import POD
from headrace.telemetry import logger

STATUS_FAILED = "status.failed"

_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 10.0
_MAY_VANISH = ("reason", "message", "podIP", "podIPs")

_log = logger(component="status")


class Reporter:
    """Keeps the status of one pod.

    Args:
        pod: returns the newest version of the pod that is known.
        seen: told each version that a write returned.
        settled: called when the API server has everything the record says.
    """

    def __init__(
        self,
        shared: Shared,
        record: PodRecord,
        *,
        pod: Callable[[], PodSpec],
        seen: Callable[[Json], None],
        settled: Callable[[], None],
    ) -> None:
        self._shared = shared
        self._record = record
        self._pod = pod
        self._seen = seen
        self._settled = settled
        self._wake = anyio.Event()
        self._reported = status.shown_attempts(pod().status)
        self.is_settled = False

    def changed(self) -> None:
        """The record (or the pod) has changed."""
        self.is_settled = False
        self._wake.set()

    async def run(self) -> None:
        """Write until cancelled."""
        pause_s = _FIRST_PAUSE_S
        while True:
            await self._wake.wait()
            try:
                while await self._write():
                    continue
                pause_s = _FIRST_PAUSE_S
            except NotFound:
                continue  # the watch will tell
            except HeadraceError as error:
                _log.warning(STATUS_FAILED, pod=str(self._pod()), error=str(error))
                self._wake.set()
                await anyio.sleep(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    async def _write(self) -> bool:
        """Bring the server one step nearer; False when it has everything."""
        self._wake = anyio.Event()
        pod = self._pod()
        if pod.is_terminal and not self._record.ever_ran:
            return self._settle()  # it ended before this node knew of it: whoever wrote that knows better
        facts = status.Facts(
            host_ip=self._shared.host_ip,
            shows_address=self._shared.shows_addresses,
            unsupported=security.unsupported(pod),
            relocated=self._shared.surroundings.relocates if pod.mounted_volumes else "",
        )
        wanted = status.compute(pod, self._record, facts, self._shared.now(), self._reported)
        changes = {key: value for key, value in wanted.items() if pod.status.get(key) != value}
        changes |= {key: None for key in _MAY_VANISH if key in pod.status and key not in wanted}
        if changes:
            meta = {"uid": pod.uid, "resourceVersion": pod.meta.get("resourceVersion")}
            patch = MergePatch({"metadata": meta, "status": changes})
            try:
                doc = await self._shared.cluster.patch(POD, Ref(pod.namespace, pod.name), patch, subresource="status")
            except Conflict:
                doc = await self._shared.cluster.get(POD, Ref(pod.namespace, pod.name))
                if doc.uid != pod.uid:
                    raise NotFound(f"Pod {pod} was replaced by another of its name.") from None
                self._seen(doc.raw)
                return True
            self._seen(doc.raw)
        shown = status.shown_attempts(wanted)
        is_new = shown != self._reported
        self._reported = shown
        for name, attempt in shown.items():
            self._record.of(name).forget_reported(attempt)
        if is_new or self._wake.is_set():
            return True
        return self._settle()

    def _settle(self) -> bool:
        self.is_settled = True
        self._settled()
        return False
