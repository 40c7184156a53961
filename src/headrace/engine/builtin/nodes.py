"""Follows the Leases that node agents renew, and acts on nodes that stop.

How long a node has been silent is measured on this process's own monotonic clock, from when it saw the Lease change:
neither a control process that was down, nor a laptop that slept, makes every node look dead.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from headrace.clock import Clock
from headrace.cluster.cache import Cache
from headrace.cluster.controller import Controller, Result
from headrace.engine.builtin.actions import Performer
from headrace.engine.builtin.nodes_plan import Observed, plan
from headrace.engine.builtin.sweeping import PODS_BY_NODE, index_pods_by_node
from headrace.spec.core.pod import Pod
from headrace.spec.kind import Doc, Ref
from headrace.spec.kinds import LEASE, NODE, POD
from headrace.spec.names import NODE_LEASE_NAMESPACE


class NodeLifecycle:
    """Reconciles nodes."""

    def __init__(self, cache: Cache, performer: Performer, clock: Clock) -> None:
        self._performer = performer
        self._clock = clock
        self._heard: dict[str, tuple[str, float]] = {}
        index_pods_by_node(cache)
        self._nodes = cache.reader(NODE)
        self._pods = cache.reader(POD)
        self._leases = cache.reader(LEASE)
        self.controller = (
            Controller("node-lifecycle", cache, self._reconcile, workers=1)
            .watches(NODE)
            .watches(LEASE, _node_of)
            .watches(POD, _node_of_pod, when=_is_newly_bound)
        )

    async def _reconcile(self, ref: Ref) -> Result:
        node = self._nodes.get(ref)
        if node is None:
            self._heard.pop(ref.name, None)
            return Result()
        observed = Observed(node, self._silent_s(ref.name), self._pods.by_index(PODS_BY_NODE, ref.name))
        return await self._performer.perform(plan(observed, self._clock.now()))

    def _silent_s(self, node: str) -> float:
        lease = self._leases.get(Ref(NODE_LEASE_NAMESPACE, node))
        renewed = str(lease.spec.get("renewTime", "")) if lease is not None else ""
        now_s = self._clock.monotonic_s()
        known = self._heard.get(node)
        if known is None or known[0] != renewed:
            known = self._heard[node] = (renewed, now_s)
        return now_s - known[1]


def _node_of(lease: Doc[Any]) -> Iterable[Ref]:
    return (Ref("", lease.name),) if lease.namespace == NODE_LEASE_NAMESPACE else ()


def _node_of_pod(pod: Doc[Pod]) -> Iterable[Ref]:
    return (Ref("", pod.spec["nodeName"]),) if pod.spec.get("nodeName") else ()


def _is_newly_bound(old: Doc[Pod] | None, new: Doc[Pod] | None) -> bool:
    """A pod that comes to a tainted node, or whose tolerations change, has a deadline of its own."""
    if new is None or not new.spec.get("nodeName"):
        return False
    return old is None or old.spec != new.spec
