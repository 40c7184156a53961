"""What would otherwise stay for ever: pods of nodes that are no more, and events of long ago.

Source: Kubernetes `pkg/controller/podgc` (orphaned pods, with its quarantine); events live an hour there too
(`--event-ttl`).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Any

from headrace.clock import Clock, parse_time
from headrace.cluster.cache import Cache
from headrace.cluster.controller import Controller, Result
from headrace.engine.builtin.actions import NOTHING, Delete, Patch, Performer, Plan
from headrace.spec.conditions import set_condition
from headrace.spec.core.node import Node
from headrace.spec.core.pod import Pod
from headrace.spec.kind import Doc, Ref
from headrace.spec.kinds import EVENT, NODE, POD

QUARANTINE_S = 40.0
"""A node that is not there may be about to register: a new engine's agents come up beside it."""
EVENT_LIFE_S = 3600.0
PODS_BY_NODE = "engine.node"
"""Index of pods by the node they are bound to."""


def plan_orphan(pod: Doc[Pod], *, has_node: bool, missing_s: float, now: dt.datetime) -> Plan:
    """End and remove a pod whose node has been missing for `missing_s`."""
    if has_node or not pod.spec.get("nodeName"):
        return NOTHING
    if missing_s < QUARANTINE_S:
        return Plan(again_after_s=QUARANTINE_S - missing_s)
    going = Delete(POD, pod.ref, pod.uid, grace_s=0)
    if pod.status.get("phase") in {"Succeeded", "Failed"}:
        return Plan((going,))
    conditions = set_condition(
        pod.status.get("conditions"),
        "DisruptionTarget",
        "True",
        "DeletionByPodGC",
        "PodGC: node no longer exists",
        now,
    )
    status = {"phase": "Failed", "reason": "NodeLost", "conditions": conditions}
    return Plan((Patch(POD, pod.ref, {"status": status}, "status"), going))


def plan_event(event: Doc[Any], now: dt.datetime) -> Plan:
    """Remove an event an hour after it was last told."""
    left_s = EVENT_LIFE_S - (now - _last_told(event)).total_seconds()
    return Plan(again_after_s=left_s) if left_s > 0 else Plan((Delete(EVENT, event.ref, event.uid),))


def _last_told(event: Doc[Any]) -> dt.datetime:
    for field in ("lastTimestamp", "eventTime"):
        try:
            return parse_time(event.raw.get(field) or "")
        except ValueError:  # not said, or not a time; the server's own stamp always is
            continue
    return parse_time(event.meta["creationTimestamp"])


def index_pods_by_node(cache: Cache) -> None:
    """Index pods by their node. Idempotent."""
    cache.add_index(POD, PODS_BY_NODE, lambda pod: [pod.spec["nodeName"]] if pod.spec.get("nodeName") else [])


class Sweeper:
    """Reconciles bound pods and events."""

    def __init__(self, cache: Cache, performer: Performer, clock: Clock) -> None:
        self._performer = performer
        self._clock = clock
        self._missing_since: dict[str, float] = {}
        index_pods_by_node(cache)
        self._pods = cache.reader(POD)
        self._nodes = cache.reader(NODE)
        self._events = cache.reader(EVENT)
        pods = Controller("pod-gc", cache, self._reconcile_pod, workers=1)
        events = Controller("event-ttl", cache, self._reconcile_event, workers=1)
        self.controllers = [
            pods.watches(POD, when=_is_newly_bound).watches(NODE, self._pods_of, when=_comes_or_goes),
            events.watches(EVENT, when=lambda old, new: old is None and new is not None),
        ]

    async def _reconcile_pod(self, ref: Ref) -> Result:
        pod = self._pods.get(ref)
        if pod is None:
            return Result()
        name = pod.spec.get("nodeName", "")
        has_node = self._nodes.get(Ref("", name)) is not None
        missing_s = self._missing_s(name, has_node)
        observed = plan_orphan(pod, has_node=has_node, missing_s=missing_s, now=self._clock.now())
        return await self._performer.perform(observed)

    async def _reconcile_event(self, ref: Ref) -> Result:
        event = self._events.get(ref)
        return Result() if event is None else await self._performer.perform(plan_event(event, self._clock.now()))

    def _missing_s(self, node: str, has_node: bool) -> float:
        if has_node:
            self._missing_since.pop(node, None)
            return 0.0
        now_s = self._clock.monotonic_s()
        return now_s - self._missing_since.setdefault(node, now_s)

    def _pods_of(self, node: Doc[Node]) -> Iterable[Ref]:
        return (pod.ref for pod in self._pods.by_index(PODS_BY_NODE, node.name))


def _comes_or_goes(old: Doc[Any] | None, new: Doc[Any] | None) -> bool:
    return old is None or new is None


def _is_newly_bound(old: Doc[Pod] | None, new: Doc[Pod] | None) -> bool:
    if new is None or not new.spec.get("nodeName"):
        return False
    return old is None or old.spec.get("nodeName") != new.spec["nodeName"]
