"""`Recorder`: tells people what happened to an object, as core/v1 Events that `kubectl describe` shows.

One Event object for one sentence about one object: said again, its count and time are patched. The name is made from
what is said, so a process that was restarted counts on. An object may be talked about often at first and then seldom
(client-go's spam filter); what is too much is dropped and logged. Nothing here raises into a reconciler: an event is a
courtesy, and the state it tells of is in the object's status.
"""

from __future__ import annotations

import platform
from collections import OrderedDict, deque
from typing import Any, Literal, TypeVar

import anyio

from headrace.clock import Clock, SystemClock, format_time
from headrace.cluster.protocol import Cluster, MergePatch
from headrace.errors import AlreadyExists, HeadraceError, NotFound
from headrace.ids import short_hash
from headrace.spec.kind import Doc, Json, Ref
from headrace.spec.kinds import EVENT
from headrace.telemetry import logger

NOT_RECORDED = "event.not_recorded"
DROPPED = "event.dropped"

_MESSAGE_BYTES = 1024  # core/v1 validation
_REMEMBERED = 4096
_BURST, _REFILL_S = 25, 300.0  # an object: so many events at once, then one in five minutes
_TIMEOUT_S = 5.0
_WAITING = 1000  # a few MB; more means that the server is away

Severity = Literal["Normal", "Warning"]

K = TypeVar("K")
V = TypeVar("V")


class _Recent(OrderedDict[K, V]):
    """Keeps the entries that were set last."""

    def __setitem__(self, key: K, value: V) -> None:
        super().__setitem__(key, value)
        self.move_to_end(key)
        if len(self) > _REMEMBERED:
            self.popitem(last=False)


class Recorder:
    """Records events in the name of one component, such as `headrace-jobs`."""

    def __init__(self, cluster: Cluster, component: str, *, clock: Clock | None = None) -> None:
        self._cluster = cluster
        self._component = component
        self._clock = clock or SystemClock()
        self._instance = platform.node()
        self._counts: _Recent[Ref, int] = _Recent()
        self._allowances: _Recent[str, tuple[float, float]] = _Recent()  # uid → events left, and as of when
        self._log = logger(component=component)

    async def event(self, doc: Doc[Any], type: Severity, reason: str, message: str) -> None:
        """Say something about an object. Never raises; gives up after a few seconds.

        Args:
            reason: one word in CamelCase, for programs.
            message: a sentence for people; cut at 1024 bytes.
        """
        said = {"object": str(doc.ref), "reason": reason, "message": message}
        if not self._is_allowed(doc.uid or str(doc.ref)):
            self._log.info(DROPPED, **said)
            return
        message = message.encode()[:_MESSAGE_BYTES].decode(errors="ignore")
        try:
            with anyio.fail_after(_TIMEOUT_S):
                await self._record(doc, type, reason, message)
        except (HeadraceError, TimeoutError) as error:
            self._log.warning(NOT_RECORDED, **said, error=str(error) or "no answer in time")

    async def _record(self, doc: Doc[Any], type: str, reason: str, message: str) -> None:
        suffix = short_hash(self._component, doc.kind.resource, doc.uid, type, reason, message, length=16)
        ref = Ref(doc.namespace or "default", f"{doc.name[:236]}.{suffix}")
        if ref in self._counts and await self._repeat(ref, self._counts[ref]):
            return
        try:
            await self._cluster.create(EVENT, self._body(ref, doc, type, reason, message))
            self._counts[ref] = 1
        except AlreadyExists:  # said before this process began
            known = await self._cluster.get(EVENT, ref)
            await self._repeat(ref, int(known.raw.get("count") or 1))

    async def _repeat(self, ref: Ref, count: int) -> bool:
        """Count on; return False when the Event is there no more, because a server keeps one for an hour."""
        self._counts[ref] = count + 1
        body = {"count": count + 1, "lastTimestamp": format_time(self._clock.now())}
        try:
            await self._cluster.patch(EVENT, ref, MergePatch(body))
        except NotFound:
            del self._counts[ref]
            return False
        return True

    def _body(self, ref: Ref, doc: Doc[Any], type: str, reason: str, message: str) -> Json:
        now = format_time(self._clock.now())
        return {
            "metadata": {"name": ref.name, "namespace": ref.namespace},
            "involvedObject": {
                "apiVersion": doc.kind.api_version,
                "kind": doc.kind.name,
                "namespace": doc.namespace,
                "name": doc.name,
                "uid": doc.uid,
                "resourceVersion": doc.version,
            },
            "type": type,
            "reason": reason,
            "message": message,
            "count": 1,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "source": {"component": self._component, "host": self._instance},
            "reportingComponent": self._component,
            "reportingInstance": self._instance,
        }

    def _is_allowed(self, uid: str) -> bool:
        now_s = self._clock.monotonic_s()
        left, as_of_s = self._allowances.get(uid, (_BURST, now_s))
        left = min(_BURST, left + (now_s - as_of_s) / _REFILL_S)
        self._allowances[uid] = (left - 1 if left >= 1 else left, now_s)
        return left >= 1


class Outbox:
    """Records events behind the back of who reports them, so that no reconcile waits for a courtesy.

    What was not recorded when the process ends is lost, as with client-go's recorder; and what is too much for the
    server is dropped and logged. Runs beside the controllers that use it.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._waiting: deque[tuple[Doc[Any], Severity, str, str]] = deque()
        self._more = anyio.Event()

    async def event(self, doc: Doc[Any], type: Severity, reason: str, message: str) -> None:
        """Have something said about an object, soon. Never raises and never waits."""
        if len(self._waiting) >= _WAITING:
            logger().warning(DROPPED, object=str(doc.ref), reason=reason, message=message)
            return
        self._waiting.append((doc, type, reason, message))
        self._more.set()

    async def run(self) -> None:
        """Record until cancelled, in order."""
        while True:
            self._more = anyio.Event()
            while self._waiting:
                await self._recorder.event(*self._waiting.popleft())
            await self._more.wait()
