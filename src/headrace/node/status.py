"""PodStatus from the record: phase, conditions and container states, as Kubernetes words them.

Pure. The phase follows kubelet's `getPhase`. `reported` makes the writing loss-free: when a container has restarted
several times since the API server was last written to, each call shows only the next attempt, and the writer calls
until nothing changes, so that every start and end is seen once in `state` or `lastState`.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass

from headrace.clock import format_time
from headrace.node import lifecycle
from headrace.node.images.local import is_local
from headrace.node.parking import PARKED
from headrace.node.podspec import Container, PodSpec
from headrace.node.record import PodRecord, Run
from headrace.spec.conditions import set_condition
from headrace.spec.kind import Json
from headrace.spec.resources import qos_class


@dataclass(frozen=True)
class Facts:
    """What the status tells that the record does not hold."""

    host_ip: str
    shows_address: bool = True
    unsupported: str = ""
    """Sentence naming the fields that have no effect here; empty when every field has."""
    relocated: str = ""
    """Why the pod's volumes are not at their paths; empty when they are."""


@dataclass(frozen=True)
class _Told:
    """One condition as we see it now."""

    type: str
    value: bool
    reason: str = ""
    message: str = ""


def compute(pod: PodSpec, record: PodRecord, facts: Facts, now: float, reported: Mapping[str, int]) -> Json:
    """Return the whole status owned by the node. `reported` has the attempt last written, per container."""
    views = {c.name: _View(pod, c, record, now, reported.get(c.name, -1)) for c in pod.containers}
    is_behind = any(view.is_behind for view in views.values())
    has_ended = record.ending is not None and not record.any_running and not is_behind
    phase = "Running" if is_behind else _phase(pod, views, has_ended=has_ended)
    status: Json = {"phase": phase, "hostIP": facts.host_ip, "hostIPs": [{"ip": facts.host_ip}]}
    if has_ended and record.ending is not None and record.ending.reason not in lifecycle.ORDERLY:
        status |= {"phase": "Failed", "reason": record.ending.reason, "message": record.ending.message}
    elif record.parked and not has_ended:
        status |= {"reason": PARKED, "message": record.parked}
    if record.address and facts.shows_address:
        status |= {"podIP": record.address, "podIPs": [{"ip": record.address}]}
    if record.start_time:
        status["startTime"] = _time(record.start_time)
    status["qosClass"] = qos_class(pod.raw)
    status["conditions"] = _conditions(pod, record, facts, views, status["phase"], now)
    if pod.inits:
        status["initContainerStatuses"] = [views[c.name].render() for c in pod.inits]
    status["containerStatuses"] = [views[c.name].render() for c in pod.apps]
    return status


def shown_attempts(status: Json) -> dict[str, int]:
    """Return the attempt each container of a written status shows; containers that never ran are left out."""
    entries = [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]
    return {
        str(entry["name"]): int(entry.get("restartCount", 0))
        for entry in entries
        if entry.get("containerID") or (entry.get("lastState") or {}).get("terminated")
    }


class _View:
    """One container as the status shows it."""

    def __init__(self, pod: PodSpec, container: Container, record: PodRecord, now: float, reported: int) -> None:
        self.pod, self.container, self.record, self.now = pod, container, record, now
        self.mine = record.of(container.name)
        visible = [run for run in self.mine.runs if run.attempt <= reported + 1] or self.mine.runs[:1]
        self.run: Run | None = visible[-1] if visible else None
        self.previous: Run | None = visible[-2] if len(visible) > 1 else None
        self.is_behind = len(visible) < len(self.mine.runs)

    @property
    def is_running(self) -> bool:
        return self.run is not None and self.run.is_running

    @property
    def started(self) -> bool:
        return not self.is_behind and lifecycle.is_up(self.container, self.mine)

    @property
    def ready(self) -> bool:
        if self.container.role == "init":
            return self.run is not None and self.run.succeeded
        return self.started and self.mine.ready and self.is_running

    def _waiting(self) -> Json | None:
        if self.is_behind or self.is_running or (self.record.ending is not None and self.run is not None):
            return None
        if self.run is not None and lifecycle.is_finished(self.pod, self.record, self.container):
            return None
        if self.run is not None and self.container.role == "init" and self.run.succeeded:
            return None
        if self.record.parked and self.run is None:
            return {"reason": PARKED, "message": self.record.parked}
        if self.mine.trouble:
            return {"reason": self.mine.trouble.reason, "message": self.mine.trouble.message}
        if self.run is None:
            late = self.container.role != "app" or not lifecycle.is_initialised(self.pod, self.record)
            return {"reason": "PodInitializing" if self.pod.inits and late else "ContainerCreating"}
        if self.mine.may_start_at() <= self.now:
            return None
        whose = f"{self.container.name} pod={self.pod.name}_{self.pod.namespace}({self.pod.uid})"
        text = f"back-off {self.mine.backoff_s:.0f}s restarting failed container={whose}"
        return {"reason": "CrashLoopBackOff", "message": text}

    def render(self) -> Json:
        image, used = str(self.container.raw.get("image") or ""), self.mine.image
        entry: Json = {
            "name": self.container.name,
            "image": used.name if used else image,
            "imageID": used.ref if used else image if is_local(image) else "",
            "ready": self.ready,
            "started": self.started,
            "restartCount": self.run.attempt if self.run else 0,
            "state": {},
            "lastState": {},
        }
        if self.run:
            entry["containerID"] = container_id(self.pod.uid, self.container.name, self.run.attempt)
        waiting = self._waiting()
        if waiting is not None:
            entry["state"] = {"waiting": waiting}
            if self.run:
                entry["lastState"] = self._terminated(self.run)
        elif self.run is not None:
            running = {"running": {"startedAt": _time(self.run.started_ns / 1e9)}}
            entry["state"] = running if self.run.is_running else self._terminated(self.run)
            if self.previous:
                entry["lastState"] = self._terminated(self.previous)
        return entry

    def _terminated(self, run: Run) -> Json:
        reason = run.reason or ("OOMKilled" if run.oom else "Completed" if run.exit_code == 0 else "Error")
        state: Json = {
            "exitCode": run.exit_code,
            "reason": reason,
            "startedAt": _time(run.started_ns / 1e9),
            "finishedAt": _time(run.finished_ns / 1e9),
            "containerID": container_id(self.pod.uid, self.container.name, run.attempt),
        }
        if run.signal:
            state["signal"] = run.signal
        if run.message:
            state["message"] = run.message
        return {"terminated": state}


def container_id(uid: str, container: str, attempt: int) -> str:
    """Return what names one attempt of one container for ever."""
    return f"headrace://{uid}/{container}/{attempt}"


def _phase(pod: PodSpec, views: Mapping[str, _View], *, has_ended: bool) -> str:
    """Kubelet's getPhase. A terminal phase is told only when nothing of the pod, sidecars included, runs any more."""
    apps = [views[c.name] for c in pod.apps]
    if has_ended:
        done = bool(apps) and all(v.run is not None and v.run.succeeded for v in apps)
        return "Succeeded" if done else "Failed"
    return "Pending" if any(v.run is None for v in apps) else "Running"


def _conditions(
    pod: PodSpec, record: PodRecord, facts: Facts, views: Mapping[str, _View], phase: str, now: float
) -> list[Json]:
    lives = record.prepared and not (record.ending is not None and not record.any_running)
    unready = [c.name for c in pod.containers if c.role != "init" and not views[c.name].ready]
    incomplete = [c.name for c in pod.inits if not (views[c.name].ready if c.role == "init" else views[c.name].started)]
    initialised = lifecycle.is_initialised(pod, record)
    ready = _Told("Ready", False, PARKED, record.parked) if record.parked else _readiness(phase, unready)
    told = [
        _Told("PodReadyToStartContainers", lives, "NotPrepared" if record.obstacle else "", record.obstacle),
        _Told("Initialized", initialised)
        if initialised
        else _Told(
            "Initialized", False, "ContainersNotInitialized", f"containers with incomplete status: {_list(incomplete)}"
        ),
        _gated(pod, ready),
        _Told("ContainersReady", ready.value, ready.reason, ready.message),
        _Told("PodScheduled", True),
    ]
    if facts.unsupported:
        told.append(_Told("Unsupported", True, "UnsupportedFields", facts.unsupported))
    if facts.relocated:
        message = f"Volumes are elsewhere: {facts.relocated}. Use $HEADRACE_MOUNT_<NAME>; arguments are rewritten."
        told.append(_Told("PathsRelocated", True, "NoUserNamespaces", message))
    conditions: list[Json] = pod.status.get("conditions") or []
    at = dt.datetime.fromtimestamp(now, dt.UTC)
    for one in told:
        conditions = set_condition(conditions, one.type, "True" if one.value else "False", one.reason, one.message, at)
    return conditions


def _readiness(phase: str, unready: list[str]) -> _Told:
    if phase == "Succeeded":
        return _Told("Ready", False, "PodCompleted")
    if phase == "Failed":
        return _Told("Ready", False, "PodFailed")
    if unready:
        return _Told("Ready", False, "ContainersNotReady", f"containers with unready status: {_list(unready)}")
    return _Told("Ready", True)


def _gated(pod: PodSpec, ready: _Told) -> _Told:
    """Ready also waits for the conditions that `spec.readinessGates` names, which others write."""
    if not ready.value:
        return ready
    known = {str(c.get("type")): c.get("status") for c in pod.status.get("conditions") or []}
    gates = [str(gate.get("conditionType")) for gate in pod.spec.get("readinessGates") or []]
    closed = [gate for gate in gates if known.get(gate) != "True"]
    if closed:
        return _Told(
            "Ready",
            False,
            "ReadinessGatesNotReady",
            f"corresponding condition of pod readiness gate {_list(closed)} is not True",
        )
    return ready


def _list(names: list[str]) -> str:
    return f"[{' '.join(names)}]"


def _time(seconds: float) -> str:
    return format_time(dt.datetime.fromtimestamp(seconds, dt.UTC))
