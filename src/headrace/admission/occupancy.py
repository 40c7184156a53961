"""What nodes are used for, pods included that a scheduler has not bound yet: a burst of pods is admitted faster."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from headrace.admission.destination import takes_now
from headrace.cluster.cache import Cache
from headrace.pools.capacity import need
from headrace.pools.occupancy import BoundPods
from headrace.spec import amounts
from headrace.spec.amounts import Amounts
from headrace.spec.kind import Doc
from headrace.spec.kinds import POD

_NEW = "admission/new"


class Occupancy:
    """Registers its index in the cache when made; make one a cache."""

    def __init__(self, cache: Cache) -> None:
        cache.add_index(POD, _NEW, lambda pod: [_NEW] if is_new(pod) else [])
        self._pods = cache.reader(POD)
        self._bound = BoundPods(cache)

    def used(self, nodes: Sequence[Doc[Any]]) -> Mapping[str, Amounts]:
        """Return what is taken of nodes, by node and Kubernetes' names."""
        bound = {node.name: self._bound.used.get(node.name, {}) for node in nodes}
        return with_new(bound, nodes, self._pods.by_index(_NEW, _NEW))


def is_new(pod: Doc[Any]) -> bool:
    """Tell whether a scheduler has yet to say something of a pod. One that it found no node for takes no room."""
    if pod.spec.get("nodeName") or pod.spec.get("schedulingGates") or pod.is_deleting:
        return False
    said = any(each.get("type") == "PodScheduled" for each in pod.status.get("conditions") or ())
    return not said and pod.status.get("phase") in {None, "", "Pending"}


def with_new(bound: Mapping[str, Amounts], nodes: Sequence[Doc[Any]], new: Iterable[Doc[Any]]) -> dict[str, Amounts]:
    """Return what is taken once each new pod is on the first node that has room for it; who finds none takes none. Pure."""
    used = dict(bound)
    for pod in sorted(new, key=lambda each: (each.namespace, each.name)):
        needs = need(pod.raw)
        for node in nodes:
            total = amounts.parse(node.status.get("allocatable") or {})
            if amounts.fits(needs, amounts.subtract(total, used.get(node.name, {}))) and takes_now(pod.view.spec, node):
                used[node.name] = amounts.add(used.get(node.name, {}), needs)
                break
    return used
