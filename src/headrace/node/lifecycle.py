"""The pod state machine: what to do next about one pod, decided without a clock, a socket or a file.

`plan(pod, record, now)` is level triggered: it may be called at any time and as often as one likes, and answers with
the actions that are due and the moment at which it wants to be asked again if nothing happens before. The worker
performs the actions, notes what came of them in the record and asks again until no action is due.

The rules are Kubernetes' (Pod Lifecycle, Init Containers, Sidecar Containers) with one addition: an app container is
not *re*started while a sidecar that has a startup probe is not up, because that sidecar may serve a mount, and a
container started over an unserved mount hangs (docs/design.md, section 5).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from headrace.node.podspec import Container, PodSpec
from headrace.node.record import ContainerRecord, PodRecord, Run

DELETED = "Deleted"
COMPLETED = "Completed"
INIT_FAILED = "InitFailed"
DEADLINE_EXCEEDED = "DeadlineExceeded"
TERMINATED = "Terminated"
"""Somebody else wrote a terminal phase, such as whoever evicts pods of nodes that are silent."""

ORDERLY = frozenset({DELETED, COMPLETED, INIT_FAILED})
"""Endings whose phase follows from the containers' exits; any other reason makes the pod Failed with that reason."""

LIVENESS_FAILED = "LivenessProbeFailed"
STARTUP_FAILED = "StartupProbeFailed"
POST_START_FAILED = "FailedPostStartHook"
POD_ENDING = "PodEnding"

_NEVER = float("inf")


@dataclass(frozen=True)
class Prepare:
    """Make the pod's volumes and its place in the world, then note `prepared`."""


@dataclass(frozen=True)
class StartContainer:
    container: str
    attempt: int


@dataclass(frozen=True)
class RunHook:
    container: str
    hook: Literal["postStart", "preStop"]


@dataclass(frozen=True)
class StopContainer:
    """Note that a container is to end; signals and hooks follow as actions of their own."""

    container: str
    grace_s: float
    reason: str


@dataclass(frozen=True)
class Signal:
    container: str
    kill: bool


@dataclass(frozen=True)
class EndPod:
    """Note that the pod is to end within `grace_s`."""

    reason: str
    message: str
    grace_s: float


@dataclass(frozen=True)
class Release:
    """Everything has ended: take the pod out of the world and unpublish its volumes, then note `released`."""


Action = Prepare | StartContainer | RunHook | StopContainer | Signal | EndPod | Release


@dataclass
class Plan:
    """Actions due now, in order, and when to ask again (`inf`: only when something happens)."""

    actions: list[Action] = field(default_factory=list)
    again_at: float = _NEVER

    def ask_again(self, at: float) -> None:
        self.again_at = min(self.again_at, at)


def plan(pod: PodSpec, record: PodRecord, now: float) -> Plan:
    """Decide what is due for `pod`, of which `record` says what has happened so far."""
    result = Plan()
    if record.released:
        return result
    ending = _why_end(pod, record, now, result)
    if ending is not None:
        result.actions.append(ending)
    elif record.ending is not None:
        _end(pod, record, now, result)
    elif record.parked:
        pass  # until it is deleted
    elif not record.prepared:
        result.actions.append(Prepare())
    else:
        _run(pod, record, now, result)
    return result


# -- ending ------------------------------------------------------------------------------------------------------------


def _why_end(pod: PodSpec, record: PodRecord, now: float, result: Plan) -> EndPod | None:
    if pod.is_deleting:
        sooner = record.ending is not None and now + pod.deletion_grace_s < record.ending.deadline - 1e-3
        if record.ending is None or sooner:
            return EndPod(DELETED, "", pod.deletion_grace_s)
    if record.ending is not None:
        return None
    if pod.is_terminal:
        reason, message = str(pod.status.get("reason") or TERMINATED), str(pod.status.get("message") or "")
        return EndPod(reason, message, pod.grace_s)
    if pod.active_deadline_s is not None and record.start_time:
        at = record.start_time + pod.active_deadline_s
        if now >= at:
            return EndPod(
                DEADLINE_EXCEEDED, "Pod was active on the node longer than the specified deadline", pod.grace_s
            )
        result.ask_again(at)
    if any(_failed_for_good(pod, record, c) for c in pod.inits if c.role == "init"):
        return EndPod(INIT_FAILED, "", pod.grace_s)
    if pod.apps and all(is_finished(pod, record, c) for c in pod.apps):
        return EndPod(COMPLETED, "", pod.grace_s)
    return None


def _end(pod: PodSpec, record: PodRecord, now: float, result: Plan) -> None:
    """App and init containers end at once, sidecars after them in reverse order; all within the pod's grace."""
    assert record.ending is not None
    deadline = record.ending.deadline
    if not record.any_running:
        result.actions.append(Release())
        return
    earlier_done = True
    for container in (*(c for c in pod.containers if c.role != "sidecar"), *reversed(pod.sidecars)):
        state = record.of(container.name)
        if not state.is_running:
            continue
        if container.role == "sidecar":
            has_turn = earlier_done or now >= deadline
            earlier_done = False
        else:
            has_turn, earlier_done = True, False
        if state.stop is None:
            result.actions.append(StopContainer(container.name, max(0.0, deadline - now), POD_ENDING))
        else:
            _stop(container, state, now, result, has_turn=has_turn)
        if not has_turn:
            result.ask_again(deadline)


def _stop(container: Container, state: ContainerRecord, now: float, result: Plan, *, has_turn: bool = True) -> None:
    """preStop hook, then SIGTERM when it is the container's turn, then SIGKILL at the deadline."""
    stop = state.stop
    assert stop is not None
    if container.hook("preStop") and now < stop.deadline and not stop.term_sent_at:
        if stop.pre_stop == "":
            result.actions.append(RunHook(container.name, "preStop"))
        if stop.pre_stop != "done":
            result.ask_again(stop.deadline)
            return
    if not stop.term_sent_at:
        if has_turn:
            result.actions.append(Signal(container.name, kill=False))
    elif not stop.kill_sent:
        if now >= stop.deadline:
            result.actions.append(Signal(container.name, kill=True))
        else:
            result.ask_again(stop.deadline)


# -- running -----------------------------------------------------------------------------------------------------------


def _run(pod: PodSpec, record: PodRecord, now: float, result: Plan) -> None:
    for container in pod.containers:
        state = record.of(container.name)
        if state.is_running and state.stop is not None:
            _stop(container, state, now, result)
        elif state.is_running and hook_is_pending(container, state) and state.post_start == "":
            result.actions.append(RunHook(container.name, "postStart"))
    if is_initialised(pod, record):
        _keep_sidecars(pod, record, now, result)
        _start_apps(pod, record, now, result)
    else:
        _advance_init(pod, record, now, result)


def _advance_init(pod: PodSpec, record: PodRecord, now: float, result: Plan) -> None:
    """Start the first init container or sidecar that has not done its part, and nothing after it."""
    for container in pod.inits:
        if _has_done_its_part(container, record):
            continue
        if not record.of(container.name).is_running:
            _start(container, record, now, result)
        return


def _keep_sidecars(pod: PodSpec, record: PodRecord, now: float, result: Plan) -> None:
    for container in pod.sidecars:
        if not record.of(container.name).is_running:
            _start(container, record, now, result)


def _start_apps(pod: PodSpec, record: PodRecord, now: float, result: Plan) -> None:
    """Start app containers in order; each waits for the postStart hook of the one before, as kubelet's do."""
    if not all(is_up(c, record.of(c.name)) for c in pod.sidecars if c.probe("startupProbe")):
        return
    for container in pod.apps:
        state = record.of(container.name)
        if state.is_running:
            if hook_is_pending(container, state) and state.stop is None:
                return
        elif not is_finished(pod, record, container):
            has_started = _start(container, record, now, result)
            if has_started and container.hook("postStart"):
                return


def _start(container: Container, record: PodRecord, now: float, result: Plan) -> bool:
    state = record.of(container.name)
    at = state.may_start_at()
    if at > now:
        result.ask_again(at)
        if state.trouble is not None and state.trouble.backs_off_at > now:
            result.ask_again(state.trouble.backs_off_at)
        return False
    result.actions.append(StartContainer(container.name, state.next_attempt))
    return True


def note_started(pod: PodSpec, record: PodRecord, name: str, attempt: int, started_ns: int) -> bool:
    """Note that `attempt` of container `name` runs; without probes it is started and ready at once. Idempotent."""
    container = pod.by_name[name]
    return record.of(name).note_started(
        attempt,
        started_ns,
        starts_started=container.probe("startupProbe") is None,
        starts_ready=container.probe("readinessProbe") is None,
    )


# -- what the record means ---------------------------------------------------------------------------------------------


def hook_is_pending(container: Container, state: ContainerRecord) -> bool:
    """Whether the container's postStart hook has not ended yet."""
    return container.hook("postStart") is not None and state.post_start != "done"


def is_up(container: Container, state: ContainerRecord) -> bool:
    """`started` in the container's status: it runs, its postStart hook has ended and its startup probe has succeeded."""
    return state.is_running and state.started and not hook_is_pending(container, state)


def _has_done_its_part(container: Container, record: PodRecord) -> bool:
    state = record.of(container.name)
    if container.role == "sidecar":
        return is_up(container, state)
    current = state.current
    return current is not None and current.succeeded


def is_initialised(pod: PodSpec, record: PodRecord) -> bool:
    """Whether the app's containers may start. Once one of them was tried, the pod stays initialised."""
    tried = any(record.of(c.name).runs or record.of(c.name).trouble for c in pod.apps)
    return tried or all(_has_done_its_part(c, record) for c in pod.inits)


def is_finished(pod: PodSpec, record: PodRecord, container: Container) -> bool:
    """Whether the container has ended and will not be started again by its restart policy."""
    current = record.of(container.name).current
    if current is None or current.is_running:
        return False
    return not restarts(pod, container, current)


def restarts(pod: PodSpec, container: Container, run: Run) -> bool:
    """Whether the restart policy starts `container` again after `run`. Failed probes count as failures."""
    if container.role == "sidecar":
        return True
    if pod.restart_policy == "Never":
        return False
    failed = run.exit_code != 0 or run.killed_for in {LIVENESS_FAILED, STARTUP_FAILED, POST_START_FAILED}
    return failed or (container.role == "app" and pod.restart_policy == "Always")


def is_backing_off(pod: PodSpec, record: PodRecord, container: Container, now: float) -> bool:
    """Whether the container has ended and waits for its next attempt (CrashLoopBackOff)."""
    state = record.of(container.name)
    current = state.current
    if current is None or current.is_running or record.ending is not None or state.trouble is not None:
        return False
    return restarts(pod, container, current) and state.may_start_at() > now


def _failed_for_good(pod: PodSpec, record: PodRecord, container: Container) -> bool:
    current = record.of(container.name).current
    return (
        current is not None
        and not current.is_running
        and current.exit_code != 0
        and not restarts(pod, container, current)
    )
