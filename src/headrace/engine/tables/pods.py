"""The row of a pod, with kubectl's own computation of its status (`printPod` in Kubernetes v1.36)."""

from __future__ import annotations

import datetime as dt
from typing import NamedTuple

from headrace.engine.tables.columns import AGE, NAME, Cell, Layout, created, items, layout, object_name, part, text
from headrace.engine.tables.elapsed import age
from headrace.spec.kind import Json


class PodState(NamedTuple):
    """What the columns READY, STATUS and RESTARTS are made of; `last_restart` is RFC 3339, empty for never."""

    ready: int
    total: int
    status: str
    restarts: int
    last_restart: str


class _Initialisation(NamedTuple):
    """How far init containers are. `reason` is empty when they are done; sidecars count as containers too."""

    reason: str
    ready_sidecars: int
    restarts: int
    last_restart: str
    sidecar_restarts: int
    last_sidecar_restart: str


def pod_state(pod: Json) -> PodState:
    """Return a pod's state as kubectl shows it, such as `Init:0/1`, `CrashLoopBackOff`, `Terminating`, `Completed`."""
    phase = text(pod, "status", "phase")
    reason = text(pod, "status", "reason", otherwise=phase)
    conditions = items(pod, "status", "conditions")
    if any(c.get("type") == "PodScheduled" and c.get("reason") == "SchedulingGated" for c in conditions):
        reason = "SchedulingGated"
    sidecars = {c.get("name") for c in items(pod, "spec", "initContainers") if c.get("restartPolicy") == "Always"}
    started = _initialisation(pod, sidecars)
    ready = started.ready_sidecars
    restarts, last_restart = started.restarts, started.last_restart
    reason = started.reason or reason
    if not started.reason or _is_true(conditions, "Initialized"):
        ready_apps, reason, app_restarts, last_app_restart = _containers(pod, reason, conditions)
        ready += ready_apps
        restarts = started.sidecar_restarts + app_restarts
        last_restart = max(started.last_sidecar_restart, last_app_restart)
    if part(pod, "metadata", "deletionTimestamp"):
        if text(pod, "status", "reason") == "NodeLost":
            reason = "Unknown"
        elif phase not in {"Succeeded", "Failed"}:
            reason = "Terminating"
    total = len(items(pod, "spec", "containers")) + len(sidecars)
    return PodState(ready, total, reason, restarts, last_restart)


def _initialisation(pod: Json, sidecars: set[str | None]) -> _Initialisation:
    reason = last = last_sidecar = ""
    ready = restarts = sidecar_restarts = 0
    count = len(items(pod, "spec", "initContainers"))
    for position, status in enumerate(items(pod, "status", "initContainerStatuses")):
        is_sidecar = status.get("name") in sidecars
        restarts += status.get("restartCount") or 0
        last = max(last, _last_end(status))
        if is_sidecar:
            sidecar_restarts += status.get("restartCount") or 0
            last_sidecar = max(last_sidecar, _last_end(status))
        ended, waiting = part(status, "state", "terminated"), part(status, "state", "waiting") or {}
        if ended is not None and ended.get("exitCode") == 0:
            continue
        if is_sidecar and status.get("started"):
            ready += bool(status.get("ready"))
            continue
        if ended is not None:
            reason = f"Init:{_how_it_ended(ended)}"
        elif waiting.get("reason") and waiting["reason"] != "PodInitializing":
            reason = f"Init:{waiting['reason']}"
        else:
            reason = f"Init:{position}/{count}"
        break
    return _Initialisation(reason, ready, restarts, last, sidecar_restarts, last_sidecar)


def _containers(pod: Json, reason: str, conditions: list[Json]) -> tuple[int, str, int, str]:
    """Return `(ready, status, restarts, last restart)` of the pod's own containers."""
    ready = restarts = 0
    last = error = ""
    has_running = False
    for status in reversed(items(pod, "status", "containerStatuses")):
        restarts += status.get("restartCount") or 0
        last = max(last, _last_end(status))
        ended = part(status, "state", "terminated")
        waiting_for = text(status, "state", "waiting", "reason")
        if waiting_for:
            reason = waiting_for
        elif ended is not None:
            reason = _how_it_ended(ended)
            if ended.get("exitCode"):
                error = reason
        elif status.get("ready") and part(status, "state", "running") is not None:
            has_running = True
            ready += 1
    if reason == "Completed":
        if has_running and _is_true(conditions, "Ready"):
            reason = "Running"
        elif error:
            reason = error
        elif has_running:
            reason = "NotReady"
    return ready, reason, restarts, last


def _how_it_ended(ended: Json) -> str:
    if ended.get("reason"):
        return str(ended["reason"])
    return f"Signal:{ended['signal']}" if ended.get("signal") else f"ExitCode:{ended.get('exitCode', 0)}"


def _last_end(status: Json) -> str:
    return text(status, "lastState", "terminated", "finishedAt")


def _is_true(conditions: list[Json], type_name: str) -> bool:
    return any(c.get("type") == type_name and c.get("status") == "True" for c in conditions)


def _row(pod: Json, now: dt.datetime) -> list[Cell]:
    state = pod_state(pod)
    ago = f" ({age(state.last_restart, now)} ago)" if state.restarts and state.last_restart else ""
    addresses = items(pod, "status", "podIPs")
    return [
        object_name(pod),
        f"{state.ready}/{state.total}",
        state.status,
        f"{state.restarts}{ago}",
        age(created(pod), now),
        text(addresses[0], "ip", otherwise="<none>") if addresses else "<none>",
        text(pod, "spec", "nodeName", otherwise="<none>"),
        text(pod, "status", "nominatedNodeName", otherwise="<none>"),
        _readiness_gates(pod),
    ]


def _readiness_gates(pod: Json) -> str:
    gates = items(pod, "spec", "readinessGates")
    conditions = items(pod, "status", "conditions")
    passed = sum(_is_true(conditions, gate.get("conditionType", "")) for gate in gates)
    return f"{passed}/{len(gates)}" if gates else "<none>"


PODS: Layout = layout(
    _row, NAME, "Ready", "Status", "Restarts", AGE, "+IP", "+Node", "+Nominated Node", "+Readiness Gates"
)
"""How pods are printed."""
