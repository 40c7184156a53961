"""Nodes whose agent is silent or says it is not ready: what is said of them, and which of their pods must go. Pure.

A silent node proves nothing about its pods: they may run on. So they are asked to end (deleted), never declared ended;
the agent does that when it is back. Sources: Kubernetes `pkg/controller/nodelifecycle`, `pkg/controller/tainteviction`.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence

import msgspec

from headrace.clock import format_time, parse_time
from headrace.engine.builtin.actions import Action, Delete, Patch, Plan, Tell
from headrace.spec.conditions import find_condition, is_true, set_condition
from headrace.spec.core.node import Node
from headrace.spec.core.pod import Pod
from headrace.spec.core.scheduling import Taint
from headrace.spec.kind import Doc, Json
from headrace.spec.kinds import NODE, POD
from headrace.spec.names import TAINT_NOT_READY, TAINT_UNREACHABLE
from headrace.spec.selectors import tolerates

GRACE_S = 40.0
"""A node is unreachable when its Lease was not renewed for so long (`--node-monitor-grace-period`)."""

_CONDITIONS = ("MemoryPressure", "DiskPressure", "PIDPressure", "Ready")
_OWN_TAINTS = (TAINT_NOT_READY, TAINT_UNREACHABLE)
_FOR_EVER = float("inf")


class Observed(msgspec.Struct, frozen=True):
    """One node, for how long its Lease has not changed, and the pods bound to it."""

    node: Doc[Node]
    silent_s: float
    pods: Sequence[Doc[Pod]]


def plan(observed: Observed, now: dt.datetime) -> Plan:
    """Decide about one node and its pods."""
    node, is_silent = observed.node, observed.silent_s >= GRACE_S
    ready = find_condition(node, "Ready")
    state = "Unknown" if is_silent else ready["status"] if ready else "True"
    taints = _taints(node, state, now)
    actions: list[Action] = []
    if taints != (node.spec.get("taints") or []):  # compared with the version, so before anything else is written
        body = {"metadata": {"resourceVersion": node.version}, "spec": {"taints": taints}}
        actions.append(Patch(NODE, node.ref, body))
    if is_silent and (ready is None or ready["status"] != "Unknown"):
        actions += _lost(node, now)
    again = [] if is_silent else [GRACE_S - observed.silent_s]
    for pod in observed.pods:
        wait_s = _evicted_after_s(pod, taints, now)
        if wait_s <= 0:
            actions += _evict(pod, now)
            continue
        if state != "True":
            actions += _not_ready(pod, now)
        if wait_s != _FOR_EVER:
            again.append(wait_s)
    return Plan(tuple(actions), min(again, default=None))


def _lost(node: Doc[Node], now: dt.datetime) -> Iterable[Action]:
    conditions = node.status.get("conditions")
    for condition in _CONDITIONS:
        message = "Kubelet stopped posting node status."
        conditions = set_condition(conditions, condition, "Unknown", "NodeStatusUnknown", message, now)
    yield Patch(NODE, node.ref, {"status": {"conditions": conditions}}, "status")
    yield Tell(node, "Normal", "NodeNotReady", f"Node {node.name} status is now: NodeNotReady")


def _taints(node: Doc[Node], state: str, now: dt.datetime) -> list[Json]:
    """The node's taints with ours as its state wants them; those that are right already stay as they are."""
    key = {"True": "", "False": TAINT_NOT_READY}.get(state, TAINT_UNREACHABLE)
    before: list[Json] = node.spec.get("taints") or []
    kept = [taint for taint in before if taint.get("key") not in _OWN_TAINTS or taint["key"] == key]
    if not key:
        return kept
    for effect in ("NoSchedule", "NoExecute"):
        if not any(taint.get("key") == key and taint.get("effect") == effect for taint in kept):
            kept.append({"key": key, "effect": effect, "timeAdded": format_time(now)})
    return kept


def _not_ready(pod: Doc[Pod], now: dt.datetime) -> Iterable[Action]:
    if not is_true(pod, "Ready"):
        return
    conditions = set_condition(pod.status.get("conditions"), "Ready", "False", "NodeNotReady", "", now)
    yield Patch(POD, pod.ref, {"status": {"conditions": conditions}}, "status")


def _evicted_after_s(pod: Doc[Pod], taints: Sequence[Json], now: dt.datetime) -> float:
    """In how many seconds the node's NoExecute taints end a pod: 0 for now, infinity for never."""
    if pod.is_deleting or pod.status.get("phase") in {"Succeeded", "Failed"}:
        return _FOR_EVER
    wait_s = _FOR_EVER
    for raw in taints:
        if raw.get("effect") != "NoExecute":
            continue
        taint = Taint(key=raw["key"], effect="NoExecute", value=raw.get("value", ""))
        matching = [toleration for toleration in pod.view.spec.tolerations if tolerates(toleration, taint)]
        if not matching:
            return 0.0
        seconds = [each.toleration_seconds for each in matching if each.toleration_seconds is not None]
        if seconds:
            since = parse_time(raw["timeAdded"]) if raw.get("timeAdded") else now
            passed_s = (now - since).total_seconds()
            wait_s = min(wait_s, max(0.0, max(0, min(seconds)) - passed_s))
    return wait_s


def _evict(pod: Doc[Pod], now: dt.datetime) -> Iterable[Action]:
    message = "Taint manager: deleting due to NoExecute taint"
    conditions = pod.status.get("conditions")
    if is_true(pod, "Ready"):
        conditions = set_condition(conditions, "Ready", "False", "NodeNotReady", "", now)
    conditions = set_condition(conditions, "DisruptionTarget", "True", "DeletionByTaintManager", message, now)
    yield Tell(pod, "Normal", "TaintManagerEviction", f"Marking for deletion Pod {pod.ref}")
    yield Patch(POD, pod.ref, {"status": {"conditions": conditions}}, "status")
    yield Delete(POD, pod.ref, pod.uid)
