"""The pod scheduler: one cycle over all waiting pods, run again whenever something changes that could help one.

The most important pods come first, then the oldest. A pod that no node will have is told why in its condition and, when
that changes, in an event. What has been bound in this process is counted at once, before the cache has heard of it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Any

import anyio
import anyio.lowlevel

from headrace.clock import Clock
from headrace.cluster.cache import Cache
from headrace.cluster.controller import Controller, Result, Retry
from headrace.engine.builtin.actions import NOTHING, Action, Bind, Patch, Performer, Plan, Tell
from headrace.engine.builtin.placement import NodeState, Unplaced, place
from headrace.engine.builtin.pod_volumes import PodVolumes, Storage, choose, pod_volumes
from headrace.engine.builtin.protection import PODS_BY_CLAIM, index_pods_by_claim
from headrace.engine.builtin.sweeping import PODS_BY_NODE, index_pods_by_node
from headrace.errors import HeadraceError
from headrace.spec.conditions import find_condition, set_condition
from headrace.spec.core.node import Node
from headrace.spec.core.pod import Pod
from headrace.spec.kind import Doc, Ref
from headrace.spec.kinds import NODE, PERSISTENT_VOLUME, PERSISTENT_VOLUME_CLAIM, POD, STORAGE_CLASS
from headrace.spec.names import DEFAULT_SCHEDULER
from headrace.spec.resources import Amounts, pod_requests
from headrace.telemetry import logger

POD_FAILED = "scheduler.pod_failed"

_WAITING = "engine.waiting"
_CYCLE = Ref("", "cycle")
_RETRY_S = 1.0
_WRITES_AT_ONCE = 32
_ENDED = ("Succeeded", "Failed")

_log = logger(component="engine.scheduler")


def plan_waiting(pod: Doc[Pod], why: str, reason: str, now: dt.datetime) -> Plan:
    """Tell a pod why it waits, once for each reason there is."""
    known = find_condition(pod, "PodScheduled")
    if known is not None and (known.get("status"), known.get("reason"), known.get("message")) == ("False", reason, why):
        return NOTHING
    conditions = set_condition(pod.status.get("conditions"), "PodScheduled", "False", reason, why, now)
    actions: list[Action] = [Patch(POD, pod.ref, {"status": {"conditions": conditions}}, "status")]
    if reason == "Unschedulable":
        actions.append(Tell(pod, "Warning", "FailedScheduling", why))
    return Plan(tuple(actions))


def plan_placed(pod: Doc[Pod], node: Doc[Node], volumes: PodVolumes) -> Plan:
    """Bind a pod to its node, or first get its late-binding claims their volumes; their binding begins a new cycle."""
    if volumes.delayed:
        return Plan(tuple(choose(volumes, node)))
    message = f"Successfully assigned {pod.ref} to {node.name}"
    return Plan((Bind(pod.ref, node.name), Tell(pod, "Normal", "Scheduled", message)))


class PodScheduler:
    """Places pods whose `schedulerName` is the default one."""

    def __init__(self, cache: Cache, performer: Performer, clock: Clock) -> None:
        self._performer = performer
        self._clock = clock
        self._bound: dict[str, tuple[Doc[Pod], str]] = {}
        self._requests: dict[str, Amounts] = {}
        cache.subscribe(POD, self._forget)
        index_pods_by_node(cache)
        index_pods_by_claim(cache)
        cache.add_index(POD, _WAITING, lambda pod: ["yes"] if _is_waiting(pod) else [])
        self._pods = cache.reader(POD)
        self._nodes = cache.reader(NODE)
        claims = cache.reader(PERSISTENT_VOLUME_CLAIM)
        volumes = cache.reader(PERSISTENT_VOLUME)
        classes = cache.reader(STORAGE_CLASS)
        self._storage = Storage(
            claim=claims.get,
            volume=volumes.get,
            storage_class=classes.get,
            users=lambda ref: self._pods.by_index(PODS_BY_CLAIM, str(ref)),
            volumes=volumes.list,
        )
        self.controller = Controller("scheduler", cache, self._cycle, workers=1, timeout_s=600)
        self.controller.watches(POD, _cycle_of, when=_could_matter)
        self.controller.watches(NODE, _cycle_of, when=_offers_something_else)
        for kind in (PERSISTENT_VOLUME_CLAIM, PERSISTENT_VOLUME, STORAGE_CLASS):
            self.controller.watches(kind, _cycle_of)

    async def _cycle(self, _: Ref) -> Result:
        waiting = [pod for pod in self._pods.by_index(_WAITING, "yes") if pod.uid not in self._bound]
        if not waiting:
            return Result()
        nodes = self._node_states()
        failed: list[Ref] = []
        at_once = anyio.CapacityLimiter(_WRITES_AT_ONCE)
        async with anyio.create_task_group() as tasks:
            for pod in sorted(waiting, key=_order):
                await anyio.lowlevel.checkpoint()  # many pods must not hold up everybody else
                tasks.start_soon(self._perform, pod, self._decide(pod, nodes), failed, at_once)
        if failed:
            raise Retry(_RETRY_S, f"{len(failed)} pods could not be told or bound.")
        return Result()

    def _decide(self, pod: Doc[Pod], nodes: list[NodeState]) -> Plan:
        """Decide about one pod. Pods that come later in the cycle see its room as taken."""
        if pod.spec.get("schedulingGates"):
            why = "Scheduling is blocked due to non-empty scheduling gates"
            return plan_waiting(pod, why, "SchedulingGated", self._clock.now())
        volumes = pod_volumes(pod, self._storage)
        requests = self._requests_of(pod)
        found = place(pod, requests, nodes, volumes)
        if isinstance(found, Unplaced):
            return plan_waiting(pod, found.message, "Unschedulable", self._clock.now())
        found.add(pod, requests)
        if not volumes.delayed:
            self._bound[pod.uid] = (pod, found.node.name)
        return plan_placed(pod, found.node, volumes)

    async def _perform(self, pod: Doc[Pod], plan: Plan, failed: list[Ref], at_once: anyio.CapacityLimiter) -> None:
        try:
            async with at_once:
                await self._performer.perform(plan)
        except HeadraceError as error:
            self._bound.pop(pod.uid, None)
            failed.append(pod.ref)
            _log.info(POD_FAILED, pod=str(pod.ref), code=error.code, error=str(error))

    def _node_states(self) -> list[NodeState]:
        bound: dict[str, list[Doc[Pod]]] = {}
        for uid, (pod, name) in list(self._bound.items()):
            known = self._pods.get(pod.ref)
            if known is None or known.uid != uid or known.spec.get("nodeName"):
                del self._bound[uid]  # the cache has heard of it, or it is gone
            else:
                bound.setdefault(name, []).append(pod)
        states = []
        for node in sorted(self._nodes.list(), key=lambda node: node.name):
            if not node.is_deleting:
                pods = [pod for pod in self._pods.by_index(PODS_BY_NODE, node.name) if not _has_ended(pod)]
                taken = [(pod, self._requests_of(pod)) for pod in (*pods, *bound.get(node.name, ()))]
                states.append(NodeState(node, taken))
        return states

    def _requests_of(self, pod: Doc[Pod]) -> Amounts:
        """What a pod requests: summed once, as it cannot change."""
        known = self._requests.get(pod.uid)
        if known is None:
            known = self._requests[pod.uid] = pod_requests(pod.raw)
        return known

    def _forget(self, old: Doc[Pod] | None, new: Doc[Pod] | None) -> None:
        if old is not None and (new is None or new.uid != old.uid):
            self._requests.pop(old.uid, None)


def _is_waiting(pod: Doc[Pod]) -> bool:
    if pod.spec.get("nodeName") or pod.is_deleting or _has_ended(pod):
        return False
    return bool(pod.spec.get("schedulerName", DEFAULT_SCHEDULER) == DEFAULT_SCHEDULER)


def _has_ended(pod: Doc[Pod]) -> bool:
    return pod.status.get("phase") in _ENDED


def _order(pod: Doc[Pod]) -> tuple[int, str, Ref]:
    return (-int(pod.spec.get("priority") or 0), pod.meta.get("creationTimestamp", ""), pod.ref)


def _cycle_of(_: Doc[Any]) -> Iterable[Ref]:
    return (_CYCLE,)


def _could_matter(old: Doc[Pod] | None, new: Doc[Pod] | None) -> bool:
    """A pod that waits and is not merely told why, and one that has given up its room."""
    if new is None:
        return old is not None and bool(old.spec.get("nodeName"))
    if _is_waiting(new):
        return old is None or old.spec != new.spec or old.labels != new.labels
    return _has_ended(new) and old is not None and not _has_ended(old)


def _offers_something_else(old: Doc[Node] | None, new: Doc[Node] | None) -> bool:
    if old is None or new is None:
        return True
    if old.spec != new.spec or old.labels != new.labels:
        return True
    return any(old.status.get(key) != new.status.get(key) for key in ("allocatable", "capacity"))
