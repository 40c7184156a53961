"""What the agent knows of one pod on this node: a record that is changed only by what happened.

Every method here is a reducer: it takes a fact (a container started, exited, could not start, a probe's verdict, an
end that was decided) and is idempotent, so that the world's journal may be replayed over the record after the agent
was killed. Nothing here reads a clock or does I/O. Times are wall seconds since the epoch; those of runs are the
journal's nanoseconds.
"""

from __future__ import annotations

from typing import Literal

import msgspec

BACKOFF_FIRST_S = 10.0
BACKOFF_MOST_S = 300.0
BACKOFF_FORGET_S = 2 * BACKOFF_MOST_S
"""A container that ends this long after its last restart begins again without back-off (kubelet: twice the most)."""

TROUBLE_FIRST_S = 1.0
PULL_FAILURE_SHOWN_S = 3.0
"""How long a failed pull is seen as such; kubelet shows it until it looks at the pod again."""
ERR_IMAGE_PULL = "ErrImagePull"
IMAGE_PULL_BACK_OFF = "ImagePullBackOff"
MIN_SHUTDOWN_S = 2.0
"""Every container gets this long between SIGTERM and SIGKILL, however little grace is left (kubelet's minimum)."""

NODE_LOST = "NodeLost"
HookState = Literal["", "running", "done"]


class Run(msgspec.Struct):
    """One attempt at running a container. `finished_ns` 0 means that it runs."""

    attempt: int
    started_ns: int
    finished_ns: int = 0
    exit_code: int = 0
    signal: int = 0
    oom: bool = False
    reason: str = ""
    message: str = ""
    killed_for: str = ""

    @property
    def is_running(self) -> bool:
        return self.finished_ns == 0

    @property
    def succeeded(self) -> bool:
        return not self.is_running and self.exit_code == 0


class Stop(msgspec.Struct):
    """An ordered end of one running container."""

    since: float
    deadline: float
    reason: str
    message: str = ""
    pre_stop: HookState = ""
    term_sent_at: float = 0.0
    kill_sent: bool = False


class Trouble(msgspec.Struct):
    """Why a container could not be started, as its `waiting` state says it, and when to try again.

    `backs_off_at` is when a failed pull is called ImagePullBackOff; 0 where that is no matter.
    """

    reason: str
    message: str
    retry_at: float
    tries: int = 1
    backs_off_at: float = 0.0


class UsedImage(msgspec.Struct):
    """The image that a container was started from last.

    Attributes:
        id: which one of the node's images.
        name, ref: what the status shows as `image` and `imageID`.
        stop_signal: the image's own, 0 for none.
    """

    id: str
    name: str
    ref: str
    stop_signal: int = 0


class ContainerRecord(msgspec.Struct):
    """One container's history on this node. `runs` ends with the current attempt; older ones wait to be reported."""

    runs: list[Run] = []
    backoff_s: float = 0.0
    backoff_at: float = 0.0
    post_start: HookState = ""
    started: bool = False
    ready: bool = False
    stop: Stop | None = None
    trouble: Trouble | None = None
    image: UsedImage | None = None

    @property
    def current(self) -> Run | None:
        return self.runs[-1] if self.runs else None

    @property
    def is_running(self) -> bool:
        return bool(self.runs) and self.runs[-1].is_running

    @property
    def next_attempt(self) -> int:
        return self.runs[-1].attempt + 1 if self.runs else 0

    def run(self, attempt: int) -> Run | None:
        return next((run for run in reversed(self.runs) if run.attempt == attempt), None)

    def may_start_at(self) -> float:
        """When the next attempt may start, by crash back-off and start trouble; 0 means at once."""
        at = self.trouble.retry_at if self.trouble else 0.0
        current = self.current
        if current and self.backoff_s and not self._backoff_forgotten(current):
            at = max(at, current.finished_ns / 1e9 + self.backoff_s)
        return at

    def _backoff_forgotten(self, run: Run) -> bool:
        return run.finished_ns / 1e9 - self.backoff_at > BACKOFF_FORGET_S

    # -- what happened ---------------------------------------------------------------------------------------------

    def note_started(self, attempt: int, started_ns: int, *, starts_ready: bool, starts_started: bool) -> bool:
        """Attempt `attempt` runs. Returns False when that was known already."""
        if attempt < self.next_attempt:
            return False
        if self.runs:
            last = self.runs[-1]
            fresh = self.backoff_s == 0 or self._backoff_forgotten(last)
            self.backoff_s = BACKOFF_FIRST_S if fresh else min(2 * self.backoff_s, BACKOFF_MOST_S)
            self.backoff_at = started_ns / 1e9
        self.runs.append(Run(attempt=attempt, started_ns=started_ns))
        self.post_start, self.started, self.ready = "", starts_started, starts_ready
        self.stop = self.trouble = None
        return True

    def note_exited(
        self,
        attempt: int,
        finished_ns: int,
        *,
        exit_code: int = 0,
        signal: int = 0,
        oom: bool = False,
        reason: str = "",
        message: str = "",
    ) -> bool:
        """Attempt `attempt` ended. A death by signal counts as exit code 128 + signal, as container runtimes report it."""
        run = self.run(attempt)
        if run is None or not run.is_running:
            return False
        run.finished_ns = max(finished_ns, run.started_ns, 1)
        run.exit_code = 128 + signal if signal else exit_code
        run.signal, run.oom, run.reason, run.message = signal, oom, reason, message
        if self.stop:
            run.killed_for = self.stop.reason
        self.started = self.ready = False
        self.stop = None
        return True

    def note_trouble(self, reason: str, message: str, now: float, *, first_s: float = TROUBLE_FIRST_S) -> None:
        """The next attempt could not be started; try again with back-off, which begins with `first_s`."""
        tries = self.trouble.tries + 1 if self.trouble else 1
        delay = min(first_s * 2 ** (tries - 1), BACKOFF_MOST_S)
        self.trouble = Trouble(reason=reason, message=message, retry_at=now + delay, tries=tries)

    def note_pull_failed(self, message: str, now: float) -> None:
        """The image could not be pulled: ErrImagePull for a moment, ImagePullBackOff until it is tried again."""
        self.note_trouble(ERR_IMAGE_PULL, message, now, first_s=BACKOFF_FIRST_S)
        assert self.trouble is not None
        self.trouble.backs_off_at = now + PULL_FAILURE_SHOWN_S

    def note_pull_backs_off(self, image: str, now: float) -> bool:
        """It is time to call a failed pull a back-off. Returns False when it is not, or was done."""
        trouble = self.trouble
        if trouble is None or not trouble.backs_off_at or now < trouble.backs_off_at:
            return False
        trouble.message = f'Back-off pulling image "{image}": {trouble.reason}: {trouble.message}'
        trouble.reason, trouble.backs_off_at = IMAGE_PULL_BACK_OFF, 0.0
        return True

    def note_stop(self, now: float, grace_s: float, reason: str, message: str = "") -> bool:
        """The running container is to end within `grace_s`. An end already under way only gets a sooner deadline."""
        if not self.is_running:
            return False
        deadline = now + max(grace_s, 0.0)
        if self.stop:
            self.stop.deadline = min(self.stop.deadline, deadline)
            return False
        self.stop = Stop(since=now, deadline=deadline, reason=reason, message=message)
        return True

    def note_signal(self, now: float, *, kill: bool) -> None:
        """SIGTERM (or SIGKILL) was delivered."""
        if self.stop is None:
            return
        if kill:
            self.stop.kill_sent = True
        elif not self.stop.term_sent_at:
            self.stop.term_sent_at = now
            self.stop.deadline = max(self.stop.deadline, now + MIN_SHUTDOWN_S)

    def forget_reported(self, attempt: int) -> None:
        """The API server has seen attempt `attempt`: keep it and the one before, which `lastState` shows."""
        self.runs = [run for run in self.runs if run.attempt >= attempt - 1]


class Ending(msgspec.Struct):
    """The pod as a whole is to end. `reason` is one of `lifecycle.ORDERLY`, else it becomes the pod's status.reason."""

    reason: str
    message: str
    since: float
    deadline: float


class PodRecord(msgspec.Struct):
    """One pod on this node."""

    namespace: str
    name: str
    uid: str
    address: str = ""
    start_time: float = 0.0
    journal_seq: int = 0
    """Number of the last entry of the world's journal that is in this record."""
    prepared: bool = False
    obstacle: str = ""
    """What kept the last try to prepare it from success; empty when nothing does."""
    ending: Ending | None = None
    parked: str = ""
    """Why nothing of it is begun (`parking`); empty for a pod that runs."""
    released: bool = False
    containers: dict[str, ContainerRecord] = {}

    def of(self, container: str) -> ContainerRecord:
        """The container's record, made when there is none."""
        return self.containers.setdefault(container, ContainerRecord())

    @property
    def any_running(self) -> bool:
        return any(record.is_running for record in self.containers.values())

    @property
    def ever_ran(self) -> bool:
        return any(record.runs for record in self.containers.values())

    def note_ending(self, reason: str, message: str, now: float, grace_s: float) -> bool:
        """The pod is to end. The first reason stays; a later order may only shorten the time. True when new or sooner."""
        deadline = now + max(grace_s, 0.0)
        if self.ending is None:
            self.ending = Ending(reason=reason, message=message, since=now, deadline=deadline)
            return True
        if deadline >= self.ending.deadline:
            return False
        self.ending.deadline = deadline
        for container in self.containers.values():
            if container.stop and not container.stop.kill_sent:
                container.stop.deadline = min(container.stop.deadline, deadline)
        return True

    def note_world_lost(self, proven_ns: int, now: float) -> None:
        """The world that held this pod is gone: what ran ended at `proven_ns`, the last instant it was seen alive.

        A pod of which nothing ever ran is only prepared again; one that had ended stays as it ended.
        """
        message = "The node's world ended with everything in it; the end is the last instant it was proved alive."
        was_running = self.any_running
        for container in self.containers.values():
            if container.is_running:
                at = max(proven_ns, container.runs[-1].started_ns)
                container.note_exited(container.runs[-1].attempt, at, signal=9, reason=NODE_LOST, message=message)
        self.prepared = False
        if self.ending is None and (was_running or self.ever_ran):
            self.note_ending(NODE_LOST, message, now, 0.0)
