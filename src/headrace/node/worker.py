"""One pod's worker: asks the state machine what is due, does it, notes what came of it, and waits.

Nothing is polled. The worker wakes when the pod's object changes, when the world's journal says something, when a
probe, a hook or the preparation has a result, and at the moment the state machine named. A worker can be cancelled at
any point and made anew from the record on disk; every order it gives is idempotent.
"""

from __future__ import annotations

import datetime as dt
import math
import signal
from collections.abc import Callable, Sequence

import anyio

from headrace.cluster.indexer import is_later
from headrace.errors import Conflict, HeadraceError, NotFound
from headrace.node import checkpoint, eviction, hearing, lifecycle, logs, parking, security, starting
from headrace.node.asking import Asking
from headrace.node.images.local import is_local
from headrace.node.podspec import PodSpec
from headrace.node.preparing import Preparation
from headrace.node.pulling import Pulling
from headrace.node.record import IMAGE_PULL_BACK_OFF, PodRecord
from headrace.node.releasing import Releasing
from headrace.node.reporting import Reporter
from headrace.node.shared import Shared
from headrace.node.volumes.pod_volumes import MountFailed
from headrace.node.world import WorldRefused
from headrace.spec.kind import Json, Ref
from headrace.spec.kinds import POD
from headrace.telemetry import logger

STEP_FAILED = "pod.step_failed"

_PAUSE_S = 1.0
_KEPT_LOGS = 2
_LAST_LINES = 80
_LAST_BYTES = 2048
"""Kubernetes: the last 2048 bytes or 80 lines of the log, whichever is smaller."""


_log = logger(component="worker")


class Worker:
    """Runs one pod.

    Attributes:
        pod: the newest version known; after the object has gone, its last one, marked as deleted without grace.
        record: what has happened; see `record.PodRecord`.
        reported_seq: number of the last journal entry that the API server knows the consequences of.
        changed: set and replaced whenever the record changes, for those who wait for a container's end.
    """

    def __init__(self, shared: Shared, pod: PodSpec, record: PodRecord, *, settled: Callable[[], None]) -> None:
        self.pod = pod
        self.record = record
        self.reported_seq = record.journal_seq
        self.changed = anyio.Event()
        self._shared = shared
        self._settled = settled
        self._is_gone = False
        self._is_stale = False
        self._backed_off: dict[str, int] = {}
        self._renewed: dt.datetime | None = None
        self._wake = anyio.Event()
        self._wake.set()
        self._again_at = math.inf
        self._store = checkpoint.Store(shared.place(pod.uid).record)
        self._reporter = Reporter(
            shared, record, pod=lambda: self.pod, seen=lambda raw: self._take(PodSpec(raw)), settled=self._on_settled
        )

    @property
    def is_gone(self) -> bool:
        """Whether the pod's object is gone."""
        return self._is_gone

    @property
    def is_settled(self) -> bool:
        """Whether the API server has everything the record says."""
        return self._reporter.is_settled

    # -- what comes in ---------------------------------------------------------------------------------------------

    def update(self, pod: PodSpec) -> None:
        """The API server has a new version of the pod."""
        fields_changed = any(pod.meta.get(f) != self.pod.meta.get(f) for f in ("labels", "annotations"))
        self._take(pod)
        if fields_changed:
            self.objects_changed()
        self.wake()

    def gone(self) -> None:
        """The pod's object is gone: end without grace and leave nothing behind."""
        self._is_gone = True
        meta = {**self.pod.meta, "deletionTimestamp": "1970-01-01T00:00:00Z", "deletionGracePeriodSeconds": 0}
        self.pod = PodSpec({**self.pod.raw, "metadata": meta})
        self.wake()

    def hear(self, entry: Json) -> None:
        """The world's journal says something about this pod."""
        if hearing.apply(entry, self.pod, self.record, self._shared.now()):
            if entry["type"] == "container-exited":
                self._add_last_words(str(entry["container"]), int(entry["attempt"]))
            self.wake()

    def reconcile(self, pods: Sequence[Json]) -> None:
        """The world's state, after the journal was replayed."""
        hearing.reconcile(pods, self.pod, self.record, self._shared.now())
        self.wake()

    def objects_changed(self) -> None:
        """Something that the pod's volumes are made from has changed."""
        self._is_stale = True
        self._wake.set()

    def wake(self) -> None:
        """The record or the pod may call for something."""
        self._reporter.changed()
        self._wake.set()
        self.changed.set()
        self.changed = anyio.Event()

    def _take(self, pod: PodSpec) -> None:
        """Keep a version unless a later one is known: the watch may lag behind the answers to our own writes."""
        if self._is_gone or pod.uid != self.pod.uid:
            return
        version, known = (str(one.meta.get("resourceVersion", "")) for one in (pod, self.pod))
        if is_later(version, known, unknown=True):
            self.pod = pod

    def _on_settled(self) -> None:
        self.reported_seq = self.record.journal_seq
        self._wake.set()
        self._settled()

    def _add_last_words(self, name: str, attempt: int) -> None:
        """terminationMessagePolicy FallbackToLogsOnError: the end of the log, when the program wrote no message."""
        run, container = self.record.of(name).run(attempt), self.pod.by_name.get(name)
        if run is None or container is None or run.message or run.succeeded:
            return
        if container.raw.get("terminationMessagePolicy") == "FallbackToLogsOnError":
            log = self._shared.place(self.pod.uid).log(name, attempt)
            run.message = logs.last_bytes(log, _LAST_LINES, _LAST_BYTES)

    # -- the loop --------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Run the pod until its object is gone and nothing of it is left."""
        self._admit()
        async with anyio.create_task_group() as tasks:
            self._preparation = Preparation(self._shared, self.record, tasks, self.wake)
            self._pulling = Pulling(self._shared, self.record, tasks, self.wake)
            self._releasing = Releasing(self._shared, self.record, tasks, self.wake)
            self._asking = Asking(self._shared, self.record, tasks, self.wake)
            tasks.start_soon(self._reporter.run)
            if eviction.limits(self.pod):
                tasks.start_soon(eviction.watch, self._shared, self.pod, self.record, self.wake)
            while not (self._is_gone and self.record.released):
                await self._wait()
                try:
                    await self._settle()
                except (HeadraceError, OSError) as error:  # OSError: a full disk; what is known stays in memory
                    _log.info(STEP_FAILED, pod=str(self.pod), error=str(error))
                    self._again_at = self._shared.now() + _PAUSE_S
            tasks.cancel_scope.cancel()
        self._shared.trash.put(self._shared.place(self.pod.uid).root)

    def _admit(self) -> None:
        if not self.record.start_time:
            self.record.start_time = self._shared.now()
        why = self._shared.parked(self.pod)
        if why and not self.record.parked and not self.record.ever_ran:
            self.record.parked = why
            self._shared.events.warning(self.pod, parking.PARKED, why)
        if self.record.parked:
            return
        if not self.record.address and not self.record.released:
            is_host = bool(self.pod.spec.get("hostNetwork"))
            self.record.address = self._shared.host_ip if is_host else self._shared.addresses.take(self.pod.uid)
        refusal = security.refusal(self.pod)
        if refusal and self.record.ending is None and not self.record.ever_ran:
            self._shared.events.warning(self.pod, "Unsupported", refusal)
            self.record.note_ending("Unsupported", refusal, self._shared.now(), 0.0)
        unsupported = security.unsupported(self.pod)
        if unsupported and not self.record.ever_ran:
            self._shared.events.warning(self.pod, "Unsupported", unsupported)

    async def _wait(self) -> None:
        renew_at = self._shared.tokens.renew_at(self.pod.uid)
        if renew_at is None or renew_at == self._renewed:
            again_at = self._again_at
        else:
            again_at = min(self._again_at, renew_at.timestamp())
        with anyio.move_on_after(max(0.0, again_at - self._shared.now())):
            await self._wake.wait()
        self._wake = anyio.Event()
        is_due = renew_at is not None and renew_at != self._renewed and renew_at <= self._shared.clock.now()
        if self._is_stale or is_due:
            self._is_stale = False
            self._renewed = renew_at if is_due else self._renewed
            self._preparation.objects_changed(self.pod)

    async def _settle(self) -> None:
        self._again_at = math.inf
        while True:
            plan = lifecycle.plan(self.pod, self.record, self._shared.now())
            due = [action for action in plan.actions if not self._is_under_way(action)]
            if not due:
                break
            for action in due:
                await self._perform(action)
        self._again_at = min(self._again_at, plan.again_at)
        self._asking.sync(self.pod)
        self._tell_back_off()
        if self._store.save(self.record):
            self._reporter.changed()
        if self.record.released and self.is_settled and self._waits_for_us():
            await self._delete()

    def _tell_back_off(self) -> None:
        for container in self.pod.containers:
            if self.record.of(container.name).note_pull_backs_off(container.image, self._shared.now()):
                text = f'Back-off pulling image "{container.image}"'
                self._shared.events.normal(self.pod, "BackOff", text)
                self._shared.events.warning(self.pod, "Failed", f"Error: {IMAGE_PULL_BACK_OFF}")
            waits = lifecycle.is_backing_off(self.pod, self.record, container, self._shared.now())
            attempt = self.record.of(container.name).next_attempt
            if waits and self._backed_off.get(container.name) != attempt:
                self._backed_off[container.name] = attempt
                pod = f"{self.pod.name}_{self.pod.namespace}({self.pod.uid})"
                text = f"Back-off restarting failed container {container.name} in pod {pod}"
                self._shared.events.warning(self.pod, "BackOff", text)

    def _waits_for_us(self) -> bool:
        """Whether the object is being deleted and it is our turn; with grace 0 only others' finalizers are left."""
        is_ours = self.pod.is_deleting and not self._is_gone
        return is_ours and (self.pod.deletion_grace_s > 0 or not self.pod.meta.get("finalizers"))

    def _is_under_way(self, action: lifecycle.Action) -> bool:
        if isinstance(action, lifecycle.Prepare):
            return self._preparation.is_running
        if isinstance(action, lifecycle.StartContainer):
            return self._pulling.is_running(action.container)
        if isinstance(action, lifecycle.Release):
            return self._releasing.is_running or self._preparation.is_running or self._pulling.is_any_running
        return False

    async def _perform(self, action: lifecycle.Action) -> None:
        match action:
            case lifecycle.Prepare():
                self._preparation.begin(self.pod)
            case lifecycle.StartContainer(name, attempt):
                await self._start(name, attempt)
            case lifecycle.RunHook(name, hook):
                self._asking.run_hook(self.pod, name, hook)
            case lifecycle.StopContainer(name, grace_s, reason):
                self.record.of(name).note_stop(self._shared.now(), grace_s, reason)
                self._shared.events.normal(self.pod, "Killing", f"Stopping container {name}")
            case lifecycle.Signal(name, kill):
                await self._signal(name, kill=kill)
            case lifecycle.EndPod(reason, message, grace_s):
                self.record.note_ending(reason, message, self._shared.now(), grace_s)
                self._preparation.cancel()
                self._pulling.cancel()
                if reason not in lifecycle.ORDERLY and message:
                    self._shared.events.warning(self.pod, reason, message)
            case lifecycle.Release():
                self._releasing.begin(self.pod)

    async def _start(self, name: str, attempt: int) -> None:
        container, state = self.pod.by_name[name], self.record.of(name)
        ready = self._pulling.take(name, attempt)
        if ready is None:
            self._discard_old(name, attempt)
        if ready is None and not is_local(container.image):
            self._pulling.begin(self.pod, container, attempt)
            return
        try:
            volumes = await self._preparation.volumes(self.pod)
        except MountFailed as failure:
            state.note_trouble("CreateContainerError", str(failure), self._shared.now())
            self._shared.events.warning(self.pod, "FailedMount", str(failure))
            return
        await starting.start(self._shared, self.pod, self.record, container, attempt, volumes, ready)
        if state.trouble:
            self._preparation.forget_volumes()

    def _discard_old(self, name: str, attempt: int) -> None:
        """Throw away what earlier attempts left: their roots, and all logs but the last ones."""
        place = self._shared.place(self.pod.uid)
        for old in place.log(name, 0).parent.glob(f"{attempt - _KEPT_LOGS}.log*"):
            old.unlink(missing_ok=True)
        for root in place.earlier_roots(name, attempt):
            self._shared.trash.put(root)

    async def _signal(self, name: str, *, kill: bool) -> None:
        used = self.record.of(name).image
        wanted = self.pod.by_name[name].stop_signal or (used.stop_signal if used else 0) or signal.SIGTERM
        number = signal.SIGKILL if kill else wanted
        try:
            await self._shared.world.request("container.signal", pod=self.pod.uid, container=name, signal=int(number))
        except WorldRefused as refusal:
            if refusal.code != "NotFound":
                raise
        self.record.of(name).note_signal(self._shared.now(), kill=kill)

    async def _delete(self) -> None:
        """Everything is gone and told: let the object go. Others' finalizers may keep it a while."""
        try:
            await self._shared.cluster.delete(POD, Ref(self.pod.namespace, self.pod.name), uid=self.pod.uid, grace_s=0)
        except NotFound:
            self.gone()
        except Conflict:
            return  # another pod of this name; the watch will say that ours is gone
